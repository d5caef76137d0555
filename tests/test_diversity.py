"""Re-rankers by hand, against naive programs and against pyversity, and the promises that all of them keep."""
import inspect

import numpy as np
import pandas as pd
import pytest
import pyversity
from scipy.sparse import csr_matrix
from sklearn.base import clone

import llmrec.lists.diversity as diversity
import llmrec.lists.rerankers as rerankers
from llmrec.data.dataset import Dataset
from llmrec.language.encoding import Stateless
from llmrec.language.similarity import top_k
from llmrec.evaluation.splitting import temporal
from llmrec.evaluation.protocol import evaluate
from llmrec.recommenders.base import Popularity, load_recommender
from llmrec.recommenders.linear import EASE
from llmrec.tastes.probing import RidgeRecommender
from llmrec.ranking.probability import recommend_with_probability
from llmrec.ranking.retrieval import TwoStage
from llmrec.lists.rerankers import dpp, greedy_lists, gumbel_noise, max_sum, popularity_bands
from llmrec.lists.diversity import (DIVERSIFIERS, Diversified, calibrated, genre_shares, hand_out, mean_shares,
    miscalibration, mmr, scale_scores, similarity_lookup)

METHODS = [name for name in DIVERSIFIERS if name != "none"]
EVERY_METHOD = pytest.mark.parametrize("name", METHODS)
EVERY_NAME = pytest.mark.parametrize("name", DIVERSIFIERS)


class Letters(Stateless):
    """Unit vectors from counts of the letters a to h: an encoder that needs no model."""

    def transform(self, X):
        counts = np.array([[text.lower().count(letter) for letter in "abcdefgh"] for text in X], "float32")
        return counts / np.maximum(np.linalg.norm(counts, axis=1, keepdims=True), 1e-9)


def dataset(n_users=12, n_items=40, seed=0):
    """Random ratings of items with titles and genres, later items later in time."""
    rng = np.random.default_rng(seed)
    user, item = np.nonzero(rng.random((n_users, n_items)) < .4)
    frame = pd.DataFrame({"user_id": user * 10, "item_id": item, "rating": rng.integers(5, 11, len(user)) / 2, "timestamp": item * 100 + 1})
    names = ["Drama", "Comedy", "Horror", "War"]
    items = pd.DataFrame({"item_id": range(n_items), "title": ["".join(rng.choice(list("abcdefgh"), 5)) for _ in range(n_items)],
                          "genres": ["|".join(rng.choice(names, rng.integers(1, 4), replace=False)) for _ in range(n_items)]})
    return Dataset(frame, items, pd.Index(np.arange(n_users) * 10, name="user_id"))


def pool(m=7, n=30, n_items=90, d=12, seed=0, short=True):
    """Candidates, best first, with everything that any method needs; the last two people have fewer."""
    rng = np.random.default_rng(seed)
    scores = -np.sort(-rng.normal(size=(m, n)), axis=1)
    if short:
        scores[-1, 4:], scores[-2, 11:] = -np.inf, -np.inf
    codes = np.array([rng.permutation(n_items)[:n] for _ in range(m)])
    V, groups = rng.normal(size=(n_items, d)).astype("float32") + .5, rng.random((n_items, 5)).astype("float32") * (rng.random((n_items, 5)) < .5)
    groups /= np.maximum(groups.sum(axis=1, keepdims=True), 1e-9)
    interests = rng.dirichlet(np.ones(5), m).astype("float32")
    given = dict(codes=codes, similar=similarity_lookup(V, codes), genres=groups, bands=groups, interests=interests, noise=gumbel_noise(n, np.arange(m), seed))
    return scale_scores(scores), given, V


def lists_of(name, relevance, given, k, weight):
    return DIVERSIFIERS[name].rerank(relevance, *(given[need] for need in DIVERSIFIERS[name].needs), k, weight)


# What all of them promise

@EVERY_NAME
@pytest.mark.parametrize("weight", [0, .2, .7, 1])
def test_lists_hold_distinct_candidates_and_are_short_only_where_candidates_are_few(name, weight):
    relevance, given, _ = pool()
    lists = lists_of(name, relevance, given, 12, weight)
    for row, own in zip(lists, relevance):
        filled = row[row >= 0]
        assert len(set(filled)) == len(filled) == min(12, np.isfinite(own).sum()) and np.isfinite(own[filled]).all()
        assert (row[len(filled):] == -1).all()


@EVERY_NAME
def test_weight_0_is_the_plain_list_and_shorter_lists_are_prefixes(name):
    relevance, given, _ = pool(short=False)
    assert np.array_equal(lists_of(name, relevance, given, 8, 0), np.tile(np.arange(8), (7, 1)))
    assert np.array_equal(lists_of(name, relevance, given, 15, .4)[:, :6], lists_of(name, relevance, given, 6, .4))


