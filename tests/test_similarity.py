"""Cosines against scikit-learn and SciPy, and the exact search against sorting everything."""
import numpy as np
import pytest
from hypothesis import given, strategies as st
from hypothesis.extra.numpy import arrays
from scipy.spatial.distance import cdist
from sklearn.metrics.pairwise import cosine_similarity
from sklearn.preprocessing import normalize

from llmrec.similarity import cosine, nearest, unit_rows

NUMBERS = st.floats(-50, 50, width=32).map(lambda x: round(x, 2))
SIGNS = st.sampled_from([-1, 1])    # rows of four have length 2, so their cosines are exact in float32 and often equal


def matrices(d, numbers=NUMBERS, least=0):
    """Matrices of width d; a row in a few is zero."""
    return st.integers(least, 12).flatmap(lambda n: st.tuples(
        arrays("float32", (n, d), elements=numbers), st.lists(st.sampled_from([0, 1, 1, 1]), min_size=n, max_size=n),
    )).map(lambda pair: pair[0] * np.array(pair[1], "float32")[:, None])


PAIRS = st.integers(1, 9).flatmap(lambda d: st.tuples(matrices(d, least=1), matrices(d, least=1)))


@given(PAIRS)
def test_cosine_equals_scikit_learn_and_scipy(pair):
    U, V = pair
    C = cosine(U, V)
    assert C.dtype == np.float32 and np.allclose(C, cosine_similarity(U.astype("float64"), V.astype("float64")), rtol=0, atol=1e-6)
    there, here = U.any(axis=1), V.any(axis=1)
    assert (C[~there] == 0).all() and (C[:, ~here] == 0).all(), "a zero vector is like nothing"
    if there.any() and here.any():
        apart = cdist(U[there].astype("float64"), V[here].astype("float64"), "cosine")
        assert np.allclose(C[there][:, here], 1 - apart, rtol=0, atol=1e-6)


@given(PAIRS, st.floats(.01, 100))
def test_cosine_looks_at_directions_only(pair, scale):
    U, V = pair
    C = cosine(U, V)
    assert np.allclose(C, cosine(scale * U, V), atol=1e-6) and np.allclose(C, cosine(V, U).T, atol=1e-6)
    assert np.allclose(np.diag(cosine(U, U)), U.any(axis=1), atol=1e-6) and np.abs(C).max() <= 1 + 1e-6


@given(st.integers(1, 9).flatmap(matrices))
def test_unit_rows_equal_scikit_learn(X):
    before = X.copy()
    unit = unit_rows(X)
    assert (X == before).all() and unit.dtype == np.float32 and unit.shape == X.shape
    if len(X):
        assert np.allclose(unit, normalize(X.astype("float64")), rtol=0, atol=1e-6)


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_not_finite_are_refused(wrong):
    U, V = np.ones((3, 2)), np.ones((2, 2))
    U[1, 1] = wrong
    for call in (lambda: unit_rows(U), lambda: cosine(U, V), lambda: cosine(V, U), lambda: nearest(U, V, 1), lambda: nearest(V, U, 1),
                 lambda: nearest(U, V, 1, block=1)):
        with pytest.raises(ValueError, match="row 1 holds NaN"):
            call()


def test_wrong_shapes_are_refused():
    for call in (cosine, lambda U, V: nearest(U, V, 1)):
        with pytest.raises(ValueError, match="3 numbers.* 2"):
            call(np.ones((4, 2)), np.ones((4, 3)))
        with pytest.raises(ValueError, match="shape"):
            call(np.ones(2), np.ones((4, 2)))
    for k in (0, -1):
        with pytest.raises(ValueError, match=f"k: got {k}"):
            nearest(np.ones((4, 2)), np.ones((4, 2)), k)


def brute_force(U, V, k):
    """Sort every row whole; `kind="stable"` puts the lower row first among equals."""
    S = cosine(U, V)
    codes = np.argsort(-S, axis=1, kind="stable")[:, :k]
    scores, pad = np.take_along_axis(S, codes, axis=1), ((0, 0), (0, k - codes.shape[1]))
    return np.pad(scores, pad, constant_values=-np.inf), np.pad(codes, pad, constant_values=-1)


@given(matrices(4, SIGNS), matrices(4, SIGNS, least=1), st.integers(1, 15), st.integers(1, 13))
def test_nearest_equals_brute_force_in_any_block(U, V, k, block):
    scores, codes = nearest(U, V, k, block=block)
    assert scores.shape == codes.shape == (len(U), k) and scores.dtype == np.float32
    for found, wanted in zip((scores, codes), brute_force(U, V, k)):
        assert (found == wanted).all()


def test_nearest_in_real_widths():
    rng = np.random.default_rng(0)
    U, V = rng.normal(size=(70, 384)), rng.normal(size=(300, 384))
    S = cosine_similarity(U, V)
    for block in (1, 7, 1024):
        scores, codes = nearest(U, V, 20, block=block)
        assert np.allclose(scores, np.take_along_axis(S, codes, axis=1), rtol=0, atol=1e-6)
        assert np.allclose(scores, -np.sort(-S, axis=1)[:, :20], rtol=0, atol=1e-6), "twenty scores as high as can be"


def test_nothing_to_look_for_and_nowhere_to_look():
    assert cosine(np.ones((0, 2)), np.ones((3, 2))).shape == (0, 3) and unit_rows(np.ones((0, 2))).shape == (0, 2)
    for n_u, n_v in [(0, 3), (3, 0)]:
        scores, codes = nearest(np.ones((n_u, 2)), np.ones((n_v, 2)), 2)
        assert scores.shape == codes.shape == (n_u, 2) and (codes == -1).all() and (scores == -np.inf).all()
