"""Intervals and tests against plain loops, `evaluate` against models whose figures are known, and what tuning may see."""
import tracemalloc
from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings, strategies as st
from scipy.sparse import csr_matrix
from sklearn.base import BaseEstimator

from llmrec.data.dataset import make_dataset
from llmrec.evaluation.splitting import Split, item_cold, temporal
from llmrec.evaluation.metrics import ACCURACY, ndcg_at_k
from llmrec.evaluation import protocol as evaluation
from llmrec.evaluation.protocol import (Report, bootstrap_interval,
    bootstrap_means, compare, draw_negatives, evaluate, holm, item_slices, score_blocks, slice_report,
    tune)
from llmrec.recommenders.base import Popularity, Random
from llmrec.recommenders.neighbours import ItemKNN, UserKNN
from llmrec.recommenders.linear import EASE, SLIM
from llmrec.recommenders.bpr import BPR
from llmrec.recommenders.factors import ALS, PureSVD
from llmrec.recommenders.ratings import BiasedMF
from llmrec.recommenders.neural import LightGCN, NeuMF


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


# Intervals

def test_bootstrap_interval():
    values = np.random.default_rng(1).random((400, 2)) * [1, .1]
    low, high = bootstrap_interval(values)
    error = 1.96 * values.std(axis=0) / 20
    assert np.allclose([low, high], values.mean(axis=0) + np.array([[-1], [1]]) * error, atol=.1 * error.max())
    assert (bootstrap_interval(values) == [low, high]).all() and (bootstrap_interval(values, rng=1) != [low, high]).any()
    inner = bootstrap_interval(values, level=.5)
    assert (low < inner[0]).all() and (inner[0] < inner[1]).all() and (inner[1] < high).all()
    assert (bootstrap_interval(np.full((9, 1), .25)) == .25).all()


def test_bootstrap_is_the_plain_loop():
    values = np.random.default_rng(2).random((37, 3))
    rng = np.random.default_rng(5)
    expected = np.array([values[rng.integers(0, 37, 37)].mean(axis=0) for _ in range(50)])
    assert np.allclose(bootstrap_means(values, 50, rng=5), expected, rtol=0, atol=1e-14)


# Models

def perfect(report):
    """What is 1 for a list that begins with all that is relevant, whatever its length."""
    return report.per_user.filter(regex="^(ndcg|hit_rate|mrr)@")


def test_popularity_has_the_figures_of_the_reference(split):
    report = evaluate(Popularity(), split, exclude="liked")
    mean = report.summary["mean"]
    assert [round(mean["ndcg@10"], 4), round(mean["recall@20"], 4), round(mean["coverage@10"], 3)] == [.0603, .0769, .007]
    accurate = [f"{name}@{k}" for k in (10, 20) for name in ACCURACY]
    beyond = ["novelty@10", "popularity_lift@10", "novelty@20", "popularity_lift@20"]
    assert report.summary.index.tolist() == [*accurate, *beyond, "coverage@10", "coverage@20", "gini@10", "gini@20"]
    assert report.summary.n.tolist() == [659] * 16 + [9066] * 4
    assert report.per_user.index.equals(split.test.users)
    measured = report.summary.loc[report.per_user.columns]
    assert np.allclose(report.per_user.mean(), measured["mean"])
    assert (measured.low < measured["mean"]).all() and (measured["mean"] < measured.high).all()
    meta = report.meta
    assert (meta["split"], meta["hash"], meta["stage"], meta["model"], meta["short_lists"]) == ("temporal", split.hash, "test", "Popularity", 0)
    assert meta["cold_users"] == 0 and meta["sampled_negatives"] is None and report.topk.shape == (659, 20)
    assert meta["parameters"] == {} and meta["fit_s"] > 0 and meta["rank_s"] > 0


