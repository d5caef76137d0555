"""Exact top-20: `nearest` against faiss Flat in turn, and what `nearest` adds to memory for each size of block.

Both get raw vectors and count all the work of one call: scaling U and V, filling the index, searching. The third line is the
search of faiss alone, as where the same index serves many calls."""
import time
import tracemalloc

import faiss
import numpy as np
import torch

from llmrec.similarity import nearest, unit_rows
from tests.benchmarks import describe_machine

N_USERS, N_ITEMS, D, K, ROUNDS = 671, 9_066, 384, 20, 9


def faiss_flat(U, V, k):
    """Scale, index and search with faiss."""
    index = faiss.IndexFlatIP(V.shape[1])
    index.add(unit_rows(V))
    return index.search(unit_rows(U), k)


def measure(work):
    """Seconds that `work` takes, and what it gives."""
    started = time.perf_counter()
    result = work()
    return time.perf_counter() - started, result


def peak_growth(work):
    """MiB that NumPy and Python hold at most while `work` runs, beyond what they held before; torch counts in RSS only."""
    tracemalloc.start()
    work()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak / 2**20


def main():
    rng = np.random.default_rng(0)
    V = rng.normal(size=(N_ITEMS, D)).astype("float32")
    U = rng.normal(size=(20_000, D)).astype("float32")
    index, scaled = faiss.IndexFlatIP(D), unit_rows(U[:N_USERS])
    index.add(unit_rows(V))
    works = {"nearest": lambda: nearest(U[:N_USERS], V, K), "faiss Flat": lambda: faiss_flat(U[:N_USERS], V, K),
             "faiss, search alone": lambda: index.search(scaled, K)}
    found = {name: work()[1] for name, work in works.items()}
    took = {name: [] for name in works}
    for _ in range(ROUNDS):
        for name, work in works.items():
            took[name].append(measure(work)[0])
    print(describe_machine())
    print(f"exact top-{K} for {N_USERS} users x {N_ITEMS:,} items x {D}; {torch.get_num_threads()} threads; {ROUNDS} rounds in turn")
    median = {name: np.median(seconds) for name, seconds in took.items()}
    for name, seconds in took.items():
        print(f"  {name:<22}{median[name] * 1e3:8.1f} ms (fastest {min(seconds) * 1e3:.1f}, slowest {max(seconds) * 1e3:.1f})")
    shared = np.mean([len(np.intersect1d(a, b)) / K for a, b in zip(found["nearest"], found["faiss Flat"])])
    ratios = [f"{median['nearest'] / median[name]:.2f}" for name in list(works)[1:]]
    print(f"  ratio nearest / faiss: {ratios[0]} (bound: 1.5), to its search alone {ratios[1]}; neighbours in common: {shared:.4f}")
    print("memory that one call adds at most, in MiB (tracemalloc)\n  users    " + "".join(f"{f'block {b}':>12}" for b in (128, 1024, 4096)))
    for n in (N_USERS, len(U)):
        grown = [peak_growth(lambda: nearest(U[:n], V, K, block=block)) for block in (128, 1024, 4096)]
        print(f"  {n:<9,}" + "".join(f"{mib:>12.1f}" for mib in grown))


if __name__ == "__main__":
    main()
