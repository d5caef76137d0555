"""Six accuracy metrics from arrays against warm ranx in turn, and the paired bootstrap of many models with what it adds to memory.

ranx gets Qrels and Run objects that are built beforehand, so that only its metrics are timed, after one round that compiles them."""
import time
import tracemalloc

import numpy as np
import pandas as pd
from scipy.sparse import csr_matrix

from llmrec.evaluation.metrics import ACCURACY, accuracy
from llmrec.evaluation.protocol import Report, compare
from tests.benchmarks import describe_machine

N_USERS, N_ITEMS, N_RELEVANT, K, ROUNDS = 100_000, 10_000, 10, 20, 7
N_MODELS, N_DRAWS = 10, 2_000


def make_lists(rng):
    """Random lists of different items, about half of whose users have a hit, and the relevant items."""
    topk = (rng.integers(0, N_ITEMS, (N_USERS, 1)) + rng.permuted(np.tile(np.arange(3 * K), (N_USERS, 1)), axis=1)[:, :K]) % N_ITEMS
    columns = rng.integers(0, N_ITEMS, (N_USERS, N_RELEVANT))
    columns[::2, 0] = topk[::2, 3]
    truth = csr_matrix((np.ones(columns.size), (np.repeat(np.arange(N_USERS), N_RELEVANT), columns.ravel())), shape=(N_USERS, N_ITEMS))
    truth.data[:] = 1
    return topk, truth


def as_ranx(topk, truth):
    """The same lists as ranx takes them; its frames must hold ids of dtype object."""
    from ranx import Qrels, Run

    names, users = (np.arange(n).astype(str).astype(object) for n in (N_ITEMS, N_USERS))
    relevant = truth.tocoo()
    qrels = Qrels.from_df(pd.DataFrame({"q_id": users[relevant.row], "doc_id": names[relevant.col], "score": 1}, dtype=object).astype({"score": int}))
    run = Run.from_df(pd.DataFrame({"q_id": np.repeat(users, K), "doc_id": names[topk.ravel()], "score": np.tile(np.arange(K, 0, -1.), N_USERS)},
                                   dtype=object).astype({"score": float}))
    return qrels, run


def measure(work):
    """Seconds that `work` takes, and what it gives."""
    started = time.perf_counter()
    result = work()
    return time.perf_counter() - started, result


def main():
    from ranx import evaluate

    rng = np.random.default_rng(0)
    topk, truth = make_lists(rng)
    print(describe_machine())
    built, (qrels, run) = measure(lambda: as_ranx(topk, truth))
    works = {"accuracy": lambda: accuracy(topk, truth, (K,)).mean(),
             "ranx": lambda: evaluate(qrels, run, [f"{name}@{K}" for name in ACCURACY], save_results_in_run=False)}
    found = {name: work() for name, work in works.items()}
    took = {name: [] for name in works}
    for _ in range(ROUNDS):
        for name, work in works.items():
            took[name].append(measure(work)[0])
    median = {name: np.median(seconds) for name, seconds in took.items()}
    print(f"six metrics, {N_USERS:,} users x {K} items, {truth.nnz:,} relevant; {ROUNDS} rounds in turn")
    for name, seconds in took.items():
        print(f"  {name:<12}{median[name] * 1e3:8.0f} ms (fastest {min(seconds) * 1e3:.0f}, slowest {max(seconds) * 1e3:.0f})")
    off = max(abs(found["accuracy"][f"{name}@{K}"] - found["ranx"][f"{name}@{K}"]) for name in ACCURACY)
    print(f"  ratio ranx / accuracy: {median['ranx'] / median['accuracy']:.1f} (bound: 5; and 500 ms); largest difference of a mean {off:.1e}; "
          f"building ranx's objects took {built:.0f} s more")
    meta = dict(hash="", stage="test", model="", split="")
    reports = {f"model {m}": Report(pd.DataFrame({"ndcg@10": rng.random(N_USERS)}), None, meta) for m in range(N_MODELS)}
    seconds, pairs = measure(lambda: compare(reports, n_draws=N_DRAWS))
    tracemalloc.start()
    compare(reports, n_draws=200)
    peak = tracemalloc.get_traced_memory()[1] / 2**20
    tracemalloc.stop()
    print(f"paired bootstrap, {N_MODELS} models x {N_USERS:,} users, {N_DRAWS:,} draws, {len(pairs)} pairs\n"
          f"  {seconds:.1f} s (bound: 30), {peak:.0f} MiB added at most (bound: 2048)")


if __name__ == "__main__":
    main()
