"""The ridge identity on both sides of a matrix against scikit-learn, and what does not fit into memory."""
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from hypothesis.extra.numpy import arrays
from scipy.sparse import csr_matrix
from sklearn.linear_model import Ridge

from llmrec.recommenders.linear import EASE, ease_dual, ease_weights, gram_inverse, ridge_solve, ridge_weights
from tests.test_neighbours import dataset

matrices = st.tuples(st.integers(1, 8), st.integers(1, 8)).flatmap(lambda shape: arrays(float, shape, elements=st.floats(-2, 2).map(lambda x: round(x, 3))))


@settings(deadline=None, max_examples=80)
@given(matrices, st.floats(.3, 300), st.integers(0, 99))
def test_weights_are_those_of_scikit_learn_on_either_side(X, reg, seed):
    Y = np.random.default_rng(seed).normal(size=(len(X), 3))
    peer = Ridge(alpha=reg, fit_intercept=False, solver="svd").fit(X, Y).coef_.T.reshape(X.shape[1], 3)
    assert np.allclose(ridge_weights(X, Y, reg), peer, atol=1e-8)
    assert np.allclose(ridge_weights(X, Y[:, 0], reg), peer[:, 0], atol=1e-8)
    assert np.allclose(ridge_solve(X, X.T @ Y, reg), peer, atol=1e-8)


@settings(deadline=None, max_examples=60)
@given(matrices, st.floats(.3, 300))
def test_the_inverse_and_its_application_agree(X, reg):
    P = np.linalg.inv(X.T @ X + reg * np.eye(X.shape[1]))
    assert np.allclose(gram_inverse(X, reg), P) and np.allclose(gram_inverse(csr_matrix(X), reg), P)
    assert np.allclose(ridge_solve(X, np.eye(X.shape[1]), reg), P)
    K, diagonal = ease_dual(csr_matrix(X), reg)
    assert np.allclose(K, np.linalg.inv(X @ X.T + reg * np.eye(len(X)))) and np.allclose(diagonal, P.diagonal())


def test_three_by_three_by_hand():
    A, y = np.array([[1, 0], [1, 0], [1, 1]]), np.array([1, 1, 0])
    assert np.allclose(ridge_weights(A, y, 1), [4 / 7, -2 / 7]) and np.allclose(ridge_weights(A.T @ np.eye(3), [1, 0], 1), A @ [2 / 7, -1 / 7])


def test_what_does_not_fit_is_refused_at_once():
    huge = csr_matrix((1_000_000, 1_000_000), dtype="float32")
    with pytest.raises(ValueError, match=r"n_items = 1,000,000: this needs about 22,352 GiB of memory, .*take ALS or ItemKNN"):
        ease_weights(huge, 1)
    with pytest.raises(ValueError, match="n_users = 1,000,000"):
        ease_dual(huge, 1)


def test_the_smaller_side_decides_what_fits(monkeypatch):
    from llmrec.data import checks
    monkeypatch.setattr(checks, "memory_size", lambda: 24 * 5**2)
    for shape in ((5, 9), (9, 5)):
        EASE(1).fit(dataset(np.ones(shape, int)))
    with pytest.raises(ValueError, match="n_users = 6"):
        EASE(1).fit(dataset(np.ones((6, 9), int)))
