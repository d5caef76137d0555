"""The hybrid by hand, against independent solvers, in both forms, and in the right direction."""
import tracemalloc

import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_matrix
from sklearn.base import clone
from sklearn.linear_model import Ridge

from llmrec.data.dataset import Dataset
from llmrec.data.text import TEMPLATE
from llmrec.language.encoding import Stateless
from llmrec.evaluation.splitting import item_cold, temporal
from llmrec.evaluation.protocol import evaluate
from llmrec.recommenders.base import load_recommender
from llmrec.recommenders.linear import EASE
from llmrec.tastes.probing import RidgeRecommender
from llmrec.tastes.hybrids import Hybrid, age_weights, check_size, nearest_prior, rated_rows, score_few_hybrid, unexplained, volume


class Letters(Stateless):
    """Unit vectors from counts of the letters a to h: an encoder that needs no model."""

    def transform(self, X):
        counts = np.array([[text.lower().count(letter) for letter in "abcdefgh"] for text in X], "float32")
        return counts / np.maximum(np.linalg.norm(counts, axis=1, keepdims=True), 1e-9)


def dataset(X, **columns):
    """Ratings, 0 for none, as a Dataset with titles, genres and years, in which later items come later in time."""
    X = np.asarray(X)
    user, item = np.nonzero(X)
    frame = pd.DataFrame({"user_id": user, "item_id": item, "rating": X[user, item].astype(float), "timestamp": item * 100 + 1})
    n = X.shape[1]
    items = pd.DataFrame({"item_id": range(n), "title": [chr(97 + j % 8) * 3 + chr(97 + j // 2 % 8) for j in range(n)],
                          "genres": ["Action" if j % 2 else "Drama|Comedy" for j in range(n)], "year": pd.array([1990 + j for j in range(n)], "Int64")})
    return Dataset(frame, items.assign(**columns), pd.RangeIndex(len(X), name="user_id"))


def random_ratings(n_users, n_items, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.integers(1, 11, (n_users, n_items)) / 2
    return np.where(rng.random(X.shape) < .4, X, 0)


WIDE, TALL = dataset(random_ratings(8, 60)), dataset(random_ratings(90, 12))  # the inverse is over users, or over items
MODEL = Hybrid(Letters(), item_reg=3, n_neighbours=4)
EITHER_FORM = pytest.mark.parametrize("data", [WIDE, TALL], ids=["dual", "primal"])


def weights(model):
    """The weights B of a fitted hybrid, one row for each liked item alone; only columns of items with likes are sums."""
    return np.vstack([model.score_history(csr_matrix(row)) for row in np.eye(model.train_.n_items, dtype="float32")])


def test_neighbours_of_the_prior_by_hand():
    F = np.array([[1, 0], [0, 1], [.8, .6], [0, 0]])
    B0 = nearest_prior(F, np.array([True, True, False, True]), 2, 1).toarray()
    assert np.allclose(B0[:, 2], [.8 / 1.4, .6 / 1.4, 0, 0])  # the direction: a column is what speaks for the item
    assert not B0[2].any() and not B0[:, [0, 1, 3]].any()  # nobody likes item 2, items 0 and 1 share nothing, of 3 nothing is known
    assert np.allclose(nearest_prior(F, np.array([True, True, False, True]), 2, 2).toarray()[:2, 2], [.64, .36])
    assert np.allclose(nearest_prior(F, np.array([True, True, True, True]), 1, 3).toarray()[:, 1], [0, 0, 1, 0])


@pytest.mark.parametrize("block", [1, 7, 1024])
def test_the_prior_does_not_hang_on_blocks_and_is_no_neighbour_of_itself(block):
    F = np.random.default_rng(0).normal(size=(40, 5))
    B0 = nearest_prior(F, np.arange(40) % 3 > 0, 6, 3, block)
    assert np.allclose(B0.toarray(), nearest_prior(F, np.arange(40) % 3 > 0, 6, 3).toarray())
    assert np.allclose(B0.sum(axis=0), 1, atol=1e-6) and not B0.diagonal().any() and (B0.getnnz(axis=0) <= 6).all()


@EITHER_FORM
def test_a_column_is_the_ridge_of_scikit_learn_on_what_the_prior_leaves_over(data):
    model = clone(MODEL).set_params(rated=.6, half_life=None).fit(data)
    assert hasattr(model, "K_") == (data is WIDE)
    X, B0, B = model.W_.toarray().astype(float), model.B0_.toarray().astype(float), weights(model)
    for j in np.flatnonzero(model.liked_)[[0, 3, -1]]:
        others = np.delete(np.arange(data.n_items), j)
        rest = Ridge(alpha=3, fit_intercept=False).fit(X[:, others], X[:, j] - X[:, others] @ B0[others, j])
        assert np.allclose(B[others, j], B0[others, j] + rest.coef_, atol=1e-5)
    assert np.allclose(B.diagonal()[model.liked_], 0, atol=1e-5)


@EITHER_FORM
def test_without_prior_ratings_and_age_it_is_ease(data):
    ours, ease = clone(MODEL).set_params(prior=0, rated=0, half_life=None, item_reg=7).fit(data), EASE(reg=7).fit(data)
    H, liked = data.likes()[data.likes().getnnz(axis=1) > 0], ours.liked_
    assert np.allclose(ours.score_history(H)[:, liked], ease.score_history(H)[:, liked], atol=1e-4)
    assert np.isneginf(ours.score_history(H)[:, ~liked]).all()  # without language nothing is known of items without likes


def test_what_others_leave_open_is_the_same_in_both_forms():
    model, H = clone(MODEL).fit(WIDE), WIDE.likes()
    W = model.W_.toarray().astype(float)
    G = 3 * np.linalg.inv(W.T @ W + 3 * np.eye(60))
    assert np.allclose(unexplained(model, H), H @ G, atol=1e-6)


def test_a_heavy_penalty_leaves_the_prior_and_a_light_one_the_likes():
    heavy = clone(MODEL).set_params(item_reg=1e9).fit(WIDE)
    liked = heavy.liked_
    assert np.allclose(weights(heavy)[:, liked], heavy.B0_.toarray()[:, liked], atol=1e-5)
    light, without = (clone(MODEL).set_params(item_reg=1e-3, prior=p, half_life=None).fit(TALL) for p in (.8, 0))
    assert np.allclose(weights(light)[:, light.liked_], weights(without)[:, light.liked_], atol=1e-3)


def test_for_items_without_likes_the_ridge_alone_decides_their_order():
    ratings = random_ratings(8, 60)
    ratings[:, 50:] = 0
    data = dataset(ratings)
    hybrid, ridge = clone(MODEL).fit(data), RidgeRecommender(Letters()).fit(data)
    H, cold = hybrid.X_, ~hybrid.liked_
    assert cold[50:].all()
    S, alone = hybrid.score_history(H)[:, cold], ridge.score_history(data.likes())[:, cold]
    loud = volume(unexplained(hybrid, H) @ hybrid.B0_, ridge.score_history(data.likes()), hybrid.liked_)
    assert (loud > 0).all() and np.allclose(S, loud * alone, rtol=1e-4)


def test_the_ridge_is_as_loud_as_the_prior():
    told, ridge = np.array([[3., 4, 100]]), np.array([[1., 0, 7]])
    assert np.allclose(volume(told, ridge, np.array([True, True, False])), 5)
    assert np.allclose(volume(told, np.array([[0., -np.inf, 1]]), np.array([True, True, False])), 1)  # a silent one


def test_an_item_of_which_nothing_is_known_is_not_scored():
    items = dict(title=["aaa", "bbb", "ccc", ""], genres=["Drama", "Drama", "Action", ""], year=pd.array([1990, 1990, 1990, None], "Int64"))
    model = clone(MODEL).set_params(n_neighbours=2).fit(dataset([[5, 5, 0, 0], [5, 0, 0, 0]], **items))
    S = model.score_history(csr_matrix([[1., 0, 0, 0]]))
    assert np.isfinite(S[0, [1, 2]]).all() and np.isneginf(S[0, 3])


def test_ratings_below_a_like_count_a_part():
    data = dataset([[5, 3, 0], [4, 0, 2]])
    assert np.allclose(rated_rows(data, .6).toarray(), [[1, .6, 0], [1, 0, .6]])
    assert rated_rows(data, 0).nnz == 2 and rated_rows(data, 1).sum() == 4


def test_age_is_counted_in_later_likes():
    data = dataset([[5, 4, 1, 5]])  # liked in this order: 0, 1, 3; item 2 was not liked
    assert np.allclose(age_weights(data, 1, .2).toarray(), [[.2 + .8 / 4, .2 + .8 / 2, 0, 1]])
    assert np.allclose(Hybrid(half_life=1, long=.2).history(data).toarray(), age_weights(data, 1, .2).toarray())
    assert np.allclose(age_weights(data, None, .2).toarray(), [[1, 1, 0, 1]])
    undated = Dataset(data.interactions.drop(columns="timestamp"), data.items, data.users)
    assert np.allclose(age_weights(undated, 1, .2).toarray(), [[1, 1, 0, 1]])


@pytest.mark.parametrize("missing", [["genres"], ["year"], ["genres", "year"]])
def test_missing_columns_leave_their_block_out(missing):
    less = Dataset(WIDE.interactions, WIDE.items.drop(columns=missing), WIDE.users)
    named = clone(MODEL).set_params(template="{title}")
    without = clone(named).set_params(**{name: 0 for name in missing}).fit(WIDE)
    assert np.allclose(named.fit(less).score_items([0, 1]), without.score_items([0, 1]))


def test_an_unknown_year_and_no_likes():
    data = dataset(random_ratings(8, 60))
    data.items.loc[3, "year"] = pd.NA
    S = clone(MODEL).fit(data).score_history(csr_matrix(([1.], ([0], [3])), shape=(2, 60)))
    assert np.isfinite(S[0]).all() and np.isneginf(S[1]).all()


@EITHER_FORM
def test_the_promises_of_a_recommender(data, tmp_path, monkeypatch):
    monkeypatch.setattr("llmrec.language.encoding.TextEncoder", Letters)  # parameters that can be saved
    fitted = clone(MODEL).set_params(encoder=None).fit(data)
    fitted.save(tmp_path / "model.npz")
    back = load_recommender(tmp_path / "model.npz")
    assert np.array_equal(back.score_items(range(8)), fitted.score_items(range(8)))
    codes = np.tile(np.flatnonzero(fitted.liked_)[:5], (8, 1))
    assert np.allclose(back.score_candidates(range(8), codes), fitted.score_items(range(8))[:, codes[0]], atol=1e-5)
    lists = fitted.recommend([0, 1], k=5)
    rated = data.interactions.set_index(["user_id", "item_id"]).index
    assert not lists.set_index(["user_id", "item_id"]).index.isin(rated).any()
    assert not fitted.similar_items(3, k=4).similar_item_id.eq(3).any()
    other = TALL if data is WIDE else WIDE
    assert np.allclose(fitted.fit(other).score_items([0]), clone(fitted).fit(other).score_items([0]))  # nothing is left of the first fit


@pytest.mark.parametrize("wrong", [dict(item_reg=0), dict(item_reg=np.inf), dict(prior=-1), dict(rated=-.5), dict(long=1.5), dict(half_life=0), dict(half_life="x"),
                                   dict(genres=-1), dict(reg="a"), dict(reg=0), dict(shared=-1), dict(power=0), dict(n_neighbours=0), dict(n_neighbours=True), dict(n_neighbours=2.5)])
def test_wrong_parameters_are_named(wrong):
    [(name, value)] = wrong.items()
    with pytest.raises(ValueError, match=f"{name}: got {value!r}"):
        clone(MODEL).set_params(**wrong).fit(WIDE)


def test_a_wrong_half_life_is_named_without_timestamps():
    undated = Dataset(WIDE.interactions.drop(columns="timestamp"), WIDE.items, WIDE.users)
    with pytest.raises(ValueError, match="half_life: got -1"):
        clone(MODEL).set_params(half_life=-1).fit(undated)


def test_no_like_is_said():
    with pytest.raises(ValueError, match="holds no like"):
        clone(MODEL).fit((data := dataset([[5, 2], [3, 0]])).take((data.interactions.rating < 4).to_numpy()))


def test_the_template_is_read():
    assert Hybrid().template == TEMPLATE
    titles, genres = (clone(MODEL).set_params(template=t, genres=0, year=0).fit(WIDE).F_ for t in ("{title}", "{genres}"))
    assert not np.allclose(titles, genres)


@EITHER_FORM
@pytest.mark.parametrize("change", [{}, {"prior": 0}, {"half_life": None, "rated": .5}], ids=str)
def test_candidates_are_scored_as_among_all(data, change, monkeypatch):
    """In blocks or not, with and without candidates that nobody likes, and by no other columns where all have likes."""
    model = clone(MODEL).set_params(**change).fit(data)
    whole, liked = model.score_items(data.users), np.flatnonzero(model.liked_)
    for among in (np.arange(data.n_items), liked):
        codes = np.random.default_rng(0).choice(among, (len(data.users), 5))
        codes[0, :2] = -1
        S, wanted = model.score_candidates(data.users, codes), np.take_along_axis(whole, codes, axis=1)
        wanted[codes < 0] = -np.inf
        assert S.dtype == np.float32 and np.array_equal(np.isneginf(S), np.isneginf(wanted))
        assert np.allclose(S[S > -np.inf], wanted[S > -np.inf], atol=1e-5)
        assert np.allclose(score_few_hybrid(model, np.arange(data.n_users), codes, block=3)[S > -np.inf], S[S > -np.inf], atol=1e-5)
    monkeypatch.setattr(Hybrid, "score_history", lambda *args: pytest.fail("all items were scored"))
    some = np.flatnonzero(data.likes().getnnz(axis=1))[:2]
    assert np.isfinite(model.score_candidates(data.users[some], [[liked[0]], [liked[1]]])).all()


def test_what_does_not_fit_the_memory_is_refused_with_the_figure_and_a_model_that_fits(monkeypatch):
    monkeypatch.setattr("llmrec.data.checks.memory_size", lambda: 2**33)
    with pytest.raises(ValueError, match=r"n_users = 1,000,000, n_items = 1,000,000: this needs about 22,352 GiB of memory, of 8 GiB; give RidgeRecommender\(\)"):
        check_size(1_000_000, 1_000_000)
    check_size(10_000, 20_000)
    monkeypatch.setattr("llmrec.data.checks.memory_size", lambda: 1000)
    with pytest.raises(ValueError, match="n_users = 8, n_items = 60: this needs"):
        clone(MODEL).fit(WIDE)


def test_the_prior_of_many_items_holds_a_small_block():
    """All at once would take several times 1.6 GB."""
    rng = np.random.default_rng(0)
    tracemalloc.start()
    B0 = nearest_prior(rng.standard_normal((20_000, 4), dtype="float32"), np.arange(20_000) < 19_900, 3, 1., block=20_000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**30 and B0.getnnz() == 60_000


def test_on_film_ratings(movielens):
    split, cold = temporal(movielens), item_cold(movielens)
    value = lambda model, part: evaluate(model, part, stage="validation", k=(10,)).summary.loc["ndcg@10", "mean"]
    assert value(Hybrid(Letters()), split) > 1.15 * value(EASE(), split)
    assert np.isclose(value(Hybrid(Letters()), cold), value(RidgeRecommender(Letters()), cold), atol=1e-4)
