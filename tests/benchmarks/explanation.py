"""Exact shares of every like in ten films for each of 671 people, by `like_values` and by `shap.LinearExplainer` called for each person.

Both get a fitted hybrid and the films. The second is handed the weights as well, which `like_values` has to work out, and the likes of one person as its columns."""
import time
import warnings

import numpy as np

from tests.benchmarks import describe_machine

BOUND_S, ROUNDS = 1, 3


def main():
    warnings.simplefilter("ignore")
    import shap

    from llmrec.data.movielens import load_movielens
    from llmrec.language.encoding import TextEncoder
    from llmrec.tastes.hybrids import Hybrid
    from llmrec.lists.shares import hybrid_weights, like_values

    data = load_movielens()
    model = Hybrid(TextEncoder(dtype="float32")).fit(data)
    items, H = data.item_codes(model.recommend(data.users).item_id).reshape(-1, 10), model.X_
    likes, asked = np.unique(H.indices), np.unique(items)
    _, B, T = hybrid_weights(model, likes, asked)
    ours, theirs = [], []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        base, values = like_values(model, H, items)
        ours.append(time.perf_counter() - started)
        started, worst = time.perf_counter(), 0
        for person in range(len(items)):
            h = H[[person]]
            cells = np.ix_(np.searchsorted(likes, h.indices), np.searchsorted(asked, items[person]))
            both = np.concatenate([B[cells], T[cells]])  # a like's weight, and that it is there at all
            explainer = shap.LinearExplainer((both.T, np.zeros(10)), np.zeros((1, len(both))))
            found = explainer(np.concatenate([h.data, np.ones(h.nnz)])[None]).values[0]
            worst = max(worst, abs(found[:h.nnz] + found[h.nnz:] - values[person]).max())
        theirs.append(time.perf_counter() - started)
    print(describe_machine())
    print(f"{sum(v.size for v in values):,} shares: like_values {min(ours):.2f} s (bound: {BOUND_S} s), shap.LinearExplainer {min(theirs):.2f} s: "
          f"{min(theirs) / min(ours):.1f} times as long; largest difference {worst:.1e}")


if __name__ == "__main__":
    main()
