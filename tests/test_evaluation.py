"""Lists against a stable sort, metrics against a plain loop and scikit-learn, and `evaluate` against models whose figures are known."""
import math
from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings, strategies as st
from hypothesis.extra.numpy import arrays
from scipy.sparse import csr_matrix
from sklearn.base import BaseEstimator
from sklearn.metrics import ndcg_score

from llmrec import evaluation
from llmrec.data import make_dataset
from llmrec.evaluation import bootstrap_interval, catalogue_coverage, evaluate, ndcg_at_k, recall_at_k, score_blocks, top_k
from llmrec.neighbours import Popularity, Random
from llmrec.splitting import temporal


@pytest.fixture(scope="module")
def split(movielens):
    return temporal(movielens)


@pytest.fixture(scope="module")
def small():
    """20 people with 10 likes each among 30 items."""
    rng = np.random.default_rng(0)
    items = np.concatenate([rng.permutation(30)[:10] for _ in range(20)])
    return temporal(make_dataset(pd.DataFrame({"user_id": np.repeat(np.arange(20), 10), "item_id": items, "timestamp": np.tile(np.arange(10), 20)}),
                                 pd.DataFrame({"item_id": np.arange(30)})))


class Known(BaseEstimator):
    """Scores items as the matrix given says, and keeps what it was fitted on."""

    def __init__(self, scores=None, fits=None): self.scores, self.fits = scores, fits

    def __sklearn_clone__(self): return Known(self.scores, self.fits)

    def fit(self, train):
        self.train_ = train
        if self.fits is not None: self.fits.append(train)
        return self

    def score_items(self, user_ids): return self.scores[self.train_.user_codes(user_ids)]


# Lists

tied_scores = st.tuples(st.integers(0, 4), st.integers(1, 12)).flatmap(lambda shape: arrays(
    st.sampled_from(["float32", "float64"]), shape, elements=st.sampled_from([-np.inf, -1., -0., 0., .5, 2., np.inf])))


@settings(max_examples=200, deadline=None)
@given(tied_scores, st.integers(1, 15))
def test_top_k_is_a_stable_sort(scores, k):
    before = scores.copy()
    best = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    best[np.take_along_axis(scores, best, 1) == -np.inf] = -1
    expected = np.pad(best, ((0, 0), (0, max(0, k - scores.shape[1]))), constant_values=-1)
    found = top_k(scores, k)
    assert found.shape == (len(scores), k) and found.dtype == np.int64 and (found == expected).all()
    assert (scores == before).all()


@pytest.mark.parametrize("view", [lambda S: S[:, ::-1], lambda S: np.asfortranarray(S), lambda S: S[::2]])
def test_top_k_reads_any_array(view):
    scores = view(np.random.default_rng(0).integers(0, 50, (6, 40)).astype("float32"))
    assert (top_k(scores, 7) == np.argsort(-scores, axis=1, kind="stable")[:, :7]).all()


@pytest.mark.filterwarnings("error")
def test_top_k_reads_an_array_that_cannot_be_written():
    scores = np.arange(6, dtype="float32").reshape(2, 3)
    scores.flags.writeable = False
    assert top_k(scores, 2).tolist() == [[2, 1], [2, 1]]


@pytest.mark.parametrize("k", [0, -1, 1.5, "3", None])
def test_a_faulty_k_is_refused(k):
    with pytest.raises((ValueError, TypeError), match=f"^k: got {k!r}"):
        top_k(np.zeros((2, 3), "float32"), k)


@pytest.mark.parametrize("at", [0, 3, 9])
def test_nan_is_refused_wherever_it_is(at):
    scores = np.arange(20, dtype="float32").reshape(2, 10)
    scores[1, at] = np.nan
    with pytest.raises(ValueError, match="^scores: hold NaN"):
        top_k(scores, 1)


# Metrics

lists_and_truth = st.integers(1, 8).flatmap(lambda n_items: st.tuples(
    st.permutations(range(n_items)), st.integers(0, n_items), st.sets(st.integers(0, n_items - 1)), st.integers(1, 10), st.just(n_items)))


def matrix(truth, n_items):
    """One row of relevant items."""
    return csr_matrix(([1.] * len(truth), ([0] * len(truth), sorted(truth))), shape=(1, n_items))


