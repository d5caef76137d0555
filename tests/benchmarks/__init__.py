"""Speed and memory against named peers: `make bench` runs all, `python -m tests.benchmarks.retrieval` one."""
import platform
import re
from pathlib import Path


def describe_machine():
    """The processor and the wide arithmetic it has, in one line; imports nothing, for a child's peak memory starts at its parent's."""
    about = Path("/proc/cpuinfo")
    about = about.read_text() if about.exists() else ""
    name = re.search(r"model name\s*: (.+)", about)
    wide = sorted(set(re.findall(r"\b(?:avx2|avx512f|avx512_\w+|amx_\w+)\b", about)))
    return f"{name[1] if name else platform.processor()}; {', '.join(wide) or 'flags unknown'}"
