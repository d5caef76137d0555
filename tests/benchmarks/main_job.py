"""The main job as a person runs it: a process of its own with an empty cache, again with a full one, and the bare import."""
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.benchmarks import describe_machine

LLMREC = Path(sys.executable).with_name("llmrec")


def measure(*command):
    """Seconds on the clock, seconds of processor time and MiB of peak memory of one process; raises `SystemExit` if it fails."""
    started = time.perf_counter()
    process = subprocess.Popen(list(map(str, command)), stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{command} ended with status {os.waitstatus_to_exitcode(status)}")
    return time.perf_counter() - started, used.ru_utime + used.ru_stime, used.ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def main():
    print(describe_machine() + f"\n  {'':<34}{'clock s':>9}{'processor s':>13}{'peak MiB':>10}{'bound s':>9}")

    def show(name, bound, runs):
        clock, processor, peak = min(runs)
        print(f"  {name:<34}{clock:>9.2f}{processor:>13.2f}{peak:>10.0f}{bound:>9}", flush=True)
        return clock

    with tempfile.TemporaryDirectory() as folder:
        job = [LLMREC, "recommend", "--output", f"{folder}/lists.parquet", "--plot", f"{folder}/figure.png", "--set", f"encoder.cache_dir={folder}/cache"]
        empty = show("llmrec recommend, cache empty", 60, [measure(*job)])
        full = show("llmrec recommend, cache full", 20, [measure(*job) for _ in range(3)])
    imports = show("import llmrec.work.pipeline", "", [measure(sys.executable, "-c", "import llmrec.work.pipeline") for _ in range(3)])
    show("import llmrec", .3, [measure(sys.executable, "-c", "import llmrec") for _ in range(5)])
    show("python alone", "", [measure(sys.executable, "-c", "pass") for _ in range(5)])
    print(f"  a full cache saves {empty / full:.1f} times; imports are {imports / full:.0%} of that run (best of several runs)")


if __name__ == "__main__":
    main()