@settings(max_examples=200, deadline=None)
@given(lists_and_truth)
def test_metrics_equal_a_plain_loop(case):
    order, filled, truth, k, n_items = case
    listed = list(order[:filled]) + [-1] * max(0, max(n_items, k) - filled)
    recall, ndcg = (metric(np.array([listed]), matrix(truth, n_items), k)[0] for metric in (recall_at_k, ndcg_at_k))
    hits = [place for place, item in enumerate(listed[:k]) if item in truth]
    ideal = sum(1 / math.log2(place + 2) for place in range(min(k, len(truth))))
    assert recall == pytest.approx(len(hits) / len(truth) if truth else 0)
    assert ndcg == pytest.approx(sum(1 / math.log2(place + 2) for place in hits) / ideal if truth else 0)
    assert 0 <= recall <= 1 and 0 <= ndcg <= 1 + 1e-12
    if truth and set(order[:len(truth)]) == truth and filled >= len(truth):
        assert ndcg == pytest.approx(1)


def test_ndcg_equals_scikit_learn():
    rng = np.random.default_rng(0)
    scores = rng.permuted(np.tile(np.arange(50.), (40, 1)), axis=1)
    truth = (rng.random((40, 50)) < .2).astype(float)
    truth[:, 0] = 1
    for k in (1, 5, 10, 50):
        ours = ndcg_at_k(top_k(scores, k), csr_matrix(truth), k)
        assert ours == pytest.approx([ndcg_score(truth[[u]], scores[[u]], k=k) for u in range(40)])


def test_a_better_list_has_a_better_figure():
    truth = matrix({1, 4, 5}, 8)
    listed = np.array([[0, 1, 2, 3, 4, 6]])
    for a, b in ((0, 1), (0, 4), (2, 4), (3, 4)):
        better = listed.copy()
        better[0, [a, b]] = listed[0, [b, a]]
        assert ndcg_at_k(better, truth, 6) > ndcg_at_k(listed, truth, 6)
        for k in range(1, 7):
            assert ndcg_at_k(better, truth, k) >= ndcg_at_k(listed, truth, k) and recall_at_k(better, truth, k) >= recall_at_k(listed, truth, k)
    assert ndcg_at_k(np.array([[5, 1, 4]]), truth, 3) == recall_at_k(np.array([[5, 1, 4]]), truth, 3) == 1


def test_rows_belong_to_their_lists():
    truth = csr_matrix(np.eye(4)[[2, 0, 3]])
    assert recall_at_k(np.array([[2], [1], [3]]), truth, 1).tolist() == ndcg_at_k(np.array([[2], [1], [3]]), truth, 1).tolist() == [1, 0, 1]
    assert catalogue_coverage(np.array([[2, -1], [1, 2], [-1, -1]]), 8) == .25


def test_bootstrap_interval():
    values = np.random.default_rng(1).random((400, 2)) * [1, .1]
    low, high = bootstrap_interval(values)
    error = 1.96 * values.std(axis=0) / 20
    assert np.allclose([low, high], values.mean(axis=0) + np.array([[-1], [1]]) * error, atol=.1 * error.max())
    assert (bootstrap_interval(values) == [low, high]).all() and (bootstrap_interval(values, rng=1) != [low, high]).any()
    inner = bootstrap_interval(values, level=.5)
    assert (low < inner[0]).all() and (inner[0] < inner[1]).all() and (inner[1] < high).all()
    assert (bootstrap_interval(np.full((9, 1), .25)) == .25).all()


# Models

def test_popularity_has_the_figures_of_the_reference(split):
    report = evaluate(Popularity(), split)
    mean = report.summary["mean"]
    assert [round(mean["ndcg@10"], 4), round(mean["recall@20"], 4), round(mean["coverage@10"], 3)] == [.0603, .0769, .007]
    assert report.summary.index.tolist() == ["ndcg@10", "recall@10", "ndcg@20", "recall@20", "coverage@10", "coverage@20"]
    assert report.summary.n.tolist() == [659] * 4 + [9066] * 2
    assert report.per_user.index.equals(split.test.users)
    measured = report.summary.loc[report.per_user.columns]
    assert np.allclose(report.per_user.mean(), measured["mean"])
    assert (measured.low < measured["mean"]).all() and (measured["mean"] < measured.high).all()
    meta = report.meta
    assert (meta["split"], meta["hash"], meta["stage"], meta["model"], meta["short_lists"]) == ("temporal", split.hash, "test", "Popularity", 0)
    assert meta["parameters"] == {} and meta["fit_s"] > 0 and meta["rank_s"] > 0


