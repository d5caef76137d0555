"""The leakage audit: silent on good splits and models, and each leak made on purpose is found."""
import warnings
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator

from llmrec.data.dataset import Dataset, make_dataset
from llmrec.evaluation.splitting import PROTOCOLS, label_last, make_split, ordered_likes, share_of_likes
from llmrec.evaluation.leakage import (audit, future_rows, leaked_pairs, model_knowledge, moved_likes,
    time_in_ids)
from llmrec.recommenders.base import Popularity, Random

PAIRS, FUTURE, TEXT, TIES, IDS = "test pairs in training", "items from the future", "user text from test rows", "unstable ties", "ids that carry time"


@pytest.fixture(scope="module")
def splits(movielens):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {name: protocol(movielens) for name, protocol in PROTOCOLS.items()}


@pytest.fixture(scope="module")
def split(splits):
    return splits["temporal"]


def with_more(part, rows):
    """The part with more interactions."""
    return Dataset(pd.concat([part.interactions, rows]), part.items, part.users)


def failed(report):
    """Names of the checks that failed."""
    return set(report.checks.index[report.checks.result == "failed"])


class Overlap(BaseEstimator):
    """Scores an item by how many likes its likers share with the user; `histories` (a like matrix by user code) replaces what was fitted."""

    def __init__(self, histories=None):
        self.histories = histories

    def fit(self, train):
        self.train_, self.X_ = train, train.likes()
        return self

    def score_items(self, user_ids):
        H = (self.X_ if self.histories is None else self.histories)[self.train_.user_codes(user_ids)]
        return ((H @ self.X_.T) @ self.X_).toarray()


class Constant(Overlap):
    """Scores every item the same."""

    def __init__(self, value=0.):
        self.value = value

    def score_items(self, user_ids):
        return np.full((len(user_ids), self.train_.n_items), self.value)


@pytest.mark.parametrize("name", ["temporal", "leave_one_out", "global_time"])
def test_good_splits_pass_but_for_the_ids(splits, name, recwarn):
    report = audit(splits[name])
    assert report.checks.result.tolist() == ["passed", "passed", "not checked", "passed", "failed"] and not report.passed
    assert report.checks.found.tolist() == [0, 0, 0, 0, 1] and not recwarn.list
    assert report.split == f"{name} ({splits[name].hash})"


@pytest.mark.parametrize("name", ["item_cold", "random"])
def test_protocols_blind_to_time_fail_by_what_they_are(splits, name):
    report = audit(splits[name])
    assert failed(report) == {FUTURE, IDS} and report.checks.result[TIES] == "not checked"


@pytest.mark.parametrize("make", [Popularity, Overlap, Constant])
def test_models_that_learn_from_the_rows_pass(split, make):
    report = audit(split, make().fit(split.fit))
    assert report.checks.result[TEXT] == "passed" and report.checks.found[TEXT] == 0 and failed(report) == {IDS}


@pytest.mark.parametrize("seed", range(5))
def test_a_random_start_is_no_leak(split, seed):
    model = Random(rng=np.random.default_rng(seed)).fit(split.fit)
    assert audit(split, model).checks.result[TEXT] == "passed"


def test_pairs_in_training_are_found(split):
    rows = split.test.interactions.iloc[[5, 70, 900]]
    bad = leaked_pairs(replace(split, fit=with_more(split.fit, rows)))
    assert set(zip(bad.user_id, bad.item_id)) == set(zip(rows.user_id, rows.item_id))
    bad = leaked_pairs(replace(split, train=split.fit))
    assert len(bad) == split.validation.likes().nnz
    report = audit(replace(split, fit=with_more(split.fit, rows)))
    assert PAIRS in failed(report) and report.checks.found[PAIRS] == 3
    assert f"item_id {rows.item_id.iloc[0]}, user_id {rows.user_id.iloc[0]}" in report.checks.evidence[PAIRS]


@pytest.mark.parametrize("part", ["train", "validation"])
def test_test_rows_in_one_part_alone_are_found(split, part):
    rows = split.test.interactions.iloc[[5, 70]]
    assert len(leaked_pairs(replace(split, **{part: with_more(getattr(split, part), rows)}))) == 2


def test_one_user_is_too_few_to_judge_a_model():
    rows = [(u, i, 5, i) for u in range(2) for i in range(10)]
    split = PROTOCOLS["temporal"](make_dataset(pd.DataFrame(rows, columns=["user_id", "item_id", "rating", "timestamp"])))
    alone = replace(split, test=split.test.take(np.flatnonzero(split.test.interactions.user_id == 0)))
    report = audit(alone, Overlap().fit(split.fit))
    assert report.checks.result[TEXT] == "not checked" and "1 user has likes" in report.checks.evidence[TEXT]


def test_one_dislike_of_a_held_out_film_is_found(splits, movielens):
    split = splits["item_cold"]
    new = split.fit.item_ids[split.candidates]
    row = movielens.interactions.query("rating < 4 and item_id in @new and user_id in @split.fit.users").head(1)
    assert len(leaked_pairs(split)) == 0 and len(leaked_pairs(replace(split, fit=with_more(split.fit, row)))) == 1


