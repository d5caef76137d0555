"""The board: equal rules, the right parts of the split, and what a killed run leaves."""
import json

import numpy as np
import pandas as pd
import pytest

from llmrec.data.dataset import make_dataset
from llmrec.evaluation.splitting import leave_one_out, temporal
from llmrec.evaluation.protocol import evaluate, tune
from llmrec.recommenders.base import Popularity, Random
from llmrec.recommenders.linear import EASE
from llmrec.recommenders.leaderboard import BASELINES, board_line, in_own_process, line_key, make_board
from tests.tools.leaderboard import COLD, LANGUAGE, MODELS, grown

GRID = {"reg": [1, 10, 100]}


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    rows = [(u, i, t) for u in range(40) for t, i in enumerate(rng.permutation(15)[:8])]
    return make_dataset(pd.DataFrame(rows, columns=["user_id", "item_id", "timestamp"]))


def test_a_line_is_tune_then_evaluate(data):
    split = temporal(data)
    line = board_line(EASE(), GRID, split, budget=2)
    trials, best = tune(EASE(), GRID, split, budget=2)
    report = evaluate(EASE(**best), split)
    assert json.loads(line["setting"]) == best and line["tried"] == len(trials) == 2 and line["n"] == 40
    for metric in ("ndcg@10", "recall@20", "coverage@10", "novelty@10"):
        assert line[metric] == report.summary.loc[metric, "mean"]
    assert [line["low"], line["high"]] == report.summary.loc["ndcg@10", ["low", "high"]].tolist()


def held_after(n):
    """Peak memory before and after n MiB were held, in MiB."""
    from llmrec.evaluation.protocol import peak_memory
    before = peak_memory()
    np.ones(n * 2**17)
    return before, peak_memory()


def test_memory_is_that_of_the_process_alone():
    large = np.ones(2**27)  # 1 GiB here must not count there
    before, after = in_own_process(held_after, 200)
    assert large[0] == 1 and before < 700 and 190 < after - before < 260


def test_a_key_follows_everything_a_line_depends_on(data):
    split, rules = temporal(data), dict(budget=10, max_s=300)
    keys = {line_key(EASE(), GRID, split, rules), line_key(EASE(7), GRID, split, rules), line_key(Popularity(), GRID, split, rules),
            line_key(EASE(), {"reg": [1]}, split, rules), line_key(EASE(), GRID, leave_one_out(data), rules), line_key(EASE(), GRID, split, rules | {"budget": 9})}
    assert len(keys) == 6 and line_key(EASE(), GRID, temporal(data), dict(rules)) in keys


def test_a_killed_run_goes_on(data, tmp_path, monkeypatch):
    """No line is lost or made twice, and a line of another split is made anew."""
    made = []

    def here(function, model, grid, split, **rules):
        if len(made) == 2:
            raise KeyboardInterrupt
        made.append((split.name, type(model).__name__))
        return function(model, grid, split, **rules)

    monkeypatch.setattr("llmrec.recommenders.leaderboard.in_own_process", here)
    models = {"random": (Random(), {}), "EASE": (EASE(), GRID)}
    rounds = {"temporal": (temporal(data), models), "leave_one_out": (leave_one_out(data), models)}
    with pytest.raises(KeyboardInterrupt):
        make_board(tmp_path / "board.csv", rounds)
    assert len(pd.read_csv(tmp_path / "board.csv")) == 2
    made[:] = made[:1]
    with pytest.raises(KeyboardInterrupt):
        make_board(tmp_path / "board.csv", rounds)
    made.clear()
    board = make_board(tmp_path / "board.csv", rounds)
    assert made == [("leave_one_out", "EASE")] and board.model.tolist() == ["random", "EASE"] * 2
    assert board.protocol.tolist() == ["temporal"] * 2 + ["leave_one_out"] * 2 and board.columns[:3].tolist() == ["protocol", "model", "ndcg@10"]
    fewer = temporal(data.take(np.flatnonzero(data.interactions.user_id < 30)))
    made.clear()
    board = make_board(tmp_path / "board.csv", {"temporal": (fewer, models)})
    assert len(made) == 2 == len(board) and (board.n == 30).all() and board.opened.tolist() == [2, 2]
    kept = pd.read_csv(tmp_path / "board.csv")
    assert kept.protocol.tolist() == ["temporal"] * 2 + ["leave_one_out"] * 2 and kept.opened.tolist() == [2, 2, 1, 1]


def test_fewer_models_leave_the_lines_of_the_others(data, tmp_path):
    split, models = temporal(data), {"random": (Random(), {}), "popularity": (Popularity(), {})}
    make_board(tmp_path / "board.csv", {"temporal": (split, models)})
    one = make_board(tmp_path / "board.csv", {"temporal": (split, {"popularity": models["popularity"]})})
    assert one.model.tolist() == ["popularity"] and pd.read_csv(tmp_path / "board.csv").model.tolist() == ["random", "popularity"]


def test_every_grid_is_one_the_model_takes():
    for name, (model, grid) in MODELS.items():
        for part in grid if isinstance(grid, list) else [grid]:
            assert set(part) <= set(model.get_params()), name
    assert set(COLD) <= set(MODELS) and not set(BASELINES) & set(LANGUAGE)


def test_grown_data_are_of_the_same_kind(movielens):
    data = temporal(movielens).fit
    twice = grown(data, 2)
    X, Y = data.likes(), twice.likes()
    assert Y.shape == (2 * X.shape[0], X.shape[1]) and (Y[:X.shape[0]] != X).nnz == 0
    lengths = np.diff(Y.indptr)
    assert (lengths[X.shape[0]:] <= lengths[:X.shape[0]]).all() and Y.nnz > 1.9 * X.nnz
    shared = np.asarray(Y[X.shape[0]:].multiply(X).sum(axis=1)).ravel()
    assert (shared >= lengths[:X.shape[0]] // 2).all() and (shared < lengths[:X.shape[0]]).mean() > .9
