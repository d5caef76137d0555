"""Biased matrix factorisation: its gradient by finite differences, its regressions by scikit-learn, its error over folds."""
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings, strategies as st
from scipy.optimize import approx_fprime
from scipy.sparse import csr_matrix
from sklearn.base import clone
from sklearn.linear_model import Ridge
from sklearn.metrics import root_mean_squared_error

from llmrec.data.dataset import Dataset
from llmrec.recommenders.base import load_recommender
from llmrec.recommenders.ratings import BiasedMF, cross_validate, rating_folds, ridge_rows, sgd_epoch


def dataset(R):
    """Ratings (NaN where there is none) as a Dataset that keeps empty rows and columns."""
    user, item = np.nonzero(~np.isnan(R))
    frame = pd.DataFrame({"user_id": user, "item_id": item, "rating": R[user, item]})
    return Dataset(frame, pd.DataFrame({"item_id": range(R.shape[1])}), pd.RangeIndex(R.shape[0], name="user_id"), like_from=4)


def some_ratings(n_users, n_items, share, seed=0):
    rng = np.random.default_rng(seed)
    R = rng.integers(1, 11, (n_users, n_items)) / 2
    return np.where(rng.random(R.shape) < share, R, np.nan)


def objective(model, R):
    """What both methods minimise, over the ratings it was fitted on."""
    left_over = R - (model.mean_ + model.b_u_[:, None] + model.b_i_ + model.P_ @ model.Q_.T)
    learned = (model.b_u_, model.b_i_, model.P_, model.Q_)
    return np.nansum(left_over ** 2) + model.reg * sum((x ** 2).sum() for x in learned)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**31), st.integers(1, 4), st.integers(1, 5), st.integers(0, 3), st.floats(.1, 5))
def test_the_steps_of_sgd_are_its_gradient(seed, n_users, n_items, d, reg):
    rng = np.random.default_rng(seed)
    given_ = rng.random((n_users, n_items)) < .7
    given_[0, 0] = True
    u, i = np.nonzero(given_)
    r, n_u, n_i = rng.normal(size=len(u)), np.maximum(1, given_.sum(1)), np.maximum(1, given_.sum(0))
    sizes = np.cumsum([n_users, n_items, n_users * d])

    def parts(x):
        b_u, b_i, P, Q = np.split(x, sizes)
        return b_u, b_i, P.reshape(n_users, d), Q.reshape(n_items, d)

    def error(x):
        b_u, b_i, P, Q = parts(x)
        penalty = sum((weight * (part ** 2).sum(-1)).sum() for part, weight in
                      ((b_u[:, None], n_u_rated), (b_i[:, None], n_i_rated), (P, n_u_rated), (Q, n_i_rated)))
        return ((r - b_u[u] - b_i[i] - (P[u] * Q[i]).sum(1)) ** 2).sum() + reg * penalty

    n_u_rated, n_i_rated = given_.any(1), given_.any(0)
    x, summed = rng.normal(size=sizes[-1] + n_items * d), 0
    for n in range(len(u)):
        stepped = x.copy()
        sgd_epoch(u, i, r, np.array([n]), *parts(stepped), reg / n_u, reg / n_i, 1.)
        summed = summed + stepped - x
    assert np.allclose(summed, -approx_fprime(x, error, 1e-7) / 2, atol=1e-4)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**31), st.integers(1, 6), st.integers(1, 9), st.integers(0, 5), st.floats(.1, 50))
def test_a_half_of_als_is_ridge_regressions(seed, n_rows, n_columns, d, reg):
    rng = np.random.default_rng(seed)
    u, i = np.nonzero(rng.random((n_rows, n_columns)) < .6)
    R = csr_matrix((rng.normal(size=len(u)), (u, i)), shape=(n_rows, n_columns))
    V, b, W, c = rng.normal(size=(n_columns, d)), rng.normal(size=n_columns), np.full((n_rows, d), 7.), np.full(n_rows, 7.)
    ridge_rows(R.indptr, R.indices, R.data, V, b, reg, W, c)
    for row in range(n_rows):
        seen = i[u == row]
        if not len(seen):
            assert (W[row] == 7).all() and c[row] == 7
            continue
        features = np.column_stack([V[seen], np.ones(len(seen))])
        peer = Ridge(alpha=reg, fit_intercept=False, solver="svd").fit(features, R.data[u == row] - b[seen])
        assert np.allclose([*W[row], c[row]], peer.coef_, atol=1e-8)


def test_no_pass_of_als_raises_the_objective_and_sgd_comes_to_the_same():
    R = some_ratings(30, 40, .4)
    models = [BiasedMF(d=3, reg=4, method="als", n_epochs=n).fit(dataset(R)) for n in (1, 2, 4, 8, 200)]
    falling = [objective(model, R) for model in models]
    assert (np.diff(falling) <= 1e-9).all()
    sgd = BiasedMF(d=3, reg=4, lr=.005, n_epochs=3000).fit(dataset(R))
    assert objective(sgd, R) == pytest.approx(falling[-1], rel=.02)


def test_biases_by_hand():
    """One person, two films, ratings 1 and 3 about the mean 2; reg 1: by symmetry the person's bias is 0 and the films' -1/2 and 1/2."""
    model = BiasedMF(d=0, reg=1, method="als", n_epochs=60).fit(dataset(np.array([[1., 3.]])))
    assert model.mean_ == 2 and np.allclose(model.b_u_, 0, atol=1e-9) and np.allclose(model.b_i_, [-.5, .5], atol=1e-9)
    assert np.allclose(model.predict([0, 0], [0, 1]), [1.5, 2.5], atol=1e-9)


