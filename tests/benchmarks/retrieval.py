"""Exact top-20: `nearest` against faiss Flat in turn, and what `nearest` adds to memory for each size of block; then `ItemIndex`.

The two of the first part get raw vectors and count all the work of one call: scaling U and V, filling the index, searching. The third line is
the search of faiss alone, as where the same index serves many calls. In the second part both search the same faiss index for the same raw queries,
in turn; faiss called directly scales them with its own `normalize_L2`. The third part builds and searches 1,000,000 vectors in a child process."""
import subprocess
import sys
import time
import tracemalloc

import faiss
import numpy as np
import torch

from llmrec.language.indexes import ItemIndex, index_recall, resample_vectors
from llmrec.language.similarity import nearest, unit_rows
from tests.benchmarks import describe_machine

N_USERS, N_ITEMS, D, K, ROUNDS = 671, 9_066, 384, 20, 9
N_INDEXED, N_QUERIES, WIDTH = 100_000, 1_000, 128
POINTS = {"Flat": [""], "IVF1024,Flat": [f"nprobe={n}" for n in (1, 4, 16, 64)], "HNSW32": [f"efSearch={n}" for n in (16, 64, 256)], "IVF1024,PQ16": ["nprobe=16"]}
MILLION = f"""
import sys, time, numpy as np
from llmrec.language.indexes import ItemIndex
from llmrec.evaluation.protocol import peak_memory
V, factory = np.random.default_rng(0).standard_normal((1_000_000, {WIDTH}), dtype="float32"), sys.argv[1]
started = time.perf_counter()
index = ItemIndex(factory).add(V)
built = time.perf_counter()
index.search(V[:1000], {K})
print(f"  {{factory:<14}}{{built - started:8.1f}} s to build{{time.perf_counter() - built:8.2f}} s for 1,000 queries{{peak_memory():8.0f}} MiB at most")
"""


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


def faiss_directly(index, U, k):
    """Scale the queries and search with faiss."""
    U = U.copy()
    faiss.normalize_L2(U)
    return index.search(U, k)


def compare_indexes():
    """Times of `ItemIndex.search` and of faiss on the same index, in turn, at every operating point."""
    centres = np.random.default_rng(0).standard_normal((2_000, WIDTH), dtype="float32")
    V, U = resample_vectors(centres, N_INDEXED, .8, 1), 3 * resample_vectors(centres, N_QUERIES, .8, 2)
    exact, worst = nearest(U, V, K)[1], 0
    print(f"ItemIndex.search / faiss on the same index, {N_QUERIES:,} queries x {N_INDEXED:,} x {WIDTH}, {ROUNDS} rounds in turn, medians (bound: 1.1)")
    for factory, parameters in POINTS.items():
        index = ItemIndex(factory).add(V)
        for index.parameters in parameters:
            recall, took = index_recall(index.search(U, K)[1], exact).mean(), {}
            for _ in range(ROUNDS):
                for name, work in (("ours", lambda: index.search(U, K)), ("faiss", lambda: faiss_directly(index.index_, U, K))):
                    took.setdefault(name, []).append(measure(work)[0])
            ours, theirs = (np.median(took[name]) for name in ("ours", "faiss"))
            worst = max(worst, ours / theirs)
            print(f"  {factory:<14}{index.parameters:<14}{ours * 1e3:8.1f} /{theirs * 1e3:8.1f} ms{ours / theirs:7.3f}   recall {recall:.3f}", flush=True)
    print(f"  worst ratio {worst:.3f}")


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
    compare_indexes()
    print(f"1,000,000 x {WIDTH} in a process of its own (bound: 8,192 MiB)", flush=True)
    for factory in ("Flat", "IVF1024,PQ16"):
        subprocess.run([sys.executable, "-c", MILLION, factory], check=True)


if __name__ == "__main__":
    main()
