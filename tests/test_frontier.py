"""The frontier against `evaluate`, `compare` and plain sums, and its wrong calls."""
import numpy as np
import pandas as pd
import pytest

from llmrec.data.dataset import make_dataset
from llmrec.evaluation.splitting import item_cold, temporal
from llmrec.evaluation.metrics import catalogue_coverage, ndcg_at_k
from llmrec.evaluation.protocol import compare, evaluate
from llmrec.recommenders.base import Popularity
from llmrec.lists.diversity import DIVERSIFIERS, Diversified
from llmrec.lists.frontier import MEASURES, gains_at_price, make_pool, plot_frontier, rerank_pool, trace_frontier
from tests.test_diversity import Letters, dataset


@pytest.fixture(scope="module")
def split():
    return temporal(dataset(60, 80))


@pytest.fixture(scope="module")
def pool(split):
    V = Letters().transform(split.train.items.title)
    return make_pool(Popularity(), split, V, n=30)


@pytest.mark.parametrize("name", DIVERSIFIERS)
@pytest.mark.parametrize("stage", ["validation", "test"])
def test_lists_are_those_of_evaluate(split, name, stage):
    V = Letters().transform(split.train.items.title)
    model = Diversified(Popularity(), name, weight=.4, n_candidates=30, encoder=Letters(), template="{title}")
    report = evaluate(model, split, stage=stage, k=(10,))
    pool = make_pool(Popularity(), split, V, stage=stage, n=30)
    assert np.array_equal(rerank_pool(pool, name, .4, 10), report.topk)
    assert np.isclose(MEASURES["ndcg"](report.topk, pool).mean(), report.summary.loc["ndcg@10", "mean"])


def test_lists_are_those_of_evaluate_where_few_items_may_be_listed():
    split = item_cold(dataset(60, 80))
    V = Letters().transform(split.train.items.title)
    report = evaluate(Diversified(Popularity(), "mmr", weight=.7, encoder=Letters(), template="{title}"), split, k=(5,))
    assert np.array_equal(rerank_pool(make_pool(Popularity(), split, V, stage="test"), "mmr", .7, 5), report.topk)
    assert np.isin(report.topk, split.candidates).all()


def test_items_without_genres_are_measured_by_the_rest(split):
    data = dataset(60, 80)
    bare = temporal(make_dataset(data.interactions, data.items.drop(columns="genres")))
    pool = make_pool(Popularity(), bare, Letters().transform(bare.train.items.title), n=30)
    table = trace_frontier(pool, {"mmr": (.7,)})
    assert not {"kl", "genre distance"} & set(table) and {"ndcg", "distance", "coverage"} <= set(table)
    assert gains_at_price(table, 1).columns.tolist() == ["distance", "volume", "coverage"]
    with pytest.raises(ValueError, match="method: 'xquad' needs genres and interests, and the items have no column 'genres'"):
        rerank_pool(pool, "xquad", .5)


def test_rows_are_means_and_paired_intervals(split, pool):
    table = trace_frontier(pool, {"stratified": (.1, .5), "mmr": (.7,)}, n_draws=2000)
    assert table.index.tolist() == [("none", 0), ("stratified", .1), ("stratified", .5), ("mmr", .7)]
    plain, topk = (rerank_pool(pool, name, w) for name, w in (("none", 0), ("stratified", .5)))
    row = table.loc[("stratified", .5)]
    for name, measure in MEASURES.items():
        assert np.isclose(row[name], measure(topk, pool).mean())
    assert row.coverage == catalogue_coverage(topk, pool.n_candidates)
    assert (table.filter(regex="_low|_high").iloc[0] == 0).all()
    reports = {name: evaluate(Diversified(Popularity(), name, weight=w, n_candidates=30), split, stage="validation", k=(10,)) for name, w in (("stratified", .5), ("none", None))}
    low, high = compare(reports).loc[0, ["low", "high"]]
    assert np.allclose([row.ndcg_low, row.ndcg_high], [low, high])
    assert np.allclose(ndcg_at_k(topk, pool.truth, 10).mean() - ndcg_at_k(plain, pool.truth, 10).mean(), row.ndcg - table.ndcg.iloc[0])


def test_the_same_seed_gives_the_same_table(pool):
    weights = {"random": (.3,), "dpp": (.3, 1)}
    assert trace_frontier(pool, weights).equals(trace_frontier(pool, weights))


def test_only_candidates_of_the_split_are_listed():
    split = item_cold(dataset(60, 80))
    pool = make_pool(Popularity(), split, Letters().transform(split.train.items.title), stage="test", n=200)
    lists = rerank_pool(pool, "stratified", .5, 30)
    assert set(np.unique(lists)) == {-1, *split.candidates} and pool.n_candidates == len(split.candidates)