@pytest.mark.parametrize("method", ["sgd", "als"])
def test_who_has_no_rating_falls_back_on_biases(method):
    R = some_ratings(6, 5, .8)
    R[2], R[:, 3] = np.nan, np.nan
    model = BiasedMF(d=2, reg=1, n_epochs=30, method=method).fit(dataset(R))
    rated = np.arange(len(model.b_i_)) != 3
    assert model.score_items([2])[0, rated] == pytest.approx((model.mean_ + model.b_i_)[rated]) and model.b_i_.any()
    assert np.isneginf(model.score_items([2])[0, 3]), "what nobody rated cannot be scored"
    assert model.predict([0], [3])[0] == pytest.approx(model.mean_ + model.b_u_[0])
    similar = model.item_similarity(np.array([0, 3]))
    assert np.isneginf(similar[1]).all() and np.isneginf(similar[0, 3]) and similar[0, 0] == pytest.approx(1)


def test_a_rating_of_zero_is_a_rating():
    R = np.array([[0., 5.], [0., np.nan], [np.nan, 5.]])
    model = BiasedMF(d=0, reg=.01, method="als", n_epochs=50).fit(dataset(R))
    assert model.mean_ == 2.5 and model.predict([0, 1], [0, 0]).max() < .1


@pytest.mark.parametrize("method", ["sgd", "als"])
def test_clone_refit_save_and_load(method, tmp_path):
    data = dataset(some_ratings(20, 30, .3))
    model = BiasedMF(d=4, n_epochs=5, method=method, rng=3).fit(data)
    scores = model.score_items([0, 7])
    assert scores.dtype == "float32" and np.allclose(model.predict([7], [2]), scores[1, 2].clip(.5, 5))
    assert np.array_equal(clone(model).fit(data).score_items([0, 7]), scores)
    assert np.array_equal(model.fit(dataset(some_ratings(9, 9, .5))).fit(data).score_items([0, 7]), scores)
    assert not np.array_equal(clone(model).set_params(rng=4).fit(data).score_items([0, 7]), scores)
    model.save(tmp_path / "mf.npz")
    back = load_recommender(tmp_path / "mf.npz")
    assert np.array_equal(back.score_items([0, 7]), scores) and np.array_equal(back.predict([0], [1]), model.predict([0], [1]))


def test_nothing_learnt_is_as_large_as_users_times_items(movielens):
    model = BiasedMF(d=2, n_epochs=1).fit(movielens)
    sizes = [value.size for value in vars(model).values() if isinstance(value, np.ndarray)]
    assert max(sizes) == 2 * movielens.n_items


def test_folds_hold_every_rating_out_once(movielens):
    held_out = []
    for train, part in rating_folds(movielens, 4, rng=2):
        assert len(train.interactions) + len(part) == len(movielens.interactions) and train.n_items == movielens.n_items
        assert not set(train.interactions.index) & set(part.index)
        held_out += part.index.tolist()
    assert sorted(held_out) == movielens.interactions.index.tolist()
    for wrong in (1, True, "a"):
        with pytest.raises(ValueError, match=f"n_folds: got {wrong!r}; give a whole number from 2 to 100,004"):
            next(rating_folds(movielens, wrong))


def test_cross_validation_is_what_it_says():
    data = dataset(some_ratings(15, 10, .6))
    model = BiasedMF(d=1, n_epochs=3)
    by_hand = [root_mean_squared_error(part.rating, clone(model).fit(train).predict(part.user_id, part.item_id)) for train, part in rating_folds(data, 3, rng=1)]
    assert np.array_equal(cross_validate(model, data, 3, rng=1), by_hand) and not hasattr(model, "P_")


def test_the_known_figure(movielens):
    """The tuned peer reaches an RMSE of .874 over five folds; the biases of the same peer .893."""
    assert cross_validate(BiasedMF(), movielens).mean() <= .874
    assert cross_validate(BiasedMF(d=0, reg=2), movielens).mean() <= .893


@pytest.mark.parametrize("wrong, message", [
    (dict(d=-1), "d: got -1"), (dict(d=1.5), "d: got 1.5"), (dict(d=True), "d: got True"), (dict(d="a"), "d: got 'a'"),
    (dict(n_epochs=0), "n_epochs: got 0"), (dict(reg=0), "reg: got 0; give a number from 1e-06 to 1,000,000"), (dict(reg=float("nan")), "reg: got nan"), (dict(reg="a"), "reg: got 'a'"),
    (dict(lr=-1), "lr: got -1"), (dict(lr=None), "lr: got None"), (dict(lr=True), "lr: got True"), (dict(method=None), "method: got None"),
    (dict(method="adam"), "method: got 'adam'; give one of 'sgd', 'als'"), (dict(lr=50, n_epochs=40), "lr: got 50; steps of that length diverge")])
def test_wrong_parameters(wrong, message):
    with pytest.raises(ValueError, match=message):
        BiasedMF(**wrong).fit(dataset(some_ratings(5, 6, .8)))


def test_data_without_ratings():
    data = dataset(some_ratings(3, 3, 1))
    for useless in (data.take([]), Dataset(data.interactions.drop(columns="rating"), data.items, data.users)):
        with pytest.raises(ValueError, match="train: holds no ratings"):
            BiasedMF().fit(useless)
