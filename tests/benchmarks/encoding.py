"""Encoding the catalogue: `TextEncoder` against sentence-transformers at its defaults, in one run, turn by turn over parts of it.

With `--sweep` also the throughput for several sizes of batch, which chose the default of `batch_tokens`."""
import sys
import time

import numpy as np
import torch
from sentence_transformers import SentenceTransformer

from llmrec.data import load_movielens
from llmrec.encoding import TextEncoder, choose_device, choose_dtype, cpu_flags, find_model
from llmrec.preprocessing import item_text

PARTS = 9
SIZES = [512, 1024, 2048, 4096, 8192]


def measure(work):
    """Seconds on the clock and seconds of processor time that `work` takes, and what it gives."""
    clock, processor = time.perf_counter(), time.process_time()
    result = work()
    return time.perf_counter() - clock, time.process_time() - processor, result


def neighbours(V, k=20):
    """The `k` nearest other rows of each row."""
    near = np.empty((len(V), k), dtype=int)
    for block in range(0, len(V), 1000):
        cosine = V[block:block + 1000] @ V.T
        cosine[np.arange(len(cosine)), block + np.arange(len(cosine))] = -np.inf
        near[block:block + 1000] = np.argpartition(-cosine, k, axis=1)[:, :k]
    return near


def overlap(A, B):
    """The mean share of the 20 nearest neighbours that two sets of vectors have in common."""
    return np.mean([len(np.intersect1d(a, b)) / 20 for a, b in zip(neighbours(A), neighbours(B))])


def sweep(texts):
    """Throughput for each size of batch."""
    for size in SIZES:
        runs = [measure(lambda: TextEncoder(batch_tokens=size, cache_dir=False).transform(texts)) for _ in range(3)]
        print(f"  batch_tokens={size}: {len(texts) / min(run[0] for run in runs):.0f} texts/s")


def main():
    texts = item_text(load_movielens().items)
    device = choose_device("auto")
    peer, encoder = SentenceTransformer(find_model("minilm").folder, device=device), TextEncoder(cache_dir=False)
    works = {
        "sentence-transformers": lambda some: peer.encode(some, normalize_embeddings=True, show_progress_bar=False),
        "TextEncoder": encoder.transform,
    }
    for work in works.values():
        work(texts[:64])
    runs = {name: [] for name in works}
    for part in range(PARTS):
        for name in sorted(works, reverse=part % 2):
            runs[name].append(measure(lambda: works[name](texts[part::PARTS])))
    print(f"encoding {len(texts)} texts on {device} in {choose_dtype('auto', device)}, {torch.get_num_threads()} threads, "
          f"bf16 hardware: {sorted(flag for flag in cpu_flags() if 'bf16' in flag) or 'none'}")
    for name, results in runs.items():
        clock, processor, _ = zip(*results)
        print(f"  {name}: {len(texts) / sum(clock):.0f} texts/s, {len(texts) / sum(processor):.0f} per processor second")
    ratios = [peers[0] / ours[0] for peers, ours in zip(*runs.values())]
    print(f"  ratio: {np.median(ratios):.2f} (median of {PARTS} parts, from {min(ratios):.2f} to {max(ratios):.2f})")
    theirs, ours = (np.concatenate([vectors for _, _, vectors in results]) for results in runs.values())
    print(f"  top-20 neighbours in common with float32: {overlap(theirs, ours):.4f}")
    if "--sweep" in sys.argv:
        sweep(texts[::PARTS])


if __name__ == "__main__":
    main()
