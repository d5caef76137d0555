"""Item kNN against implicit's in turn, its fit and its top-20 for all users; EASE's dual form against its primal; peak memory of each fit.

Everything runs on the fit part of the temporal split of the embedded MovieLens. EASE's primal form gets only the items that have a like, which is
in its favour. The memory of a fit is measured in a process of its own, after a fit to ten users has loaded and compiled what it needs."""
import re
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np

from tests.benchmarks import describe_machine

NEIGHBOURS, SHRINK, K, REG, ROUNDS, ROUNDS_EASE = 100, 10, 20, 100, 15, 2
SETTINGS = ["UserKNN", "ItemKNN", "EASE, dual", "EASE, primal", "SLIM", "implicit"]


def load():
    """What the models are fitted on: 659 users, 9,066 films, 41,487 likes."""
    from llmrec.data.movielens import load_movielens
    from llmrec.evaluation.splitting import temporal

    return temporal(load_movielens()).fit


def fits(data):
    """Name -> a function that fits once and gives the model."""
    from implicit.nearest_neighbours import CosineRecommender

    from llmrec.recommenders.neighbours import ItemKNN, UserKNN
    from llmrec.recommenders.linear import EASE, SLIM, ease_weights

    warnings.filterwarnings("ignore", "Method expects CSR input", module="implicit")  # it says so of its own scaled matrix
    X = data.likes().copy()
    liked = X[:, np.unique(X.indices)]

    def implicit():
        model = CosineRecommender(K=NEIGHBOURS)
        model.fit(X, show_progress=False)
        return model

    return {"UserKNN": lambda: UserKNN().fit(data), "ItemKNN": lambda: ItemKNN(NEIGHBOURS, SHRINK).fit(data), "EASE, dual": lambda: EASE(REG).fit(data),
            "EASE, primal": lambda: ease_weights(liked, REG), "SLIM": lambda: SLIM().fit(data), "implicit": implicit}


def time_in_turn(works, rounds):
    """Name -> seconds of each round."""
    took = {name: [] for name in works}
    for _ in range(rounds):
        for name, work in works.items():
            started = time.perf_counter()
            work()
            took[name].append(time.perf_counter() - started)
    return took


def compare_times(title, took, bound):
    """Print medians and the ratio of the first to the second."""
    print(title)
    for name, seconds in took.items():
        print(f"  {name:<14}{np.median(seconds) * 1e3:9.1f} ms (fastest {min(seconds) * 1e3:.1f}, slowest {max(seconds) * 1e3:.1f})")
    (one, ours), (two, theirs) = took.items()
    print(f"  ratio {one} / {two}: {np.median(ours) / np.median(theirs):.3f}, of the fastest {min(ours) / min(theirs):.3f} (bound: {bound})")


def resident(field):
    """MiB that this process holds (VmRSS), or held at most (VmHWM); Linux says so."""
    return int(re.search(rf"{field}:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) / 2**10


def peak_of_fit(name):
    """MiB that a fit adds at most to what this process holds; run it in a fresh process."""
    from llmrec.data.dataset import make_dataset

    data = load()
    fits(make_dataset(data.interactions[data.interactions.user_id.isin(data.users[:10])]))[name]()
    work = fits(data)[name]
    Path("/proc/self/clear_refs").write_text("5")  # forget the most it has held so far
    before = resident("VmRSS")
    work()
    return resident("VmHWM") - before


def main():
    data = load()
    X, users, work = data.likes().copy(), data.users.to_numpy(), fits(data)
    ours, theirs = work["ItemKNN"](), work["implicit"]()
    print(describe_machine())
    print(f"{X.shape[0]} users, {X.shape[1]:,} items, {X.nnz:,} likes")
    compare_times(f"fit of item kNN, {NEIGHBOURS} neighbours; ours in one thread, implicit in all; {ROUNDS} rounds in turn",
                  time_in_turn({name: work[name] for name in ("ItemKNN", "implicit")}, ROUNDS), 2)
    rows = np.arange(len(users))
    compare_times(f"top-{K} for all users; {ROUNDS} rounds in turn",
                  time_in_turn({"ItemKNN": lambda: ours.recommend(users, k=K), "implicit": lambda: theirs.recommend(rows, X, N=K)}, ROUNDS), 1.5)
    compare_times(f"fit of EASE, lambda {REG}; {ROUNDS_EASE} rounds in turn",
                  time_in_turn({name: work[name] for name in ("EASE, dual", "EASE, primal")}, ROUNDS_EASE), .1)
    work["SLIM"]()
    print(f"fit of SLIM: {np.median(time_in_turn({'SLIM': work['SLIM']}, 3)['SLIM']) * 1e3:.0f} ms")
    if sys.platform != "linux":
        return
    print("memory that a fit adds at most, in MiB (resident)")
    for name in SETTINGS:
        done = subprocess.run([sys.executable, "-m", "tests.benchmarks.neighbours", name], capture_output=True, text=True, check=True)
        print(f"  {name:<14}{float(done.stdout):9.1f}")


if __name__ == "__main__":
    if len(sys.argv) == 2:
        print(peak_of_fit(sys.argv[1]))
    else:
        main()
