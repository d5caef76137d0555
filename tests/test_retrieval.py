"""Factors from words and two stages: by hand, against scikit-learn, and what may not be listed."""
import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_matrix
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import Ridge

from llmrec.data.dataset import Dataset
from llmrec.language.encoding import Stateless
from llmrec.language.indexes import ItemIndex
from llmrec.language.similarity import top_k
from llmrec.evaluation.splitting import item_cold, temporal
from llmrec.evaluation.protocol import evaluate
from llmrec.recommenders.base import Popularity, Random, build_estimator, describe_estimator, load_recommender
from llmrec.recommenders.neighbours import ItemKNN
from llmrec.recommenders.linear import EASE, SLIM
from llmrec.recommenders.factors import ALS, PureSVD
from llmrec.recommenders.bpr import BPR
from llmrec.tastes.probing import RidgeRecommender
from llmrec.tastes.hybrids import Hybrid
from llmrec.ranking.retrieval import MappedFactors, TwoStage, equal_lengths, map_factors
from llmrec.lists.diversity import Diversified
from llmrec.work.configuration import find_recommenders


class Letters(Stateless):
    """Unit vectors from counts of the letters a to h: an encoder that needs no model."""

    def transform(self, X):
        counts = np.array([[text.lower().count(letter) for letter in "abcdefgh"] for text in X], "float32")
        return counts / np.maximum(np.linalg.norm(counts, axis=1, keepdims=True), 1e-9)


