"""Encoding the catalogue: `TextEncoder` against sentence-transformers at its defaults, in one run, turn by turn.

With `--sweep` also the throughput for several sizes of batch, which chose the default of `batch_tokens`."""
import sys
import time

import numpy as np
import torch
from sentence_transformers import SentenceTransformer

from llmrec.data import load_movielens
from llmrec.encoding import TextEncoder, choose_device, choose_dtype, cpu_flags, find_model
from llmrec.preprocessing import item_text

ROUNDS = 2
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
        runs = [measure(lambda: TextEncoder(batch_tokens=size, cache_dir=False).transform(texts)) for _ in range(ROUNDS)]
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
    for _ in range(ROUNDS):
        for name, work in works.items():
            runs[name].append(measure(lambda: work(texts)))
    print(f"encoding {len(texts)} texts on {device} in {choose_dtype('auto', device)}, {torch.get_num_threads()} threads, "
          f"bf16 hardware: {sorted(flag for flag in cpu_flags() if 'bf16' in flag) or 'none'}")
    clock, processor = ({name: min(run[i] for run in results) for name, results in runs.items()} for i in (0, 1))
    for name in works:
        print(f"  {name}: {len(texts) / clock[name]:.0f} texts/s, {len(texts) / processor[name]:.0f} per processor second "
              f"(rounds took {', '.join(f'{run[0]:.1f}' for run in runs[name])} s)")
    print("  ratio: {:.2f} by the clock, {:.2f} by processor time".format(
        *(took["sentence-transformers"] / took["TextEncoder"] for took in (clock, processor))))
    print(f"  top-20 neighbours in common with float32: {overlap(*(results[0][2] for results in runs.values())):.4f}")
    if "--sweep" in sys.argv:
        sweep(texts[::4])


if __name__ == "__main__":
    main()
