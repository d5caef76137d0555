"""Hybrids by hand, against independent solvers, in both forms, and in the right direction."""
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings, strategies as st
from hypothesis.extra.numpy import arrays
from scipy.sparse import csr_matrix
from sklearn.base import clone
from sklearn.linear_model import Ridge

from llmrec.data import Dataset
from llmrec.encoding import Stateless
from llmrec.evaluation import evaluate
from llmrec.hybrids import Hybrid, LanguageEASE, LeaveOutRated, dual_ridge, rated_rows, shared_taste
from llmrec.neighbours import EASE
from llmrec.preprocessing import TEMPLATE
from llmrec.probing import RidgeRecommender
from llmrec.recommenders import Popularity, load_recommender
from llmrec.splitting import item_cold, temporal


class Letters(Stateless):
    """Unit vectors from counts of the letters a to h: an encoder that needs no model."""

    def transform(self, X):
        counts = np.array([[text.lower().count(letter) for letter in "abcdefgh"] for text in X], "float32")
        return counts / np.maximum(np.linalg.norm(counts, axis=1, keepdims=True), 1e-9)


def dataset(X, ratings=None, **columns):
    """Likes (or ratings, 0 for none) as a Dataset with titles, genres and years, in which later items come later in time."""
    X = np.asarray(X)
    user, item = np.nonzero(X)
    frame = pd.DataFrame({"user_id": user, "item_id": item, "rating": X[user, item].astype(float), "timestamp": item * 100 + 1})
    n = X.shape[1]
    items = pd.DataFrame({"item_id": range(n), "title": [chr(97 + j % 8) * 3 + chr(97 + j // 2 % 8) for j in range(n)],
                          "genres": ["Action" if j % 2 else "Drama|Comedy" for j in range(n)], "year": pd.array([1990 + j for j in range(n)], "Int64")})
    return Dataset(frame, items, pd.RangeIndex(len(X), name="user_id"))


def random_ratings(n_users, n_items, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.integers(1, 11, (n_users, n_items)) / 2
    return np.where(rng.random(X.shape) < .4, X, 0)


WIDE, TALL = dataset(random_ratings(8, 60)), dataset(random_ratings(90, 12))  # the inverse is over people and features, or over items
MODELS = [LanguageEASE(Letters(), reg=3), Hybrid(Letters(), reg=3, people=2, taste_reg=2)]
EVERY_MODEL = pytest.mark.parametrize("model", MODELS, ids=lambda model: type(model).__name__)
EITHER_FORM = pytest.mark.parametrize("data", [WIDE, TALL], ids=["dual", "primal"])


def test_three_films_by_hand_in_the_right_direction():
    Z = np.array([[1, 1, 0], [1, 0, 0], [0, 1, 0], [1, 0, 1.]])  # three people and one feature, which films 0 and 2 share
    K, diagonal = dual_ridge(Z, 1)
    B = np.eye(3) - (np.eye(3) - Z.T @ K @ Z) / diagonal
    assert np.allclose(B, [[0, 2 / 7, 3 / 11], [1 / 3, 0, -1 / 11], [1 / 2, -1 / 7, 0]])
    assert np.allclose(diagonal, [6 / 19, 7 / 19, 11 / 19])


@settings(deadline=None, max_examples=60)
@given(arrays(float, st.tuples(st.integers(1, 7), st.integers(1, 9)), elements=st.floats(-2, 2)), st.sampled_from([.5, 3, 100]))
def test_dual_and_primal_are_equal(Z, reg):
    K, diagonal = dual_ridge(Z, reg)
    P = np.linalg.inv(Z.T @ Z + reg * np.eye(Z.shape[1]))
    assert np.allclose((np.eye(Z.shape[1]) - Z.T @ K @ Z) / reg, P) and np.allclose(diagonal, P.diagonal())


@EITHER_FORM
def test_a_column_is_the_ridge_of_scikit_learn(data):
    model = LanguageEASE(Letters(), reg=3, language=5, half_life=None).fit(data)
    assert hasattr(model, "K_") == (data is WIDE)
    Z = np.vstack([model.W_.toarray(), np.sqrt(5) * model.F_.T]).astype(float)
    B = np.vstack([model.score_history(csr_matrix(row)) for row in np.eye(data.n_items, dtype="float32")])
    for j in (0, 5, 11):
        others = np.delete(np.arange(data.n_items), j)
        assert np.allclose(B[others, j], Ridge(alpha=3, fit_intercept=False).fit(Z[:, others], Z[:, j]).coef_, atol=1e-5)
    assert np.allclose(B.diagonal(), 0, atol=1e-5)


@EITHER_FORM
def test_without_language_ratings_and_age_it_is_ease(data):
    ours, ease = LanguageEASE(Letters(), language=0, rated=0, half_life=None, reg=7).fit(data), EASE(reg=7).fit(data)
    H = data.matrix()
    some = H.getnnz(axis=1) > 0
    assert np.allclose(ours.score_history(H)[some], ease.score_history(H)[some], atol=1e-4)


def test_language_leads_to_a_film_that_nobody_rated():
    X = np.array([[5, 5, 0, 0, 0], [5, 0, 5, 0, 0], [0, 5, 5, 0, 0]])
    data = dataset(X)
    data.items.loc[:, ["genres", "year"]] = ["Drama", 2000]
    data.items["title"] = ["aaa", "bbb", "ccc", "aab", "ggg"]  # the fourth is like the first
    S = LanguageEASE(Letters(), template="{title}", genres=0, year=0, reg=1, language=1).fit(data).score_history(csr_matrix([[1., 0, 0, 0, 0]]))
    assert S[0, 3] > S[0, 4] and S[0, 3] > 0


def test_ratings_below_a_like_count_a_part_and_are_left_out():
    data = dataset([[5, 3, 0], [4, 0, 2]])
    assert np.allclose(rated_rows(data, .6).toarray(), [[1, .6, 0], [1, 0, .6]])
    assert rated_rows(data, 0).nnz == 2 and rated_rows(data, 1).sum() == 4
    class Popular(LeaveOutRated, Popularity): "Any model."
    S = Popular().fit(data).score_items([1, 0])
    assert np.array_equal(np.isneginf(S), [[False, False, True], [False, True, False]])


def test_age_is_counted_in_later_likes():
    data = dataset([[5, 4, 1, 5]])  # liked in this order: 0, 1, 3; item 2 was not liked
    model = LanguageEASE(half_life=1, long=.2)
    assert np.allclose(model.history(data).toarray(), [[.2 + .8 / 4, .2 + .8 / 2, 0, 1]])
    assert np.allclose(LanguageEASE(half_life=None).history(data).toarray(), [[1, 1, 0, 1]])
    undated = Dataset(data.interactions.drop(columns="timestamp"), data.items, data.users)
    assert np.allclose(model.history(undated).toarray(), [[1, 1, 0, 1]])


@EITHER_FORM
def test_shared_taste_is_ridge_regression(data):
    X, F = data.matrix(), np.random.default_rng(0).normal(size=(data.n_items, 3))
    dense = X.toarray().astype(float)
    assert np.allclose(shared_taste(X, F, 2.), Ridge(alpha=2, fit_intercept=False).fit(dense, dense @ F).coef_.T, atol=1e-6)


def test_the_hybrid_is_the_sum_of_its_parts():
    ratings = random_ratings(8, 60)
    ratings[:, 50:] = 0
    data = dataset(ratings)
    hybrid, ease = (Model(Letters(), reg=3, half_life=None).fit(data) for Model in (Hybrid, LanguageEASE))
    H, F, liked = data.matrix()[:4], hybrid.F_.astype(float), hybrid.liked_
    X = data.matrix().toarray().astype(float)
    smooth = H @ X.T @ np.linalg.inv(X @ X.T + 100 * np.eye(8)) @ X
    ridge = Ridge(alpha=75, fit_intercept=False).fit(F[liked], smooth[:, liked].T).predict(F).T
    assert not liked[50:].any()
    assert np.allclose(hybrid.score_history(H), np.where(liked, ease.score_history(H), 0) + .15 * ridge, atol=1e-5)


@pytest.mark.parametrize("missing", [["genres"], ["year"], ["genres", "year"]])
@EVERY_MODEL
def test_missing_columns_leave_their_block_out(model, missing):
    less = Dataset(WIDE.interactions, WIDE.items.drop(columns=missing), WIDE.users)
    named = clone(model).set_params(template="{title}")
    without = clone(named).set_params(**{name: 0 for name in missing}).fit(WIDE)
    assert np.allclose(named.fit(less).score_items([0, 1]), without.score_items([0, 1]))


@EVERY_MODEL
def test_an_unknown_year_and_no_likes(model):
    data = dataset(random_ratings(8, 60))
    data.items.loc[3, "year"] = pd.NA
    fitted = clone(model).fit(data)
    S = fitted.score_history(csr_matrix(([1.], ([0], [3])), shape=(2, 60)))
    assert np.isfinite(S[0]).all() and np.isneginf(S[1]).all()


@EVERY_MODEL
def test_the_promises_of_a_recommender(model, tmp_path, monkeypatch):
    monkeypatch.setattr("llmrec.hybrids.TextEncoder", Letters)  # parameters that can be saved
    fitted = clone(model).set_params(encoder=None).fit(WIDE)
    fitted.save(tmp_path / "model.npz")
    assert np.array_equal(load_recommender(tmp_path / "model.npz").score_items(range(8)), fitted.score_items(range(8)))
    lists = fitted.recommend([0, 1], k=5)
    rated = WIDE.interactions.set_index(["user_id", "item_id"]).index
    assert not lists.set_index(["user_id", "item_id"]).index.isin(rated).any()
    assert not fitted.similar_items(3, k=4).similar_item_id.eq(3).any()
    assert np.allclose(fitted.fit(TALL).score_items([0]), clone(fitted).fit(TALL).score_items([0]), equal_nan=True)  # nothing is left of the first fit


@pytest.mark.parametrize("wrong, message", [(dict(reg=0), "reg: got 0"), (dict(reg=np.inf), "reg: got inf"), (dict(language=-1), "language: got -1"), (dict(rated=-.5), "rated: got -0.5"),
                                            (dict(long=1.5), "long: got 1.5"), (dict(half_life=0), "half_life: got 0"), (dict(half_life="x"), "half_life: got 'x'"), (dict(genres=-1), "genres: got -1"),
                                            (dict(reg="a"), "reg: got 'a'")])
@EVERY_MODEL
def test_wrong_parameters_are_named(model, wrong, message):
    with pytest.raises(ValueError, match=message):
        clone(model).set_params(**wrong).fit(WIDE)


def test_a_wrong_half_life_is_named_without_timestamps():
    undated = Dataset(WIDE.interactions.drop(columns="timestamp"), WIDE.items, WIDE.users)
    with pytest.raises(ValueError, match="half_life: got -1"):
        LanguageEASE(Letters(), half_life=-1).fit(undated)


@pytest.mark.parametrize("name, wrong", [("taste", -1), ("people", 0), ("taste_reg", 0), ("taste", "a")])
def test_wrong_parameters_of_the_hybrid_are_named(name, wrong):
    with pytest.raises(ValueError, match=f"{name}: got {wrong!r}"):
        Hybrid(Letters(), **{name: wrong}).fit(WIDE)


def test_without_taste_the_hybrid_is_the_rest_of_it():
    hybrid, ease = (model.fit(WIDE) for model in (Hybrid(Letters(), taste=0), LanguageEASE(Letters())))
    liked, found = hybrid.liked_, hybrid.score_history(WIDE.matrix())
    assert 0 < liked.sum() < 60
    assert np.allclose(found[:, liked], ease.score_history(WIDE.matrix())[:, liked]) and not found[:, ~liked].any()


@EVERY_MODEL
def test_no_like_is_said(model):
    with pytest.raises(ValueError, match="holds no like"):
        clone(model).fit(dataset([[1, 2], [3, 0]]))


def test_the_template_is_read():
    assert LanguageEASE().template == TEMPLATE
    titles, genres = (LanguageEASE(Letters(), template=t, genres=0, year=0).fit(WIDE).F_ for t in ("{title}", "{genres}"))
    assert not np.allclose(titles, genres)


def test_on_film_ratings(movielens):
    split, cold = temporal(movielens), item_cold(movielens)
    value = lambda model, part: evaluate(model, part, stage="validation", k=(10,)).summary.loc["ndcg@10", "mean"]
    assert value(LanguageEASE(Letters()), split) > 1.3 * value(EASE(), split)
    assert value(Hybrid(Letters()), cold) > value(RidgeRecommender(Letters(), shared=0), cold)
