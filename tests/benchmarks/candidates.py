"""Lists from an index of 1,000,000 items: a `ProfileRecommender` scores what the index finds, and nothing else.

Each factory has a child process. The time is that of one call, lists for 1,000 people out of 500 candidates each and then the scores of
500 named candidates each; the memory is the most that the process holds meanwhile, vectors and index included (bounds: 2 s, 2,048 MiB).

Then the scores of 500 named candidates by models of likes, against `pick_scores`, which scores all items and picks."""
import subprocess
import sys
import time
import timeit
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, TransformerMixin

from llmrec.data.dataset import make_dataset
from llmrec.evaluation.protocol import peak_memory
from llmrec.recommenders.base import pick_scores
from llmrec.recommenders.factors import ALS
from llmrec.recommenders.linear import EASE
from llmrec.recommenders.neighbours import ItemKNN
from llmrec.tastes.profiles import ProfileRecommender
from tests.benchmarks import describe_machine

N_ITEMS, N_USERS, N_LIKES, N_CANDIDATES, WIDTH = 1_000_000, 1_000, 20, 500, 128


class Drawn(TransformerMixin, BaseEstimator):
    """Vectors around 1,000 centres, in place of a language model's."""

    def fit(self, texts, y=None):
        return self

    def transform(self, texts):
        rng = np.random.default_rng(0)
        V = rng.standard_normal((1_000, WIDTH), dtype="float32")[rng.integers(1_000, size=len(texts))]
        V += .8 * rng.standard_normal(V.shape, dtype="float32")
        return V


def catalogue(n_users=N_USERS, n_items=N_ITEMS):
    """A million items, and a thousand people who like twenty each; or other numbers of them."""
    rng = np.random.default_rng(1)
    likes = pd.DataFrame({"user_id": np.repeat(range(n_users), N_LIKES), "item_id": rng.integers(n_items, size=n_users * N_LIKES)})
    return make_dataset(likes.drop_duplicates(), pd.DataFrame({"item_id": range(n_items), "title": "item"}))


def forget_peak():
    """Let the system measure the most memory anew, where it can (Linux)."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
        return True
    except OSError:
        return False


def measure(factory):
    """Time and memory for one factory; "" is no index."""
    started = time.perf_counter()
    model = ProfileRecommender(Drawn(), template="{title}", index=factory, n_candidates=N_CANDIDATES).fit(catalogue())
    fitted, codes = time.perf_counter() - started, np.random.default_rng(2).integers(N_ITEMS, size=(N_USERS, N_CANDIDATES))
    model.recommend(0)
    told = f"  {factory or 'no index':<14}{fitted:7.1f} s to fit, {peak_memory():6,.0f} MiB at most"
    for name, work in (("lists", lambda: model.recommend(range(N_USERS))), ("named candidates", lambda: model.score_candidates(range(N_USERS), codes))):
        again, started, computed = forget_peak(), time.perf_counter(), time.process_time()
        work()
        seconds, computed = time.perf_counter() - started, time.process_time() - computed
        told += f"; {name} {seconds:6.2f} s ({computed:.2f} s of computing), {peak_memory():6,.0f} MiB{'' if again else ' since the start'}"
    print(told, flush=True)


def measure_likes():
    """Seconds for the named candidates of models of likes, the fastest of three calls; a row holds the people and the items fitted on."""
    for model, n_users, n_items in ((ALS(n_epochs=1), 20_000, 20_000), (ItemKNN(), 20_000, 20_000), (ItemKNN(), N_USERS, 200_000), (EASE(), 6_000, 5_000), (EASE(), 1_000, 20_000)):
        model, users = model.fit(catalogue(n_users, n_items)), np.arange(N_USERS)
        codes, seconds = np.random.default_rng(2).integers(n_items, size=(N_USERS, N_CANDIDATES)), {}
        for name, work in (("own", lambda: model.score_few(users, codes)), ("picked", lambda: pick_scores(model, users, codes))):
            work()
            seconds[name] = min(timeit.repeat(work, number=1, repeat=3))
        ratio = seconds["picked"] / seconds["own"]
        print(f"  {type(model).__name__:<8} {n_users:7,} people {n_items:9,} items; candidates {seconds['own']:6.3f} s, all items and pick {seconds['picked']:6.3f} s: {ratio:4.1f} times", flush=True)


def main():
    print(describe_machine())
    print(f"{N_USERS:,} people x {N_CANDIDATES} candidates of {N_ITEMS:,} items x {WIDTH} (bounds: 2 s, 2,048 MiB)", flush=True)
    for factory in ("IVF64,Flat", "IVF1024,PQ16", "IVF1024,Flat", ""):
        subprocess.run([sys.executable, "-m", "tests.benchmarks.candidates", factory], check=True)
    subprocess.run([sys.executable, "-m", "tests.benchmarks.candidates", "likes"], check=True)


if __name__ == "__main__":
    main() if len(sys.argv) == 1 else measure_likes() if sys.argv[1] == "likes" else measure(sys.argv[1])