def test_chance_has_the_figures_of_chance(split):
    """A place of a random list is a hit with probability (test likes / items not liked before)."""
    n_test, n_seen = (np.diff(data.likes().indptr) for data in (split.test, split.fit))
    discount = 1 / np.log2(np.arange(2, 12))
    expected = (n_test / (9066 - n_seen) * discount.sum() / discount.cumsum()[np.clip(n_test, 1, 10) - 1]).mean()
    means = [evaluate(Random(rng), split, k=(10,)).summary.loc["ndcg@10", "mean"] for rng in range(8)]
    assert abs(np.mean(means) - expected) < 3 * np.std(means) / 8**.5


def test_likes_are_masked_and_only_they(small):
    """What was liked scores highest, then the answers: only with the mask is every list perfect."""
    scores = 2 * small.fit.likes().toarray() + small.test.likes().toarray()
    report = evaluate(Known(scores), small, k=(2, 20))
    assert (perfect(report) == 1).all(axis=None)
    scores[small.fit.likes().nonzero()] = np.inf
    assert (perfect(evaluate(Known(scores), small, k=(2,))) == 1).all(axis=None)
    report = evaluate(Known(-np.inf * (1 - small.test.likes().toarray()).clip(1e-9)), small, k=(1,))
    assert (report.per_user == 0).all(axis=None) and report.meta["short_lists"] == 20 and report.summary.loc["coverage@1", "mean"] == 0


def test_each_stage_learns_and_is_measured_on_its_own_parts(small):
    fits, model = [], Known(fits=[])
    for stage, learn, held_out in (("test", small.fit, small.test), ("validation", small.train, small.validation)):
        model = Known(held_out.likes().toarray() + 2 * learn.likes().toarray(), fits)
        assert (perfect(evaluate(model, small, stage=stage, k=(5,))) == 1).all(axis=None)
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
    model, seen = Known(scores).fit(small.fit), small.fit.likes()
    before = scores.copy()
    whole, pieces = (np.vstack([S for _, S in score_blocks(model, small.fit.users, seen, block=block)]) for block in (512, 3))
    assert (whole == pieces).all() and (np.isneginf(whole) == (seen.toarray() > 0)).all()
    assert (whole[np.isfinite(whole)] == scores[np.isfinite(whole)]).all()
    model.score_items = lambda user_ids: scores
    assert np.isneginf(next(score_blocks(model, small.fit.users, seen))[1]).any() and (scores == before).all(), "what the model holds stays"


