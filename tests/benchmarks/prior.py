"""What the prior of the hybrid is made of, on validation parts only: `python -m tests.benchmarks.prior`, about ten minutes.

Compares the nearest neighbours of `Hybrid` with the ridge's own map as the prior, at several settings, and each with no prior."""
import numpy as np
import pandas as pd
from scipy.sparse import csr_matrix

from llmrec.data.movielens import load_movielens
from llmrec.language.encoding import TextEncoder
from llmrec.evaluation.splitting import leave_one_out, temporal
from llmrec.evaluation.protocol import compare, evaluate
from llmrec.tastes.hybrids import Hybrid, unexplained


class RidgePrior(Hybrid):
    """The hybrid with `prior` times the ridge's map from features to likes in place of the neighbours."""

    def fit(self, train):
        weight, self.prior = self.prior, 0
        super().fit(train)
        self.prior, own = weight, 1 / (1 + self.echo_)
        self.R_ = unexplained(self, csr_matrix(self.F_.T)).T
        self.echo_ = (1 - own + weight * np.einsum("jd,dj->j", self.R_, self.P_)) / own
        return self

    def score_history(self, H):
        S = H.toarray() - unexplained(self, H) * (1 + self.echo_) + self.prior * ((H @ self.R_) @ self.P_)
        S[:, ~self.liked_] = -np.inf
        return S.astype("float32")


def main():
    """One row for each prior: nDCG@10 on each validation part, and the paired difference to no prior."""
    data, encoder = load_movielens(), TextEncoder(device="cpu", dtype="float32")
    first, last = temporal(data), leave_one_out(data)
    parts = {"temporal": (first, "validation"), "leave_one_out": (last, "validation"),  # and once more, inside the training part
             "temporal, earlier": (temporal(first.train), "test"), "leave_one_out, earlier": (leave_one_out(first.train), "test")}
    models = {f"{k} nearest, power {p}, weight {a}": Hybrid(encoder, n_neighbours=k, power=p, prior=a)
              for k, p, a in ((50, 3, .8), (100, 3, .8), (200, 3, .8), (200, 4, .8), (100, 1, .8), (100, 5, .8), (100, 3, .4), (100, 3, 1.2))}
    models |= {f"ridge {reg}, weight {a}": RidgePrior(encoder, reg=reg, prior=a) for reg, a in ((25, 2), (75, 2), (75, 3), (75, 4), (225, 6))}
    for rated in (.6, 1.):
        rows = {}
        for part, (split, stage) in parts.items():
            without = evaluate(Hybrid(encoder, rated=rated, prior=0), split, stage=stage)
            for name, model in models.items():
                report = evaluate(model.set_params(rated=rated), split, stage=stage)
                gain = compare({"with": report, "without": without}).iloc[0]
                rows.setdefault(name, {})[part] = f"{report.summary.loc['ndcg@10', 'mean']:.4f} ({gain.difference:+.4f} [{gain.low:+.4f}, {gain.high:+.4f}])"
        print(f"\nrated={rated}", pd.DataFrame(rows).T.to_string(), sep="\n", flush=True)


if __name__ == "__main__":
    main()