def test_chance_has_the_figures_of_chance(split):
    """A place of a random list is a hit with probability (test likes / items not liked before)."""
    n_test, n_seen = (np.diff(data.matrix().indptr) for data in (split.test, split.fit))
    discount = 1 / np.log2(np.arange(2, 12))
    expected = (n_test / (9066 - n_seen) * discount.sum() / discount.cumsum()[np.clip(n_test, 1, 10) - 1]).mean()
    means = [evaluate(Random(rng), split, k=(10,)).summary.loc["ndcg@10", "mean"] for rng in range(8)]
    assert abs(np.mean(means) - expected) < 3 * np.std(means) / 8**.5


def test_likes_are_masked_and_only_they(small):
    """What was liked scores highest, then the answers: only with the mask is every list perfect."""
    scores = 2 * small.fit.matrix().toarray() + small.test.matrix().toarray()
    report = evaluate(Known(scores), small, k=(2, 20))
    assert (report.per_user == 1).all(axis=None)
    scores[small.fit.matrix().nonzero()] = np.inf
    assert (evaluate(Known(scores), small, k=(2,)).per_user == 1).all(axis=None)
    report = evaluate(Known(-np.inf * (1 - small.test.matrix().toarray()).clip(1e-9)), small, k=(1,))
    assert (report.per_user == 0).all(axis=None) and report.meta["short_lists"] == 20 and report.summary.loc["coverage@1", "mean"] == 0


def test_each_stage_learns_and_is_measured_on_its_own_parts(small):
    fits, model = [], Known(fits=[])
    for stage, learn, held_out in (("test", small.fit, small.test), ("validation", small.train, small.validation)):
        model = Known(held_out.matrix().toarray() + 2 * learn.matrix().toarray(), fits)
        assert (evaluate(model, small, stage=stage, k=(5,)).per_user == 1).all(axis=None)
        assert fits.pop() is learn and not fits and not hasattr(model, "train_"), "a clone is fitted, once"


def test_candidates_are_all_that_is_ranked(small):
    few = replace(small, candidates=np.array([3, 7, 11]))
    blocks = list(score_blocks(Random().fit(small.fit), small.fit.users, candidates=few.candidates, block=7))
    assert all((np.isfinite(S) == np.isin(np.arange(30), few.candidates)).all() for _, S in blocks)
    report = evaluate(Random(), few, k=(3,))
    assert report.summary.loc["coverage@3", ["mean", "n"]].tolist() == [1, 3] and report.meta["short_lists"] > 0


@pytest.mark.parametrize("model", [Popularity(), Random(rng=4)])
def test_blocks_do_not_matter(model, split, monkeypatch):
    reports = []
    for block in (512, 100):
        monkeypatch.setattr(evaluation, "score_blocks", partial(score_blocks, block=block))
        reports.append(evaluate(model, split))
    pd.testing.assert_frame_equal(reports[0].per_user, reports[1].per_user)
    pd.testing.assert_frame_equal(reports[0].summary, reports[1].summary)


def test_score_blocks_masks_a_copy(small):
    scores = np.random.default_rng(0).random((20, 30), dtype="float32")
    model, seen = Known(scores).fit(small.fit), small.fit.matrix()
    before = scores.copy()
    whole, pieces = (np.vstack([S for _, S in score_blocks(model, small.fit.users, seen, block=block)]) for block in (512, 3))
    assert (whole == pieces).all() and (np.isneginf(whole) == (seen.toarray() > 0)).all()
    assert (whole[np.isfinite(whole)] == scores[np.isfinite(whole)]).all()
    model.score_items = lambda user_ids: scores
    assert np.isneginf(next(score_blocks(model, small.fit.users, seen))[1]).any() and (scores == before).all(), "what the model holds stays"


@pytest.mark.parametrize("call, message", [
    (dict(stage="train"), "^stage: got 'train'; give 'test' or 'validation'"), (dict(k=10), "^k: got 10"), (dict(k=()), r"^k: got \(\)"),
    (dict(k=(0, 10)), "^k: got"), (dict(k=("10",)), "^k: got"),
])
def test_faulty_calls_are_refused(call, message, small):
    with pytest.raises((ValueError, TypeError), match=message):
        evaluate(Popularity(), small, **call)


def test_faulty_scores_are_refused(small):
    with pytest.raises(ValueError, match="^scores: hold NaN"):
        evaluate(Known(np.full((20, 30), np.nan)), small)
    with pytest.raises(ValueError, match=r"\(20, 31\).*\(20, 30\)"):
        evaluate(Known(np.zeros((20, 31))), small)


def test_nobody_to_test_is_refused(small):
    with pytest.raises(ValueError, match="split: nobody has a like in its validation part"):
        evaluate(Popularity(), replace(small, validation=small.validation.take([])), stage="validation")