def test_the_border_is_later_than_not_at(split):
    first = split.test.interactions.groupby("user_id").timestamp.min().head(1)
    row = pd.DataFrame({"item_id": [1], "user_id": first.index, "rating": [1.], "timestamp": first.to_numpy()})
    assert len(future_rows(replace(split, fit=with_more(split.fit, row)))) == 0
    assert len(future_rows(replace(split, fit=with_more(split.fit, row.assign(timestamp=row.timestamp + 1))))) == 1
    first = split.validation.interactions.groupby("user_id").timestamp.min().head(1)
    row = row.assign(user_id=first.index, timestamp=first.to_numpy() + 1)
    assert len(future_rows(replace(split, train=with_more(split.train, row)))) == 1


def test_global_time_has_one_border_for_all(splits):
    split = splits["global_time"]
    untested = np.setdiff1d(split.fit.users, split.test.interactions.user_id)[:1]
    row = pd.DataFrame({"item_id": [1], "user_id": untested, "rating": [1.], "timestamp": [split.test.interactions.timestamp.min() + 1]})
    assert len(future_rows(replace(split, fit=with_more(split.fit, row)))) == 1
    assert len(future_rows(replace(split, fit=with_more(split.fit, row), name="temporal"))) == 0


@pytest.mark.parametrize("by", [["user_id", "timestamp", "item_id"], ["user_id", "timestamp", "rating"]])
def test_ties_cut_without_the_key_are_found(movielens, split, by):
    data, likes = ordered_likes(movielens)
    likes = likes.sort_values(by, kind="stable")
    sloppy = make_split("temporal", data, likes, label_last(likes, share_of_likes(likes, 5), share_of_likes(likes, 10)))
    moved = moved_likes(sloppy)
    in_test = {(row.user_id, row.item_id) for row in moved.itertuples() if row.part_before == "test"}
    ours, theirs = (set(zip(s.test.interactions.user_id, s.test.interactions.item_id)) for s in (sloppy, split))
    assert in_test == ours - theirs and in_test and failed(audit(sloppy)) == {TIES, IDS}


def test_text_written_from_all_rows_is_found(movielens, split):
    everything = split.fit.likes() + split.test.likes()
    report = audit(split, Overlap(histories=everything).fit(split.fit))
    assert failed(report) == {TEXT, IDS} and "exchanged user ids" in report.checks.evidence[TEXT] and report.checks.found[TEXT] > 100


def test_a_model_fitted_on_all_rows_is_found(movielens, split):
    report = audit(split, Overlap().fit(movielens))
    assert failed(report) == {TEXT, IDS} and "a refit on split.fit" in report.checks.evidence[TEXT]
    known = model_knowledge(split, Overlap().fit(movielens), n_users=50)
    assert len(known) == 50 and (known.as_given > known.refitted).mean() > .9 and np.allclose(known.refitted, known.renamed)


def test_the_model_is_left_as_it_was(split):
    model = Popularity().fit(split.train)
    before = model.likes_.copy()
    audit(split, model)
    assert model.train_ is split.train and (model.likes_ == before).all()


def test_ids_that_carry_time(split):
    assert time_in_ids(split).round(3).to_dict() == {"user_id": 0.002, "item_id": 0.933}
    frame = pd.DataFrame([(u, i, 1000 * (20 - u) + i) for u in range(20) for i in range(10)], columns=["user_id", "item_id", "timestamp"])
    assert time_in_ids(PROTOCOLS["temporal"](make_dataset(frame))).to_dict() == pytest.approx({"user_id": -1, "item_id": 1})
    assert time_in_ids(PROTOCOLS["temporal"](make_dataset(frame.assign(timestamp=7)))).tolist() == [0, 0]


def test_the_report_shows_all_its_evidence(split):
    report = audit(split)
    for text in report.checks.evidence:
        assert text in repr(report) and text in report._repr_html_()
    assert "temporal (2c455b560ce3f010)" in repr(report) and list(report.checks.columns) == ["result", "found", "evidence"]


def test_wrong_calls_are_refused(movielens, split):
    with pytest.raises(TypeError, match="split: got Dataset; give a Split"):
        audit(movielens)
    with pytest.raises(ValueError, match="not fitted"):
        audit(split, Popularity())
    with pytest.raises(ValueError, match="model: its scores hold NaN"):
        audit(split, Constant(np.nan).fit(split.fit))
    with pytest.raises(ValueError, match="score_items gave .* fit it on split.fit"):
        audit(split, Constant().fit(make_dataset(split.fit.interactions.head(2000))))
    strangers = replace(split, test=split.test.take(split.test.interactions.user_id == 1), fit=split.fit.take(split.fit.interactions.user_id != 1))
    with pytest.raises(ValueError, match="split: no user has likes in both fit and test"):
        audit(strangers, Popularity().fit(split.fit))