@EVERY_METHOD
def test_lists_do_not_depend_on_who_else_is_asked_or_on_the_block(name, monkeypatch):
    relevance, given, V = pool(m=40)
    alone = dict(given, codes=given["codes"][5:6], similar=similarity_lookup(V, given["codes"][5:6]), interests=given["interests"][5:6], noise=gumbel_noise(30, np.array([5]), 0))
    whole = lists_of(name, relevance, given, 10, .5)
    assert np.array_equal(lists_of(name, relevance[5:6], alone, 10, .5)[0], whole[5])
    small = lambda relevance, k, weight, start, block=0: greedy_lists(relevance, k, weight, start, block=7)
    monkeypatch.setattr(diversity, "greedy_lists", small), monkeypatch.setattr(rerankers, "greedy_lists", small)
    assert np.array_equal(lists_of(name, relevance, given, 10, .5), whole)


@EVERY_METHOD
def test_a_function_and_the_table_have_the_same_default_weight(name):
    method = DIVERSIFIERS["stratified" if name == "bands" else name]  # one function for both
    assert inspect.signature(DIVERSIFIERS[name].rerank).parameters["weight"].default == method.weight


@EVERY_METHOD
@pytest.mark.parametrize("wrong, message", [(dict(weight=-.1), "weight: got -0.1"), (dict(weight=1.1), "weight: got 1.1"), (dict(weight=np.nan), "weight: got nan"), (dict(weight="a"), "weight: got 'a'"),
                                            (dict(weight=True), "weight: got True"), (dict(k=0), "k: got 0"), (dict(k=2.), "k: got 2.0"), (dict(k=True), "k: got True")])
def test_wrong_calls_are_named(name, wrong, message):
    relevance, given, _ = pool()
    with pytest.raises(ValueError, match=message):
        lists_of(name, relevance, given, **{"k": 5, "weight": .5, **wrong})


@EVERY_METHOD
def test_nan_and_a_single_row_are_refused(name):
    relevance, given, _ = pool()
    for wrong in (np.where(relevance > .9, np.nan, relevance), relevance[0]):
        with pytest.raises(ValueError, match="relevance"):
            lists_of(name, wrong, given, 5, .5)


@pytest.mark.parametrize("name", ["stratified", "xquad", "calibrated"])
def test_codes_that_do_not_fit_are_refused(name):
    relevance, given, _ = pool()
    for wrong, message in ((dict(codes=given["codes"][:, :9]), r"codes: have shape \(7, 9\)"), (dict(codes=given["codes"] + 50), "codes: reach 139, but groups have 90 rows")):
        with pytest.raises(ValueError, match=message):
            lists_of(name, relevance, {**given, **wrong}, 5, .5)


# The common scale

def test_scores_on_a_common_scale():
    scaled = scale_scores(np.array([[3, 2, -np.inf], [-5, -9, -7], [4, 4, 4], [-np.inf] * 3]))
    assert np.array_equal(scaled, np.float32([[1, 0, -np.inf], [1, 0, .5], [0, 0, 0], [-np.inf] * 3]))
    with pytest.raises(ValueError, match="scores: hold NaN"):
        scale_scores(np.array([[1, np.nan]]))


def test_bands_and_shares():
    bands = popularity_bands(np.array([6, 3, 2, 1, 0]))
    assert (bands.sum(axis=1) == 1).all() and bands[4].tolist() == [0, 0, 0, 1] and bands[0, 0] == 1
    shares = genre_shares(pd.DataFrame({"genres": ["A|B", "B", ""]}))
    assert shares.tolist() == [[.5, .5], [0, 1], [0, 0]]


@pytest.mark.parametrize("shift", [0, .5], ids=["some cosines below 0", "few cosines below 0"])
@pytest.mark.parametrize("weight", [0, .2, .5, .8, 1.])
def test_mmr_and_max_sum_are_those_of_pyversity(weight, shift):
    relevance, given, V = pool(m=25, n=60, d=32, short=False)
    V = V - .5 + shift
    similar = similarity_lookup(V, given["codes"])
    for ours, theirs in ((mmr, pyversity.mmr), (max_sum, pyversity.msd)):
        for row, own, listed in zip(relevance, given["codes"], ours(relevance, similar, 20, weight)):
            assert np.array_equal(theirs(V[own], row, 20, weight).indices, listed)