def dataset(n_users=12, n_items=40, n_new=6, seed=0):
    """Random ratings, none for the last n_new items and none for the last person."""
    rng = np.random.default_rng(seed)
    X = np.where(rng.random((n_users, n_items)) < .4, rng.integers(1, 11, (n_users, n_items)) / 2, 0)
    X[:, n_items - n_new:] = 0
    X[-1] = 0
    user, item = np.nonzero(X)
    frame = pd.DataFrame({"user_id": user, "item_id": item, "rating": X[user, item], "timestamp": item * 100 + 1})
    items = pd.DataFrame({"item_id": range(n_items), "title": [chr(97 + j % 8) * 3 + chr(97 + j // 2 % 8) for j in range(n_items)],
                          "genres": ["Action" if j % 2 else "Drama|Comedy" for j in range(n_items)], "year": pd.array([1990 + j for j in range(n_items)], "Int64")})
    return Dataset(frame, items, pd.RangeIndex(n_users, name="user_id"))


DATA = dataset()
LIKED = DATA.likes().getnnz(axis=0) > 0
MAPPED = MappedFactors(Letters(), d=4, reg=.5, map_reg=1.)
STAGES = TwoStage(MAPPED, Popularity(), n_candidates=5)


def test_three_films_by_hand():
    F, V = np.array([[1, 0], [-1, 0], [0, 1], [2, 0.]]), np.array([[3, 0], [1, 0], [2, 3], [9, 9.]])
    # the mean of the first three is (2, 1); B = [[2 / 3, 0], [0, 1]], since FᵀF + I = diag(3, 2) and Fᵀ(V - mean) = [[2, 0], [0, 2]]
    assert np.allclose(map_factors(F, V, np.array([True, True, True, False]), 1.), [[2 + 2 / 3, 1], [2 - 2 / 3, 1], [2, 2], [2 + 4 / 3, 1]])


@pytest.mark.parametrize("n_known", [3, 30])
def test_the_map_is_the_ridge_of_scikit_learn(n_known):
    rng = np.random.default_rng(1)
    F, V, known = rng.normal(size=(40, 6)), rng.normal(size=(40, 3)), np.arange(40) < n_known
    F -= F[known].mean(axis=0)
    assert np.allclose(map_factors(F, V, known, 2.), Ridge(alpha=2).fit(F[known], V[known]).predict(F))


def test_liked_films_are_scored_as_als_scores_them():
    H = DATA.likes()[:8]
    ours, als = clone(MAPPED).fit(DATA), ALS(4, reg=.5, alpha=10).fit(DATA)
    assert np.array_equal(ours.score_history(H)[:, LIKED], als.score_history(H)[:, LIKED])
    assert ours.space_[~LIKED].any(axis=1).all() and not ours.V_[~LIKED].any()


def test_a_new_film_lies_where_a_film_of_the_same_text_is_predicted():
    data = dataset()
    for column in ("title", "genres", "year"): data.items[column] = data.items[column].astype(object)
    data.items.loc[39, ["title", "genres", "year"]] = data.items.loc[38, ["title", "genres", "year"]]
    data.items["year"] = data.items.year.astype("Int64")
    model = clone(MAPPED).fit(data)
    assert np.allclose(model.space_[39], model.space_[38])
    assert model.similar_items(39, k=1).similar_item_id.tolist() == [38]


def test_some_items_are_scored_as_among_all():
    model, people = clone(MAPPED).fit(DATA), np.array([3, 0, 11])
    codes = np.array([[39, 2, -1], [1, 1, 35], [4, 5, 6]])
    S, found = model.score_items(people), model.score_candidates(people, codes)
    assert found.dtype == np.float32 and np.allclose(found[:2], np.where(codes[:2] < 0, -np.inf, np.take_along_axis(S[:2], codes[:2], axis=1)), atol=1e-5)
    assert np.isneginf(found[2]).all(), "this person has no likes"


@pytest.mark.parametrize("n_users", [12, 50], ids=["more items", "more users"])
@pytest.mark.parametrize("name", find_recommenders())
def test_every_recommender_scores_some_items_as_among_all(name, n_users):
    """Named twice, by nobody liked, -1 for nothing; for people without likes, for nobody and for none."""
    data, small = dataset(n_users), {"encoder": Letters(), "retriever": MAPPED, "ranker": Popularity(), "d": 4, "n_epochs": 2}
    model = find_recommenders()[name]()
    model = model.set_params(**{key: value for key, value in small.items() if key in model.get_params(deep=False)}).fit(data)
    people = np.array([3, 0, n_users - 1, 3])
    codes = np.random.default_rng(0).integers(-1, 40, (4, 30))
    codes[:, :3] = [[39, 2, -1], [1, 1, 35], [4, 4, 4], [39, 2, 2]]
    found, wanted = model.score_candidates(people, codes), np.take_along_axis(model.score_items(people), codes, axis=1)
    wanted[codes < 0] = -np.inf
    assert found.dtype == np.float32 and np.array_equal(np.isneginf(found), np.isneginf(wanted))
    assert np.allclose(found[found > -np.inf], wanted[found > -np.inf], atol=1e-5)
    assert model.score_candidates(people, codes[:, :0]).shape == (4, 0) and model.score_candidates([], codes[:0]).shape == (0, 30)
    with pytest.raises(ValueError, match="codes: got"):
        model.score_candidates(people, codes[:3])
    with pytest.raises(ValueError, match="unknown 999"):
        model.score_candidates([0, 999], codes[:2])


@pytest.mark.parametrize("model", [ALS(4), PureSVD(4), BPR(4, n_epochs=2), ItemKNN(), SLIM(), EASE(), MAPPED], ids=lambda model: type(model).__name__)
@pytest.mark.parametrize("n_users", [12, 50], ids=["more items", "more users"])
def test_some_items_are_scored_without_a_look_at_the_others(model, n_users, monkeypatch):
    data = dataset(n_users)
    model, liked = clone(model).fit(data), np.flatnonzero(data.likes().getnnz(axis=0))
    for way in ("score_items", "score_history"):
        monkeypatch.setattr(type(model), way, lambda *args: pytest.fail("all items were scored"), raising=False)
    assert np.isfinite(model.score_candidates([3, 0], [liked[:2], liked[-2:]])).all()


def test_nobody_is_scored_without_likes():
    S = clone(MAPPED).fit(DATA).score_history(csr_matrix((2, 40), dtype="float32"))
    assert np.isneginf(S).all()


def test_features_alone_when_nothing_else_is_known():
    bare = Dataset(DATA.interactions, DATA.items[["item_id", "title"]], DATA.users)
    without = clone(MAPPED).set_params(template="{title}", genres=0, year=0)
    assert np.allclose(clone(without).set_params(genres=.4, year=.5).fit(bare).space_, without.fit(DATA).space_)


def test_largest_inner_products_are_nearest_by_cosine():
    rng = np.random.default_rng(2)
    V, U = rng.normal(size=(200, 5)) * rng.random((200, 1)) * 3, rng.normal(size=(20, 5))
    longer = equal_lengths(V)
    assert np.allclose(np.linalg.norm(longer, axis=1), np.linalg.norm(V, axis=1).max(), rtol=1e-5) and np.allclose(longer[:, :5], V)
    _, found = ItemIndex("Flat").add(longer).search(np.pad(U, ((0, 0), (0, 1))), 7)
    assert np.array_equal(found, top_k(U @ V.T, 7))
    assert equal_lengths(np.empty((0, 3))).shape == (0, 4)


@pytest.mark.parametrize("wrong, message", [([[np.nan, 1]], "row 0 holds NaN"), ([1., 2.], "give a matrix")])
def test_lengths_of_what_is_no_matrix(wrong, message):
    with pytest.raises(ValueError, match=message):
        equal_lengths(np.array(wrong))


def test_only_the_candidates_are_scored_and_as_the_ranker_scores_them():
    class Counting(Popularity):
        """Popularity that keeps what it is asked."""
        def score_items(self, user_ids): raise AssertionError("the ranker was asked for all items")
        def score_candidates(self, user_ids, codes):
            self.asked_ = codes
            return Popularity.score_candidates(Popularity().fit(self.train_), user_ids, codes)
    model, people = TwoStage(MAPPED, Counting(), n_candidates=5).fit(DATA), range(11)
    [(_, S)] = model.allowed_scores(people)
    codes, ranker = model.ranker_.asked_, Popularity().fit(DATA).score_items(people)
    rated = DATA.rated().toarray() > 0
    for person in people:
        assert set(np.flatnonzero(np.isfinite(S[person]))) == set(codes[person])
        assert np.array_equal(S[person, codes[person]], ranker[person, codes[person]])
        assert not rated[person, codes[person]].any()
    best = np.where(rated, -np.inf, clone(MAPPED).fit(DATA).score_items(range(12)))[:11]
    assert np.array_equal(codes, top_k(best.astype("float32"), 5))


@pytest.mark.parametrize("exclude", ["seen", "liked"])
def test_a_model_behind_itself_is_that_model(movielens, exclude):
    split = temporal(movielens)
    alone, twice = (evaluate(model, split, k=(10,), exclude=exclude) for model in (ItemKNN(), TwoStage(ItemKNN(), ItemKNN(), 100)))
    assert np.array_equal(alone.topk, twice.topk), "two stages know no more than one"


def test_a_few_candidates_fill_the_lists_of_new_films():
    split = item_cold(dataset(60, 60))
    report = evaluate(TwoStage(MAPPED, RidgeRecommender(Letters()), n_candidates=6), split, k=(5,))
    assert report.meta["short_lists"] == 0 and np.isin(report.topk, split.candidates).all()


def test_a_model_that_ranks_lists_itself_is_no_stage():
    with pytest.raises(TypeError, match="ranker: got Diversified, which re-ranks lists itself; put it around TwoStage"):
        TwoStage(Popularity(), Diversified(Popularity(), "bands")).fit(DATA)
    varied = Diversified(clone(STAGES), "bands", n_candidates=5, places=5).fit(DATA).recommend([3], k=5)
    assert set(varied.item_id) == set(clone(STAGES).fit(DATA).recommend([3], k=5).item_id)


@pytest.mark.parametrize("ranker", [Popularity(), RidgeRecommender(Letters()), Hybrid(Letters(), reg=3)], ids=lambda model: type(model).__name__)
def test_with_all_films_as_candidates_it_is_the_ranker(ranker):
    both = TwoStage(Random(), ranker, n_candidates=100).fit(DATA).recommend(range(11), k=8)
    pd.testing.assert_frame_equal(both, clone(ranker).fit(DATA).recommend(range(11), k=8))


def test_what_may_be_listed_is_known_before_the_search():
    model, new = clone(STAGES).fit(DATA), DATA.item_ids[~LIKED]
    lists = model.recommend(range(11), k=5, candidates=new)
    assert set(lists.item_id) <= set(new) and len(lists) == 55
    again = model.recommend([0], k=5, exclude_seen=False)
    assert set(again.item_id) & set(DATA.interactions.item_id[DATA.interactions.user_id == 0])


def test_short_lists_are_counted():
    lists = clone(STAGES).fit(DATA).recommend([0, 1], k=8)
    assert lists.attrs["short_lists"] == 2 and lists.groupby("user_id").size().tolist() == [5, 5]
    assert clone(STAGES).set_params(n_candidates=10**12).fit(DATA).recommend([0], k=3).attrs["short_lists"] == 0  # no more than there are
    assert len(clone(STAGES).fit(DATA).recommend([11], k=3)) == 0  # this person has no likes, so the retriever scores nothing


def test_nobody_asked():
    model = clone(STAGES).fit(DATA)
    assert model.score_items([]).shape == (0, 40) and len(model.recommend([])) == 0


def test_more_people_than_a_block():
    data = dataset(n_users=600)
    model = clone(STAGES).fit(data)
    some = model.recommend(range(510, 520))
    everybody = model.recommend(range(600))
    pd.testing.assert_frame_equal(everybody[everybody.user_id.isin(range(510, 520))].reset_index(drop=True), some)


def test_parameters_are_kept_cloned_and_described():
    retriever = clone(MAPPED)
    model = TwoStage(retriever, Popularity(), 5).fit(DATA)
    assert not hasattr(retriever, "V_") and model.get_params()["retriever__d"] == 4
    described = describe_estimator(TwoStage(MappedFactors(d=7), Popularity(), 9))
    assert build_estimator(described).get_params(deep=False)["n_candidates"] == 9
    assert build_estimator(described).retriever.d == 7


def test_the_same_twice():
    once, twice = (clone(STAGES).fit(DATA).score_items(range(11)) for _ in range(2))
    assert np.array_equal(once, twice)


def test_mapped_factors_are_saved_and_two_stages_say_that_they_are_not(tmp_path, monkeypatch):
    monkeypatch.setattr("llmrec.language.encoding.TextEncoder", Letters)  # parameters that can be saved
    model = clone(MAPPED).set_params(encoder=None).fit(DATA)
    model.save(tmp_path / "model.npz")
    assert np.array_equal(load_recommender(tmp_path / "model.npz").score_items(range(12)), model.score_items(range(12)))
    with pytest.raises(TypeError, match="save `retriever_` and `ranker_`"):
        clone(STAGES).fit(DATA).save(tmp_path / "two.npz")


@pytest.mark.parametrize("wrong, message", [(dict(map_reg=0), "map_reg: got 0"), (dict(map_reg=np.inf), "map_reg: got inf"), (dict(reg=0), "reg: got 0"), (dict(alpha=-1), "alpha: got -1"),
                                            (dict(d=0), "d: got 0"), (dict(genres=-1), "genres: got -1"), (dict(year=np.nan), "year: got nan")])
def test_wrong_parameters_of_the_factors_are_named(wrong, message):
    with pytest.raises(ValueError, match=message):
        clone(MAPPED).set_params(**wrong).fit(DATA)


def test_no_like_is_said():
    low = DATA.interactions.assign(rating=1.)
    with pytest.raises(ValueError, match="holds no like"):
        clone(MAPPED).fit(Dataset(low, DATA.items, DATA.users, like_from=4))


@pytest.mark.parametrize("wrong", [0, 2.5, -3, None, True, "5"])
def test_a_wrong_number_of_candidates_is_named(wrong):
    with pytest.raises(ValueError, match=f"n_candidates: got {wrong!r}; give a whole number of at least 1"):
        clone(STAGES).set_params(n_candidates=wrong).fit(DATA)


@pytest.mark.parametrize("stage", ["retriever", "ranker"])
def test_what_is_no_recommender_is_named(stage):
    with pytest.raises(TypeError, match=f"{stage}: got Letters"):
        TwoStage(**{"retriever": Popularity(), "ranker": Popularity(), stage: Letters()}).fit(DATA)


def test_unknown_people_and_unfitted_models():
    with pytest.raises(ValueError, match="user_ids"):
        clone(STAGES).fit(DATA).score_items([99])
    for method in ("score_items", "recommend"):
        with pytest.raises(NotFittedError):
            getattr(clone(STAGES), method)([0])


def test_on_film_ratings(movielens):
    split, cold = temporal(movielens), item_cold(movielens)
    value = lambda model, part: evaluate(model, part, stage="validation", k=(10,)).summary.loc["ndcg@10", "mean"]
    mapped, als = MappedFactors(Letters()), ALS(reg=30, alpha=10)
    assert value(mapped, cold) > 1.5 * value(als, cold)
    assert abs(value(mapped, split) - value(als, split)) < .005
    few = evaluate(TwoStage(mapped, RidgeRecommender(Letters()), n_candidates=15), split, stage="validation")
    assert few.meta["short_lists"] == len(few.per_user)  # of 20 places, 15 are filled
    new = evaluate(TwoStage(mapped, RidgeRecommender(Letters()), n_candidates=20), cold)
    assert new.meta["short_lists"] == 0 and np.isin(new.topk, cold.candidates).all(), "what may be listed is known before the search"