def test_gains_are_the_best_that_the_price_allows(pool):
    table = trace_frontier(pool, {"stratified": (.1, .5), "mmr": (.3, .9)})
    free = gains_at_price(table, 1)
    plain = table.loc[("none", 0.)]
    assert np.isclose(free.loc["mmr", "distance"], table.loc["mmr", "distance"].max() / plain.distance - 1)
    assert np.isclose(free.loc["stratified", "kl"], 1 - table.loc["stratified", "kl"].min() / plain.kl)
    dear = table.copy()
    dear.loc[("mmr", .9), "ndcg"] = .5 * plain.ndcg
    near, far = (table.loc[("mmr", w), "distance"] / plain.distance - 1 for w in (.3, .9))
    kept = table.loc[("mmr", .3), "ndcg"] / plain.ndcg
    share = (kept - .6) / (kept - .5)  # of the way from .3 to .9, where nDCG falls from kept to .5
    assert kept > .6 and near < far and np.isclose(gains_at_price(dear, .4).loc["mmr", "distance"], near + share * (far - near))


def curve(*points):
    """A table of one method from (weight, nDCG, distance, KL, coverage)."""
    index = pd.MultiIndex.from_tuples([("none", 0.), *(("mmr", w) for w, *_ in points)], names=["method", "weight"])
    return pd.DataFrame([(1., 1., 1., 1.), *(rest for _, *rest in points)], index, ["ndcg", "distance", "kl", "coverage"])


def test_gains_are_read_off_the_lines_between_weights():
    table = curve((.2, .95, 1.1, .9, .8), (.5, .85, 1.3, .7, .6))
    for shuffled in (table, table.iloc[[0, 2, 1]]):  # halfway between the two weights a tenth is lost
        assert np.allclose(gains_at_price(shuffled, .1).loc["mmr", ["distance", "kl", "coverage"]].astype(float), [.2, .2, 0])
    assert np.allclose(gains_at_price(table, .02).loc["mmr", ["distance", "kl"]], [.04, .04])  # between the plain list and the first weight
    assert np.allclose(gains_at_price(table, .5).loc["mmr", ["distance", "kl"]], [.3, .3])     # no weight costs so much
    assert (gains_at_price(table, 0) == 0).all(axis=None)


def test_gains_of_a_line_that_crosses_the_price_twice():
    table = curve((.2, .8, 1.4, .9, 1), (.5, 1., 1.2, .8, 1))
    assert np.isclose(gains_at_price(table, .1).loc["mmr", "distance"], 1.3 - 1)  # on the way back


def test_the_picture_has_a_line_for_each_method(pool):
    table = trace_frontier(pool, {"stratified": (.1, .5), "mmr": (.3, .9)})
    ax = plot_frontier(table, "genre distance", "distance of genres")
    assert [text for text in ax.get_legend_handles_labels()[1]] == ["stratified", "mmr"]
    assert not ax.xaxis_inverted() and plot_frontier(table, "kl", "divergence").xaxis_inverted()  # better is to the right
    assert ax.get_xlabel() == "distance of genres" and "nDCG" in ax.get_ylabel()


def test_weights_stand_beside_their_points_and_do_not_overlap(pool):
    ax = plot_frontier(trace_frontier(pool, {"stratified": (.1, .2, .5), "mmr": (.3, .31, .9)}), "distance", "distance")
    boxes = [text.get_window_extent() for text in ax.texts]
    assert {text.get_text() for text in ax.texts} <= {".1", ".2", ".5", ".3", ".31", ".9"} and len(ax.texts) >= 3
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])


@pytest.mark.parametrize("wrong, message", [(dict(method="best", weight=.5), "method: got 'best'"), (dict(method="mmr", weight=2), "weight: got 2"), (dict(method="mmr", weight=.5, k=0), "k: got 0"),
                                            (dict(method="mmr", weight=True), "weight: got True"), (dict(method="mmr", weight=.5, k=True), "k: got True")])
def test_wrong_calls_are_named(pool, wrong, message):
    with pytest.raises(ValueError, match=message):
        rerank_pool(pool, **wrong)


def test_a_wrong_price_or_stage_is_named(split, pool):
    with pytest.raises(ValueError, match="price: got 5"):
        gains_at_price(trace_frontier(pool, {"mmr": (.5,)}), 5)
    with pytest.raises(ValueError, match="stage: got 'train'"):
        make_pool(Popularity(), split, pool.given["V"], stage="train")
    with pytest.raises(ValueError, match="price: got True"):
        gains_at_price(trace_frontier(pool, {"mmr": (.5,)}), True)


@pytest.mark.parametrize("wrong, message", [(dict(k=True), "k: got True"), (dict(n_draws=0), "n_draws: got 0")])
def test_wrong_counts_are_named(split, pool, wrong, message):
    with pytest.raises(ValueError, match=message):
        trace_frontier(pool, {"mmr": (.5,)}, **wrong)
    with pytest.raises(ValueError, match="n: got True"):
        make_pool(Popularity(), split, pool.given["V"], n=True)