def test_a_double_is_left_to_the_end():
    V, codes = np.float32([[1, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]]), np.array([[0, 1, 2, 3]])
    relevance = np.float32([[1, .9, .3, .1]])
    for method in (mmr, max_sum, dpp):
        assert method(relevance, similarity_lookup(V, codes), 4, .6).tolist() == [[0, 2, 3, 1]]


def test_look_up_is_the_same_with_and_without_a_table(monkeypatch):
    _, given, V = pool()
    V, rows, best = V - .5, slice(2, 6), np.array([0, 3, 29, 7])
    from_table = similarity_lookup(V, given["codes"])(rows, best)
    monkeypatch.setattr(diversity, "LARGEST_TABLE", 0)
    assert np.allclose(similarity_lookup(V, given["codes"])(rows, best), from_table, atol=1e-6)
    own = V[given["codes"][3]]
    cosines = own @ own[3] / np.linalg.norm(own, axis=1) / np.linalg.norm(own[3])
    assert np.allclose(from_table[1], cosines, atol=1e-6) and cosines.min() < 0


def test_divergence_by_hand():
    groups = np.float32([[1, 0], [0, 1], [.5, .5], [0, 0]])
    P = np.float32([[.5, .5], [1, 0], [1, 0], [0, 0]])
    found = miscalibration(np.array([[0, 1], [0, -1], [1, 3], [0, 1]]), groups, P)
    assert np.allclose(found, [0, 0, -np.log(.01), 0], atol=1e-6)
    assert mean_shares(csr_matrix(np.float32([[1, 1, 2, 5], [0, 0, 0, 1]])), groups).tolist() == [[.5, .5], [0, 0]]


def test_calibrated_is_the_naive_program():
    relevance, given, _ = pool(short=False)
    codes, groups, interests = given["codes"], given["genres"], given["interests"]
    lists = calibrated(relevance, codes, groups, interests, 6, .6)
    for u in range(3):
        chosen = []
        for _ in range(6):
            kl = lambda i: miscalibration(codes[u, [*chosen, i]][None], groups, interests[u:u + 1])[0]
            chosen.append(int(np.argmax([-np.inf if i in chosen else .4 * relevance[u, i] - .6 * kl(i) for i in range(30)])))
        assert chosen == lists[u].tolist()


def test_calibration_falls_with_the_weight():
    relevance, given, _ = pool(m=60, short=False)
    at = [miscalibration(np.take_along_axis(given["codes"], calibrated(relevance, given["codes"], given["genres"], given["interests"], 10, w), axis=1), given["genres"], given["interests"]).mean()
          for w in (0, .3, .6, .9)]
    assert at == sorted(at, reverse=True)


# Around a recommender

def test_scores_are_handed_out_in_the_new_order():
    S = np.float32([[.1, .9, .5, .5, .5, .3], [-np.inf, 2, -np.inf, 1, -np.inf, -np.inf]])
    codes, positions = np.array([[1, 2, 3, 4], [1, 3, -1, -1]]), np.array([[2, 0], [1, 0]])
    found = hand_out(S, codes, positions)
    assert top_k(found, 6).tolist() == [[3, 1, 2, 4, 5, 0], [3, 1, -1, -1, -1, -1]]
    assert np.allclose(np.sort(found), np.sort(S)) and S[0, 1] == np.float32(.9)


@EVERY_NAME
def test_the_promises_of_a_recommender(name, tmp_path, monkeypatch):
    monkeypatch.setattr("llmrec.language.encoding.TextEncoder", Letters)  # parameters that can be saved
    data = dataset()
    model = Diversified(Popularity(), name, weight=.5, n_candidates=12, places=5).fit(data)
    lists = model.recommend(data.users, k=5)
    rated = data.interactions.set_index(["user_id", "item_id"]).index
    assert not lists.set_index(["user_id", "item_id"]).index.isin(rated).any()
    assert not lists.duplicated(["user_id", "item_id"]).any()
    model.save(tmp_path / "model.npz")
    assert load_recommender(tmp_path / "model.npz").recommend(data.users, k=5).equals(lists)
    assert clone(model).fit(data).recommend(data.users, k=5).equals(lists)  # the same seed, the same lists
    assert recommend_with_probability(model, data.users[:2], k=5).item_id.tolist() == lists.item_id[:10].tolist()
    allowed = [3, 7, 11, 20, 21]
    assert set(model.recommend(data.users, k=5, candidates=allowed).item_id) <= set(allowed)
    assert model.recommend(data.users[:2], k=5, exclude_seen=False)["rank"].max() == 5