@pytest.mark.parametrize("call, message", [
    (dict(stage="train"), "^stage: got 'train'; give 'test' or 'validation'"), (dict(k=10), "^k: got 10"), (dict(k=()), r"^k: got \(\)"),
    (dict(k=(0, 10)), "^k: got"), (dict(k=("10",)), "^k: got"), (dict(k=(10, True)), "^k: got True"),
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


class Parts(Split):
    """A split whose test part must not be touched."""

    @property
    def test(self): raise AssertionError("the test part was read")

    @property
    def fit(self): raise AssertionError("what the final model learns from was read")


def without_test(split):
    hidden = object.__new__(Parts)
    for name, value in vars(split).items():
        if name not in ("test", "fit"):
            object.__setattr__(hidden, name, value)
    return hidden


class Blend(BaseEstimator):
    """Popularity with a part of noise that grows with `noise`."""

    def __init__(self, noise=0., tried=None): self.noise, self.tried = noise, tried

    def __sklearn_clone__(self): return Blend(self.noise, self.tried)

    def fit(self, train):
        self.train_, self.likes_ = train, np.bincount(train.likes().indices, minlength=train.n_items)
        if self.tried is not None: self.tried.append(self.noise)
        return self

    def score_items(self, user_ids):
        return self.likes_ + self.noise * np.random.default_rng(0).normal(size=(len(user_ids), len(self.likes_)))


def test_tune_never_sees_the_test_part(small):
    hidden = without_test(small)
    with pytest.raises(AssertionError, match="the test part was read"):
        hidden.test
    trials, best = tune(Blend(), {"noise": [0., 1., 100.]}, hidden, budget=3)
    assert len(trials) == 3 and best == {"noise": trials.noise[0]}
    for noise, figure in zip(trials.noise, trials["ndcg@10"]):
        assert evaluate(Blend(noise), small, stage="validation").summary.loc["ndcg@10", "mean"] == figure
    assert trials["ndcg@10"].is_monotonic_decreasing and (trials.low <= trials["ndcg@10"]).all() and (trials["ndcg@10"] <= trials.high).all()


def test_tune_spends_its_budget_and_no_more(small, capfd):
    from scipy.stats import uniform
    for grid, budget, spent in (({"noise": list(range(30))}, 7, 7), ({"noise": [1, 2]}, 7, 2), ({"noise": uniform(0, 5)}, 4, 4), ({}, 5, 1),
                                ([{"noise": [0]}, {"noise": [1, 2]}], 2, 2)):
        tried = []
        trials, _ = tune(Blend(tried=tried), grid, small, budget=budget)
        assert len(trials) == len(tried) == len(set(tried)) == spent
        assert tune(Blend(), grid, small, budget=budget)[0].drop(columns="fit_s").equals(trials.drop(columns="fit_s")), "the same seed, the same trials"
    assert capfd.readouterr() == ("", "")
    assert len(tune(Blend(), {"noise": [1, 2, 3]}, small, max_s=0)[0]) == 1, "no time left after the first"
    tune(Blend(), {}, small, verbose=True)
    assert "Tuning Blend" in "".join(capfd.readouterr())


@pytest.mark.parametrize("call, message", [
    (dict(metric="coverage@10"), "^metric: got 'coverage@10'"), (dict(metric="ndcg"), "^metric: got 'ndcg'"), (dict(budget=0), "^budget: got 0"),
    (dict(budget=2.5), "^budget: got 2.5"), (dict(budget=True), "^budget: got True"), (dict(grid={"nois": [1]}), "nois"),
])
def test_faulty_tuning_is_refused(call, message, small):
    with pytest.raises(ValueError, match=message):
        tune(Blend(), **{"grid": {"noise": [1]}, "split": small, **call})


# Whom and what is measured

def test_only_warm_users_are_measured_and_the_rest_is_counted(small):
    gone = small.fit.users[:3]
    cold = replace(small, fit=small.fit.take(~small.fit.interactions.user_id.isin(gone)))
    report = evaluate(Popularity(), cold)
    assert report.meta["cold_users"] == 3 and report.per_user.index.tolist() == small.fit.users[3:].tolist()


def test_validation_has_its_own_candidates(movielens):
    split = item_cold(movielens)
    for stage, codes in (("test", split.candidates), ("validation", split.validation_candidates)):
        report = evaluate(Random(), split, stage=stage, k=(10,))
        assert np.isin(report.topk, codes).all() and report.summary.loc["coverage@10", "n"] == len(codes)
    assert len(np.intersect1d(split.candidates, split.validation_candidates)) == 0


def test_sampled_negatives_are_what_they_should_be(small):
    truth, seen = small.test.likes(), small.fit.likes()
    candidates = np.arange(4, 28)
    kept = draw_negatives(truth, seen, candidates, 5, np.random.default_rng(0))
    negatives = kept & (truth.toarray() == 0)
    assert (kept[truth.nonzero()]).all() and (negatives.sum(1) == 5).all() and np.isin(negatives.nonzero()[1], candidates).all()
    assert not negatives[seen.nonzero()].any()
    everything = draw_negatives(truth, seen, candidates, 500, np.random.default_rng(0))
    allowed = np.isin(np.arange(30), candidates) & (seen.toarray() == 0) | (truth.toarray() > 0)
    assert (everything == allowed).all()
    shares = np.mean([draw_negatives(truth, seen, candidates, 5, np.random.default_rng(s)) for s in range(400)], axis=0)
    free = np.isin(np.arange(30), candidates) & (seen.toarray() + truth.toarray() == 0)
    expected = np.broadcast_to(5 / free.sum(1, keepdims=True), free.shape)
    assert np.abs(shares - expected)[free].max() < 5 * (.25 / 400)**.5


def test_a_sample_is_known_by_its_seed(small):
    a, b, c = (evaluate(Popularity(), small, sampled_negatives=5, rng=rng).meta["sample_seed"] for rng in (0, 0, 1))
    assert a == b != c and evaluate(Popularity(), small).meta["sample_seed"] is None


def test_a_sampled_report_is_stamped(split):
    full, sampled = evaluate(Popularity(), split), evaluate(Popularity(), split, sampled_negatives=100)
    assert sampled.meta["sampled_negatives"] == 100 and full.meta["sampled_negatives"] is None
    for text in (repr(sampled), sampled._repr_html_()):
        assert "SAMPLED: ranked against 100 random negatives" in text
    assert "SAMPLED" not in repr(full) + full._repr_html_()
    assert sampled.summary.loc["ndcg@10", "mean"] > 5 * full.summary.loc["ndcg@10", "mean"]
    assert not sampled.summary.index.str.contains("coverage|gini|novelty|lift").any(), "a sample says nothing of the catalogue"
    again, other = (evaluate(Popularity(), split, sampled_negatives=100, rng=rng) for rng in (0, 1))
    assert again.per_user.equals(sampled.per_user) and not other.per_user.equals(sampled.per_user)
    for faulty in (0, -3, 2.5, "100", True):
        with pytest.raises(ValueError, match=f"^sampled_negatives: got {faulty!r}"):
            evaluate(Popularity(), split, sampled_negatives=faulty)


def test_a_report_shows_itself(split):
    import matplotlib.pyplot as plt
    report = evaluate(Popularity(), split)
    ax = report.plot()
    assert [label.get_text() for label in ax.get_yticklabels()] == [f"{name}@{k}" for k in (10, 20) for name in ACCURACY]
    assert ax.get_xlabel() == "mean over 659 users (95% interval)" and ax.get_title() == report.title == "Popularity on temporal (test)"
    assert ax.lines[0].get_xdata().tolist() == report.summary["mean"][:12].tolist() and report.plot(ax) is ax
    plt.close("all")
    odd = Report(report.per_user, report.summary, {**report.meta, "model": "<b>"})
    assert "<b>" not in odd._repr_html_() and "&lt;b&gt;" in odd._repr_html_()


# Slices

def test_item_slices_share_the_likes():
    n_likes = np.array([0, 6, 2, 1, 6, 0, 1, 1, 1])
    slices = {name: np.flatnonzero(kept).tolist() for name, kept in item_slices(n_likes).items()}
    assert slices == {"all items": list(range(9)), "head items": [1], "middle items": [4], "tail items": [2, 3, 6, 7, 8],
                      "warm items": [1, 2, 3, 4, 6, 7, 8], "cold items": [0, 5]}


def test_slices_equal_a_plain_loop(split):
    report = evaluate(Popularity(), split)
    table, n_likes = slice_report(report, split), np.bincount(split.fit.likes().indices, minlength=9066)
    assert table.loc["all items", "ndcg@10"] == pytest.approx(report.summary.loc["ndcg@10", "mean"])
    assert table.loc[["head items", "middle items", "tail items"], ["items", "likes"]].sum().equals(table.loc["warm items", ["items", "likes"]].astype("int64"))
    assert table.likes["warm items"] + table.likes["cold items"] == table.likes["light users"] + table.likes["heavy users"] == 10_048
    head, recalls = set(np.flatnonzero(item_slices(n_likes)["head items"])), []
    for row, listed in zip(split.test.likes(), report.topk[:, :10]):
        if relevant := head & set(row.indices): recalls.append(len(relevant & set(listed)) / len(relevant))
    assert table.loc["head items", "recall@10"] == pytest.approx(np.mean(recalls)) and table.users["head items"] == len(recalls)
    history = np.diff(split.fit.likes().indptr)
    assert table.loc["light users", "ndcg@10"] == pytest.approx(report.per_user["ndcg@10"][history <= np.median(history)].mean())


def test_faulty_slices_are_refused(split, small):
    report = evaluate(Popularity(), split, k=(5,))
    with pytest.raises(ValueError, match="^k: got 10, but the report's lists have 5 places"):
        slice_report(report, split)
    with pytest.raises(ValueError, match="^split: has hash"):
        slice_report(report, small, k=5)


# Comparing

def made(values, **meta):
    """A report of given figures."""
    return Report(pd.DataFrame({"ndcg@10": values}), None, dict(model="", split="", stage="test", hash="") | meta)


def test_compare_is_the_plain_loop():
    rng = np.random.default_rng(3)
    values = rng.random((60, 3)) + [0, .05, .3]
    table = compare({"a": made(values[:, 0]), "b": made(values[:, 1]), "c": made(values[:, 2])}, n_draws=300, rng=7)
    assert table[["a", "b"]].to_numpy().tolist() == [["a", "b"], ["a", "c"], ["b", "c"]]
    for row, (i, j) in zip(table.itertuples(), ((0, 1), (0, 2), (1, 2))):
        draws, difference = np.random.default_rng(7), values[:, i] - values[:, j]
        means = np.array([difference[draws.integers(0, 60, 60)].mean() for _ in range(300)])
        assert row.difference == pytest.approx(difference.mean()) and [row.low, row.high] == pytest.approx(np.quantile(means, [.025, .975]).tolist())
        assert row.p == pytest.approx(min(1, 2 * (1 + min((means <= 0).sum(), (means >= 0).sum())) / 301))
    assert (table.p_holm >= table.p).all() and table.p_holm.tolist() == holm(table.p.to_numpy()).tolist()


def test_equal_models_are_not_told_apart_and_unequal_ones_are():
    values = np.random.default_rng(0).random(500)
    table = compare({"a": made(values), "same": made(values), "better": made(values + .01)})
    assert table.p.tolist() == pytest.approx([1, 2 / 2001, 2 / 2001]) and table.low[1] == pytest.approx(-.01) and table.high[1] == pytest.approx(-.01)


def test_a_true_null_is_rejected_as_rarely_as_promised():
    rng = np.random.default_rng(0)
    p = [compare({"a": made(rng.random(200)), "b": made(rng.random(200))}, n_draws=400, rng=rng).p[0] for _ in range(200)]
    assert .01 <= np.mean(np.array(p) < .05) <= .1


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_is_the_step_down_rule(p):
    corrected, order = holm(np.array(p)), np.argsort(p, kind="stable")
    expected, so_far = {}, 0
    for step, i in enumerate(order):
        so_far = expected[i] = min(1, max(so_far, p[i] * (len(p) - step)))
    assert corrected.tolist() == pytest.approx([expected[i] for i in range(len(p))])


def test_reports_that_do_not_match_are_refused():
    a = made(np.zeros(5))
    with pytest.raises(ValueError, match="differ in sample_seed"):
        compare({"a": made(np.zeros(5), sampled_negatives=9, sample_seed=0), "b": made(np.zeros(5), sampled_negatives=9, sample_seed=1)})
    for other, message in ((made(np.zeros(5), hash="x"), "differ in hash"), (made(np.zeros(5), stage="validation"), "differ in stage"),
                           (made(np.zeros(5), sampled_negatives=100), "differ in sampled_negatives"), (made(np.zeros(4)), "differ in users")):
        with pytest.raises(ValueError, match=f"^reports: 'b' and 'a' {message}"):
            compare({"a": a, "b": other})
    with pytest.raises(ValueError, match="^reports: got 1"):
        compare({"a": a})
    with pytest.raises(ValueError, match="^metric: got 'auc', which report 'a' lacks"):
        compare({"a": a, "b": a}, metric="auc")


def test_few_users_are_called_few():
    with pytest.warns(UserWarning, match="^reports: 19 users are too few"):
        compare({"a": made(np.zeros(19)), "b": made(np.ones(19))})
    assert "only 19 users" in made(np.zeros(19)).title and "only" not in made(np.zeros(20)).title
    with pytest.raises(ValueError, match="^values: hold no users"):
        bootstrap_interval(np.empty((0, 3)))


def test_the_bootstrap_of_many_users_stays_small():
    reports = {f"{m}": made(np.random.default_rng(m).random(100_000)) for m in range(10)}
    tracemalloc.start()
    compare(reports, n_draws=90)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 200 * 2**20


# What is left out

@pytest.mark.parametrize("model", [ItemKNN(), Popularity()], ids=lambda model: type(model).__name__)
def test_what_was_seen_is_left_out_for_every_model_alike(split, model):
    seen, liked = (split.fit.rated(), split.fit.likes())
    for exclude, known in (("seen", seen), ("liked", liked)):
        report = evaluate(model, split, k=(10,), exclude=exclude)
        codes = split.fit.user_codes(report.per_user.index)
        listed = csr_matrix((np.ones(report.topk.size), report.topk.ravel(), 10 * np.arange(len(codes) + 1)), shape=(len(codes), 9066))
        assert report.meta["exclude"] == exclude and listed.multiply(known[codes]).nnz == 0
        assert (exclude == "seen") == (listed.multiply(seen[codes]).nnz == 0)


def test_reports_that_left_out_different_things_do_not_compare(small):
    reports = {exclude: evaluate(Popularity(), small, exclude=exclude) for exclude in ("seen", "liked")}
    with pytest.raises(ValueError, match="differ in exclude"):
        compare(reports)


def test_a_constant_score_is_worth_no_more_than_chance(split, movielens):
    for part, chance in ((split, .003), (item_cold(movielens), .0085)):
        figure = evaluate(Known(np.zeros((659, part.fit.n_items), "float32")), part, k=(10,)).summary.loc["ndcg@10", "mean"]
        assert figure < 1.5 * chance, f"{part.name}: {figure}"


def test_equal_scores_are_on_average_as_good_as_chance(movielens):
    """Of films that nobody has liked, a place is a hit with probability (test likes / candidates).

    One shuffle gives everybody one list, which may lie far from that; the mean over many does not."""
    cold = item_cold(movielens)
    truth = cold.test.likes()[:, cold.candidates]
    truth, n = truth[truth.getnnz(axis=1) > 0], len(cold.candidates)
    order = np.random.default_rng(0).permuted(np.tile(np.arange(n), (400, 1)), axis=1)[:, :10]
    means = np.array([ndcg_at_k(np.tile(row, (truth.shape[0], 1)), truth, 10).mean() for row in order])
    discount, n_test = 1 / np.log2(np.arange(2, 12)), truth.getnnz(axis=1)
    chance = (n_test / n * discount.sum() / discount.cumsum()[n_test.clip(1, 10) - 1]).mean()
    figure = evaluate(Known(np.zeros((659, cold.fit.n_items), "float32")), cold, k=(10,)).summary.loc["ndcg@10", "mean"]
    assert abs(means.mean() - chance) < 3 * means.std() / 20 and np.quantile(means, .01) < figure < np.quantile(means, .99)


@pytest.mark.parametrize("model", [UserKNN(), ItemKNN(), EASE(), SLIM(), PureSVD(8), ALS(8, n_epochs=2), BPR(8, n_epochs=1), NeuMF(8, n_epochs=1),
                                   LightGCN(8, n_epochs=1), BiasedMF(n_epochs=1)], ids=lambda model: type(model).__name__)
def test_a_model_of_likes_lists_no_film_that_nobody_liked(model, movielens):
    cold = item_cold(movielens)
    report = evaluate(model, cold, k=(10,))
    assert (report.topk == -1).all() and report.meta["short_lists"] == len(report.per_user)
