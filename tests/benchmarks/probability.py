"""Peak memory of what judges probabilities, as a multiple of the scores: 4,000 people × 20,000 items, float32, 305 MiB. Each function runs in a process of its own, and Linux says what it held at most."""
import re
import subprocess
import sys
import time
from pathlib import Path

N_USERS, N_ITEMS, BOUND = 4_000, 20_000, {"softmax": 1.5, "nll": .5, "nll_gradient": 1.5, "fit_temperature": .5, "reliability": 1.5}


def resident(field):
    """Bytes that this process holds (VmRSS), or held at most (VmHWM)."""
    return 1024 * int(re.search(rf"{field}:\s+(\d+) kB", Path("/proc/self/status").read_text())[1])


def measure(name):
    """Seconds, and what a call adds at most to what was held before, as a multiple of the scores."""
    import numpy as np
    from scipy.sparse import csr_matrix

    import llmrec.ranking.probability as module

    rng = np.random.default_rng(0)
    S = rng.random((N_USERS, N_ITEMS), "float32")
    labels = csr_matrix((np.ones(10 * N_USERS), rng.integers(N_ITEMS, size=10 * N_USERS), np.arange(0, 10 * N_USERS + 1, 10)), shape=S.shape)
    call = getattr(module, name)
    call(S[:2], *[labels[:2]] * (name != "softmax"))  # loads what there is to load
    Path("/proc/self/clear_refs").write_text("5")  # forget the most it has held so far
    before, started = resident("VmRSS"), time.perf_counter()
    call(S, *[labels] * (name != "softmax"))
    return time.perf_counter() - started, (resident("VmHWM") - before) / S.nbytes


def main():
    from tests.benchmarks import describe_machine

    print(describe_machine())
    print(f"{'':<17}{'seconds':>9}{'peak / S':>10}{'bound':>8}")
    over = []
    for name, bound in BOUND.items():
        done = subprocess.run([sys.executable, "-m", "tests.benchmarks.probability", name], capture_output=True, text=True, check=True)
        seconds, peak = map(float, done.stdout.split())
        over += [name] if peak > bound else []
        print(f"{name:<17}{seconds:9.1f}{peak:10.2f}{bound:8.1f}", flush=True)
    return f"more memory than allowed: {', '.join(over)}" if over else 0


if __name__ == "__main__":
    if len(sys.argv) == 2:
        print(*measure(sys.argv[1]))
    else:
        sys.exit(main())
