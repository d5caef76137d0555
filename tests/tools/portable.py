"""The regression net under other arithmetic: `make portable`, or `python -m tests.tools.portable 06_ranking/01_probability 07_lists/04_frontier`."""
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

from numpy._core._multiarray_umath import __cpu_dispatch__, __cpu_features__

from tests.tools.notebooks import ROOT

WIDE = [name for name in __cpu_dispatch__ if __cpu_features__[name]]  # what NumPy uses here beyond its baseline
PASSES = {
    "narrow": {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41", "MKL_ENABLE_INSTRUCTIONS": "SSE4_2",
               "NPY_DISABLE_CPU_FEATURES": " ".join(WIDE), "NUMBA_CPU_NAME": "generic", "OMP_NUM_THREADS": "1"},
    "avx2": {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_ENABLE_INSTRUCTIONS": "AVX2",
             "NPY_DISABLE_CPU_FEATURES": " ".join(name for name in WIDE if name != "X86_V3"), "OMP_NUM_THREADS": "2"},
}


def processor():
    """The processor's name, where the system tells it."""
    info = Path("/proc/cpuinfo")
    names = [line for line in info.read_text().splitlines() if line.startswith("model name")] if info.exists() else []
    return names[0].partition(":")[2].strip() if names else platform.processor() or platform.machine()


def main(names):
    """Run each notebook, or those that `names` name, once under each of `PASSES`, each with an empty cache of vectors."""
    failed = []
    for name, settings in PASSES.items():
        print(f"\n{name}, on {processor()}:", *(f"{key}={value!r}" for key, value in settings.items() if value), flush=True)
        with tempfile.TemporaryDirectory() as cache:
            env = os.environ | {key: value for key, value in settings.items() if value}
            env |= {"HF_HUB_OFFLINE": "1", "XDG_CACHE_HOME": cache, "LONGEST": "1800"}
            chosen = " or ".join(names) or "committed"
            tests = [sys.executable, "-m", "pytest", "-n", "2", "--dist", "loadgroup", "--durations", "5", "tests/test_notebooks.py", "-k", chosen]
            if subprocess.run(tests, cwd=ROOT, env=env).returncode:
                failed.append(name)
    sys.exit(f"not the same under: {', '.join(failed)}" if failed else 0)


if __name__ == "__main__":
    main(sys.argv[1:])
