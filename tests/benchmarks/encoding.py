"""Encoding the catalogue, turn by turn over parts of it: `TextEncoder` against sentence-transformers at its defaults with MiniLM, and against
the bare forward pass over batches that are ready with SmolLM2, which shows what time is lost outside the model.

With `--sweep` also the throughput for several sizes of batch, which chose the default of `batch_tokens`."""
import sys
import time

import numpy as np
import torch
from sentence_transformers import SentenceTransformer

from llmrec.data.movielens import load_movielens
from llmrec.data.text import item_text
from llmrec.language.models import (choose_device, choose_dtype, find_model, load_model, load_tokenizer,
    cpu_flags)
from llmrec.language.encoding import TextEncoder, plan_batches, tokenize

PARTS = 9
SMOL_TEXTS, SMOL_PARTS = 200, 5
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


def take_turns(works, parts):
    """Each work over each part, the order reversed for every second part: {name: [(seconds, processor seconds, result)]}."""
    runs = {name: [] for name in works}
    for number, part in enumerate(parts):
        for name in sorted(works, reverse=number % 2):
            runs[name].append(measure(lambda: works[name](part)))
    return runs


def say_ratio(what, peers, ours):
    """The median ratio of two rows of runs, on the clock."""
    ratios = [peer[0] / our[0] for peer, our in zip(peers, ours)]
    print(f"  {what}: {np.median(ratios):.2f} (median of {len(ratios)} parts, from {min(ratios):.2f} to {max(ratios):.2f})")


def prepare(texts, device):
    """SmolLM2's batches of `texts`, tokenised, sorted, padded and on the device."""
    ids, _ = tokenize(load_tokenizer(find_model("smollm2")), texts, 128)
    batches = []
    for rows in plan_batches([len(i) for i in ids], texts, TextEncoder().batch_tokens):
        tokens = torch.nn.utils.rnn.pad_sequence([torch.tensor(ids[i]) for i in rows], batch_first=True)
        mask = torch.nn.utils.rnn.pad_sequence([torch.ones(len(ids[i]), dtype=torch.long) for i in rows], batch_first=True)
        batches.append((tokens.to(device), mask.to(device)))
    return batches


def overhead(texts, device, dtype):
    """What `TextEncoder` adds to the forward pass of SmolLM2: tokenising, sorting, padding, pooling and copying."""
    model, encoder = load_model(find_model("smollm2"), device, dtype), TextEncoder("smollm2", device=device, dtype=dtype, cache_dir=False)
    parts = [texts[part::SMOL_PARTS] for part in range(SMOL_PARTS)]
    ready = {part[0]: prepare(part, device) for part in parts}

    def forward(part):
        with torch.inference_mode():
            for tokens, mask in ready[part[0]]:
                hidden = model(input_ids=tokens, attention_mask=mask).last_hidden_state
        return hidden[0, 0, 0].item()   # a GPU is done when its number is here

    runs = take_turns({"forward": forward, "encoder": encoder.transform}, parts)
    print(f"SmolLM2, {len(texts)} texts on {device} in {dtype}: {len(texts) / sum(run[0] for run in runs['encoder']):.0f} texts/s")
    say_ratio("bare forward pass over ready batches / TextEncoder, on the clock", runs["forward"], runs["encoder"])
    lost = 1 - sum(run[1] for run in runs["forward"]) / sum(run[1] for run in runs["encoder"])
    print(f"  processor time outside the model: {lost:.1%}")


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
    runs = take_turns(works, [texts[part::PARTS] for part in range(PARTS)])
    print(f"encoding {len(texts)} texts on {device} in {choose_dtype('auto', device)}, {torch.get_num_threads()} threads, "
          f"bf16 hardware: {sorted(flag for flag in cpu_flags() if 'bf16' in flag) or 'none'}")
    for name, results in runs.items():
        clock, processor, _ = zip(*results)
        print(f"  {name}: {len(texts) / sum(clock):.0f} texts/s, {len(texts) / sum(processor):.0f} per processor second")
    say_ratio("ratio", *runs.values())
    theirs, ours = (np.concatenate([vectors for _, _, vectors in results]) for results in runs.values())
    print(f"  to float32: lowest cosine {(theirs * ours).sum(axis=1).min():.6f}, top-20 neighbours in common {overlap(theirs, ours):.4f}")
    overhead(texts[::len(texts) // SMOL_TEXTS][:SMOL_TEXTS], device, choose_dtype("auto", device))
    if "--sweep" in sys.argv:
        sweep(texts[::PARTS])


if __name__ == "__main__":
    main()
