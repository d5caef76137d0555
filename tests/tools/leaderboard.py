"""Makes data/leaderboard/: baselines, language models and hybrids on four protocols (`make leaderboard`), and how the baselines grow with the data."""
import json
import sys
import time

import numpy as np
import pandas as pd
from sklearn.base import clone

from llmrec.data.movielens import load_movielens
from llmrec.data.dataset import make_dataset
from llmrec.data.files import write_whole
from llmrec.evaluation.splitting import PROTOCOLS
from llmrec.evaluation.protocol import peak_memory
from llmrec.evaluation.judging import plot_judgements
from llmrec.recommenders.leaderboard import BASELINES, in_own_process, make_board
from llmrec.tastes.profiles import ProfileRecommender
from llmrec.tastes.probing import RidgeRecommender
from llmrec.tastes.hybrids import Hybrid
from llmrec.ranking.two_tower import TwoTower
from llmrec.ranking.retrieval import MappedFactors
from llmrec.ranking.sequence import SASRec
from tests.tools.notebooks import ROOT

FOLDER = ROOT / "data/leaderboard"


LANGUAGE = {  # name -> model, grid; "language" hears words, "hybrid" words and other people, the rest other people alone
    "language: profile": (ProfileRecommender(), [{"method": ["attention"], "half_life": [None, 5, 20], "temperature": [.1, .2]}, {"method": ["attention"], "temperature": [.5]},
                                                 {"method": ["mean"], "half_life": [None, 1, 20]}]),
    "language: ridge": (RidgeRecommender(), [{"reg": [25, 75, 225], "shared": [0, .5, 2]}, {"genres": [.8]}]),
    "language: two towers": (TwoTower(), [{"temperature": [.05, .1, .2]}, {"hidden": [(256,)], "lr": [.001], "temperature": [.05, .1, .2]}]),
    "hybrid: MappedFactors": (MappedFactors(), [{"map_reg": [10, 30, 100]}, {"reg": [10], "alpha": [1, 5]}]),
    "hybrid: SASRec": (SASRec(), {"items": ["both", "ids", "language"]}),
    "hybrid: without language": (Hybrid(prior=0), {"item_reg": [75, 150, 300], "half_life": [5, 20, None]}),
    "hybrid: Hybrid": (Hybrid(), [{"prior": [.4, .8, 1.2], "half_life": [5, 20, None]}, {"item_reg": [300]}]),
}
MODELS = BASELINES | LANGUAGE
COLD = ["random", "popularity", "TF-IDF", "language: profile", "language: ridge", "language: two towers", "hybrid: MappedFactors", "hybrid: Hybrid"]  # what can score films without likes
TIMES = (1, 2, 4, 8)


def grown(data, times, rng=0):
    """The likes of `data` with `times` as many people: a further person has the number of likes of a real one, half of them theirs and half drawn by popularity."""
    X, rng = data.likes(), np.random.default_rng(rng)
    popular = np.diff(X.tocsc().indptr) / X.nnz
    users, items = [np.repeat(np.arange(data.n_users), np.diff(X.indptr))], [X.indices]
    for u in range(data.n_users, times * data.n_users):
        own = X[u % data.n_users].indices
        kept = rng.choice(own, len(own) // 2, replace=False)
        drawn = np.setdiff1d(rng.choice(data.n_items, 2 * len(own), p=popular), kept)
        items.append(np.concatenate([kept, rng.permutation(drawn)[:len(own) - len(kept)]]))
        users.append(np.full(len(items[-1]), u))
    return make_dataset(pd.DataFrame({"user_id": np.concatenate(users), "item_id": data.item_ids[np.concatenate(items)]}), data.items)


def cost(model, data):
    """Seconds and MiB of one fit, after one on a little data, so that what is compiled is compiled."""
    little = data.take(np.flatnonzero(data.interactions.user_id < data.users[60]))
    clone(model).fit(make_dataset(little.interactions, data.items))
    before, started = peak_memory(), time.perf_counter()
    clone(model).fit(data)
    return {"likes": data.likes().nnz, "fit_s": time.perf_counter() - started, "memory_mib": peak_memory() - before}


def growth(board):
    """One fit of each model, with the setting chosen on `temporal`, at 1, 2, 4 and 8 times the likes; and the fitted exponent of its time."""
    chosen = board[board.protocol == "temporal"].set_index("model").setting
    datasets = {times: grown(PROTOCOLS["temporal"](load_movielens()).fit, times) for times in TIMES}
    rows = []
    for name, (model, _) in BASELINES.items():
        model = clone(model).set_params(**json.loads(chosen[name]))
        if name in ("NeuMF", "LightGCN"):  # an epoch grows like any other, and their fits take minutes at 8 times the likes
            model.set_params(n_epochs=model.n_epochs // 10)
        costs = []
        for times, data in datasets.items():
            print(f"{time.strftime('%H:%M:%S')} growth: {name} x {times}", flush=True)
            costs.append({"model": name, "times": times, **in_own_process(cost, model, data)})
        exponent = np.polyfit(np.log([row["likes"] for row in costs]), np.log([row["fit_s"] for row in costs]), 1)[0]
        rows += [{**row, "exponent": exponent} for row in costs]
    return pd.DataFrame(rows)


def main(names):
    data = load_movielens()
    rounds = {name: (PROTOCOLS[name](data), MODELS if name != "item_cold" else {model: MODELS[model] for model in COLD})
              for name in ("temporal", "leave_one_out", "random", "item_cold")}
    if names:
        make_board(FOLDER / "leaderboard.csv", {protocol: (split, {name: models[name] for name in names if name in models}) for protocol, (split, models) in rounds.items()}, verbose=True)
        return
    board = make_board(FOLDER / "leaderboard.csv", rounds, verbose=True)
    write_whole(FOLDER / "leaderboard.csv", board.to_csv(index=False).encode())
    figure = plot_judgements(board.rename(columns={"protocol": "way", "ndcg@10": "mean"}))
    figure.savefig(FOLDER / "leaderboard.png", dpi=120)
    write_whole(FOLDER / "growth.csv", growth(board).to_csv(index=False).encode())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
