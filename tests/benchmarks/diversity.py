"""Re-ranking 200 candidates to 20 for 10,000 people: our MMR, max-sum and DPP against pyversity, called person by person, in one run.

All costs count: ours builds its table of cosines, pyversity's callers gather each person's vectors. Candidates are drawn twice: as a recommender gives them (the hybrid's, for
people drawn from the 659 of the temporal split), and, as the worst case for a shared table, at random from the whole catalogue. pyversity is timed on a part of the people, in turn
with ours, and its time is scaled up. The last part says what one call adds to memory at most, for each number of people."""
import time

import numpy as np
import pyversity
import torch

from llmrec.data.movielens import load_movielens
from llmrec.data.text import item_text
from llmrec.language.encoding import TextEncoder
from llmrec.evaluation.splitting import temporal
from llmrec.tastes.hybrids import Hybrid
from llmrec.lists.diversity import mmr, similarity_lookup
from llmrec.lists.rerankers import dpp, max_sum
from llmrec.lists.frontier import make_pool
from tests.benchmarks import describe_machine
from tests.benchmarks.retrieval import peak_growth

N_USERS, N, K, WEIGHT, PART, ROUNDS = 10_000, 200, 20, .5, 1_000, 3
PAIRS = {"MMR": (mmr, pyversity.mmr), "max-sum": (max_sum, pyversity.msd), "DPP": (dpp, pyversity.dpp)}


def seconds(work):
    """Seconds that `work` takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def for_pyversity(method, relevance):
    """The weight and scores with which our DPP is theirs: z-scores, and `diversity` 1/2 for our 1/2; the others need no change."""
    return (relevance - relevance.mean(axis=1, keepdims=True)) / relevance.std(axis=1, keepdims=True) if method == "DPP" else relevance


def compare(relevance, codes, V):
    """Medians of both, their ratio, and how many of the lists are the same."""
    for name, (ours, theirs) in PAIRS.items():
        own = for_pyversity(name, relevance)
        ours_at_once = lambda: ours(own, similarity_lookup(V, codes), K, WEIGHT)
        one_by_one = lambda: [theirs(V[codes[u]], relevance[u], K, WEIGHT).indices for u in range(PART)]
        took = np.array([(seconds(ours_at_once), seconds(one_by_one) * N_USERS / PART) for _ in range(ROUNDS)])
        same = (ours_at_once()[:PART] == np.array(one_by_one())).all(axis=1).mean()
        mine, peer = np.median(took, axis=0)
        print(f"  {name:<10}{mine:8.2f} s{peer:9.2f} s{peer / mine:8.1f} times (slowest round {(took[:, 1] / took[:, 0]).min():.1f})   same lists: {same:.3f}", flush=True)


def main():
    split, encoder, rng = temporal(load_movielens()), TextEncoder(device="cpu", dtype="float32"), np.random.default_rng(0)
    V = encoder.transform(item_text(split.train.items))
    pool, people = make_pool(Hybrid(encoder=encoder), split, V, n=N), rng.integers(0, 659, N_USERS)
    relevance, anywhere = pool.relevance[people], rng.random((N_USERS, len(V)), dtype="float32").argpartition(N, axis=1)[:, :N].copy()
    print(describe_machine())
    print(f"{N} candidates to {K} for {N_USERS:,} people, weight {WEIGHT}, vectors of {V.shape[1]}; {torch.get_num_threads()} threads; ours, pyversity (from {PART:,} people), ratio (bound: 5)")
    for name, codes in (("candidates of the hybrid", pool.given["codes"][people]), ("candidates at random from the catalogue", anywhere)):
        print(f" {name}, {len(np.unique(codes)):,} different films")
        compare(relevance, codes, V)
    print(" MiB that one call of DPP adds at most beyond the table of cosines (tracemalloc)")
    for m in (1_000, N_USERS):
        codes = pool.given["codes"][people][:m]
        similar = similarity_lookup(V, codes)
        print(f"  {m:>6,} people {peak_growth(lambda: dpp(relevance[:m], similar, K, WEIGHT)):8.1f}")


if __name__ == "__main__":
    main()
