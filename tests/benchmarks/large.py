"""Models of likes at 1,000,000 interactions of 50,000 users with 20,000 items: time to fit, time for 1,000 lists, and the peak memory of it all.

Nobody gives such data away with a package, so it is drawn: every user alike, items by a popularity that falls as 1 / (rank + 20). Each model runs in a
process of its own, whose peak counts the library and the data too (bound: 8 GiB). EASE is left out: it says beforehand how much its inverse needs. Models that read get
random vectors from a stand-in for the language model, whose own speed is measured elsewhere."""
import resource
import subprocess
import sys
import time

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator

from tests.benchmarks import describe_machine

N_USERS, N_ITEMS, N_INTERACTIONS, BOUND = 50_000, 20_000, 1_000_000, 8
MODELS = ["UserKNN", "ItemKNN", "SLIM", "PureSVD", "ALS", "RidgeRecommender", "ProfileRecommender", "TwoTower"]
READERS = {"RidgeRecommender": {}, "ProfileRecommender": {"method": "mean", "index": "IVF64,Flat"}, "TwoTower": {"n_epochs": 1}}
D = 384


class Noise(BaseEstimator):
    """A stand-in for an encoder: each text gets a random direction."""

    def fit(self, texts, y=None):
        return self

    def transform(self, texts):
        V = np.random.default_rng(0).standard_normal((len(texts), D)).astype("float32")
        return V / np.linalg.norm(V, axis=1, keepdims=True)

    def fit_transform(self, texts, y=None):
        return self.transform(texts)


def draw():
    """A Dataset of that size."""
    from llmrec import Dataset

    rng, popularity = np.random.default_rng(0), 1 / (np.arange(N_ITEMS) + 20)
    users, items = rng.integers(0, N_USERS, 2 * N_INTERACTIONS), rng.choice(N_ITEMS, 2 * N_INTERACTIONS, p=popularity / popularity.sum())
    pairs = pd.DataFrame({"user_id": users, "item_id": items}).drop_duplicates()[:N_INTERACTIONS]
    return Dataset(pairs, pd.DataFrame({"item_id": range(N_ITEMS), "title": [f"item {n}" for n in range(N_ITEMS)]}), pd.RangeIndex(N_USERS, name="user_id"))


def one(name):
    """Print seconds of the fit and of 1,000 lists, and the peak."""
    import llmrec

    data, model = draw(), getattr(llmrec, name)(**READERS[name] | {"encoder": Noise()} if name in READERS else {})
    assert len(data.interactions) == N_INTERACTIONS
    started = time.perf_counter()
    model.fit(data)
    fitted = time.perf_counter()
    model.recommend(data.users[:1000], k=10)
    listed = time.perf_counter()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"  {name:<18} fit {fitted - started:6.1f} s, 1,000 lists {listed - fitted:5.1f} s, peak {peak:.2f} GiB (bound: {BOUND})")


def main():
    print(f"{describe_machine()}\n{N_INTERACTIONS:,} interactions of {N_USERS:,} users with {N_ITEMS:,} items", flush=True)
    for name in MODELS:
        subprocess.run([sys.executable, "-m", "tests.benchmarks.large", name], check=True)


if __name__ == "__main__":
    one(sys.argv[1]) if len(sys.argv) > 1 else main()