def test_weight_0_and_none_are_the_model_itself():
    data = dataset()
    plain = EASE(reg=5).fit(data).recommend(data.users, k=8)
    for method, weight in (("none", None), ("mmr", 0), ("dpp", 0)):
        model = Diversified(EASE(reg=5), method, weight=weight, encoder=Letters()).fit(data)
        found = model.recommend(data.users, k=8)
        assert found.item_id.equals(plain.item_id) and np.allclose(found.score, plain.score)  # equal scores are moved apart by the least step


def test_what_is_behind_the_places_keeps_its_order():
    data = dataset()
    model = Diversified(EASE(reg=5), "mmr", weight=.9, n_candidates=10, places=3, encoder=Letters()).fit(data)
    plain = model.fitted_model().recommend(data.users[0], k=12).item_id.tolist()
    found = model.recommend(data.users[0], k=12).item_id.tolist()
    assert found[:3] != plain[:3] and found[3:] == [item for item in plain if item not in found[:3]]


def test_another_seed_another_list_and_nothing_stays_of_the_first_fit():
    data, other = dataset(), dataset(seed=1)
    lists = [Diversified(EASE(), "random", weight=.5, rng=rng).fit(data).recommend(data.users) for rng in (0, 1)]
    assert not lists[0].item_id.equals(lists[1].item_id)
    model = Diversified(RidgeRecommender(Letters()), "mmr", encoder=Letters()).fit(data)
    again = model.set_params(model=EASE(), method="stratified").fit(other)
    assert not hasattr(again, "V_") and not hasattr(again, "base_F_")
    assert again.recommend(other.users).equals(clone(again).fit(other).recommend(other.users))


@pytest.mark.parametrize("wrong, message", [(dict(method="best"), "method: got 'best'"), (dict(weight=2), "weight: got 2"), (dict(n_candidates=0), "n_candidates: got 0"), (dict(places=1.5), "places: got 1.5"),
                                            (dict(weight=True), "weight: got True"), (dict(n_candidates=True), "n_candidates: got True"), (dict(places=True), "places: got True")])
def test_wrong_parameters_are_named(wrong, message):
    with pytest.raises(ValueError, match=message):
        Diversified(Popularity(), **wrong).fit(dataset())


def test_a_second_re_ranking_around_the_first_is_refused():
    with pytest.raises(TypeError, match="model: got Diversified, whose order would be lost"):
        Diversified(Diversified(Popularity(), "bands"), "stratified").fit(dataset())
    with pytest.raises(TypeError, match="model: got 'popularity'; give a recommender"):
        Diversified("popularity").fit(dataset())


def test_two_stages_can_be_re_ranked_but_not_saved_in_one_file(tmp_path):
    data = dataset()
    model = Diversified(TwoStage(EASE(reg=5), Popularity(), n_candidates=8), "stratified", weight=.5, n_candidates=8).fit(data)
    plain = TwoStage(EASE(reg=5), Popularity(), n_candidates=8).fit(data).recommend(data.users, k=8)
    found = model.recommend(data.users, k=8)
    assert not found.item_id.equals(plain.item_id) and found.groupby("user_id").item_id.agg(set).equals(plain.groupby("user_id").item_id.agg(set))
    with pytest.raises(TypeError, match="model: TwoStage holds fitted models of its own, and a file holds one"):
        model.save(tmp_path / "model.npz")
    assert not (tmp_path / "model.npz").exists()


@pytest.mark.parametrize("ask", ["recommend", "score_items", "fitted_model", "save"])
def test_what_is_not_fitted_says_so(ask, tmp_path):
    given = {"fitted_model": (), "save": (tmp_path / "model.npz",)}.get(ask, ([0],))
    with pytest.raises(ValueError, match="Diversified instance is not fitted yet"):
        getattr(Diversified(Popularity(), "bands"), ask)(*given)


def test_unknown_people_are_refused():
    with pytest.raises(ValueError, match="user"):
        Diversified(Popularity(), "stratified").fit(dataset()).recommend(99)


def test_on_film_ratings(movielens):
    split = temporal(movielens)
    reports = {name: evaluate(Diversified(Popularity(), name, weight=w), split, stage="validation", k=(10,)) for name, w in (("none", None), ("stratified", .5), ("bands", .5))}
    plain = evaluate(Popularity(), split, stage="validation", k=(10,))
    assert np.array_equal(reports["none"].topk, plain.topk)
    learnt, users = split.train.likes(), split.train.user_codes(plain.per_user.index)
    for report in reports.values():
        assert not np.take_along_axis(learnt[users].toarray(), report.topk, axis=1).any() and report.meta["short_lists"] == 0
    assert reports["bands"].summary.loc["novelty@10", "mean"] > plain.summary.loc["novelty@10", "mean"]
