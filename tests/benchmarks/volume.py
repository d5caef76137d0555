"""Peak memory and time of `list_volume` for 20,000 lists of 20, in blocks and, as it was, for all lists at once; each in a child process of its own."""
import resource
import subprocess
import sys
import time

import numpy as np

from tests.benchmarks import describe_machine

N_LISTS, K, N_ITEMS, D = 20_000, 20, 10_000, 384
BOUND_MIB = 200


def at_once(topk, V):
    """The volumes with the vectors of all lists in one array."""
    from llmrec.language.similarity import unit_rows

    unit = unit_rows(V)[topk].astype("float64")
    return np.maximum(np.linalg.det(unit @ unit.transpose(0, 2, 1)), 0) ** (1 / (2 * K))


def child(way):
    """Print seconds, the MiB that one call adds to the peak, and the mean volume."""
    from llmrec.lists.rerankers import list_volume

    rng = np.random.default_rng(0)
    V, topk = rng.normal(size=(N_ITEMS, D)).astype("float32"), (rng.integers(0, N_ITEMS, (N_LISTS, 1)) + np.arange(K)) % N_ITEMS
    list_volume(topk[:10], V)  # imports and buffers
    before, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
    volumes = (list_volume if way == "blocks" else at_once)(topk, V)
    took, grown = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    print(f"{took:6.2f} s {grown / 1024:8.0f} MiB   mean volume {volumes.mean():.6f}")


def main():
    print(describe_machine())
    print(f"{N_LISTS:,} lists of {K}, vectors of {D} (bound for blocks: {BOUND_MIB} MiB)")
    for way in ("at once", "blocks"):
        done = subprocess.run([sys.executable, "-m", "tests.benchmarks.volume", way], capture_output=True, text=True, check=True)
        print(f"  {way:<8}{done.stdout}", end="")


if __name__ == "__main__":
    child(sys.argv[1]) if len(sys.argv) > 1 else main()
