"""Three similarities against scikit-learn and SciPy, and the exact search against sorting everything."""
import warnings

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from hypothesis.extra.numpy import arrays
from scipy.spatial.distance import cdist
from sklearn.metrics.pairwise import cosine_similarity, euclidean_distances
from sklearn.preprocessing import normalize

from llmrec.language.similarity import SIMILARITIES, cosine, euclidean, nearest, pearson, tie_order, unit_rows

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


@settings(max_examples=50)
@given(PAIRS)
def test_euclidean_equals_scipy_and_scikit_learn(pair):
    U, V = pair
    D, wide = euclidean(U, V), [X.astype("float64") for X in pair]
    assert D.dtype == np.float32 and np.allclose(D, cdist(*wide), rtol=1e-6, atol=1e-6) and np.allclose(D, euclidean_distances(*wide), rtol=1e-6, atol=1e-5)
    assert (np.diag(euclidean(U, U)) == 0).all() and np.array_equal(SIMILARITIES["euclidean"](U, V), -D)


@settings(max_examples=50)
@given(PAIRS)
def test_pearson_equals_scipy(pair):
    U, V = pair
    P = pearson(U, V)
    varied = [np.ptp(X, axis=1) > 0 for X in pair]
    assert (P[~varied[0]] == 0).all() and (P[:, ~varied[1]] == 0).all(), "a constant vector is like nothing"
    apart = cdist(U[varied[0]].astype("float64"), V[varied[1]].astype("float64"), "correlation") if varied[0].any() and varied[1].any() else 0
    assert np.allclose(P[varied[0]][:, varied[1]], 1 - apart, rtol=0, atol=1e-6)


@pytest.mark.parametrize("offset", [0, 1e3, 1e6])
def test_near_vectors_far_from_the_origin(offset):
    rng = np.random.default_rng(0)
    V = rng.normal(size=(40, 24)) * 10.0 ** rng.integers(-4, 1, (40, 1)) + offset
    U = V + 1e-3 * rng.normal(size=V.shape)
    assert np.allclose(euclidean(U, V), cdist(U, V), rtol=1e-6, atol=0), "float64 in, right to the last digit of float32"
    assert np.allclose(euclidean(V, V[::-1])[range(40), range(39, -1, -1)], 0, atol=0)
    U, V = U[:, :8] + np.arange(8), V[:, :8] + np.arange(8)
    assert np.allclose(pearson(U, V), 1 - cdist(U, V, "correlation"), rtol=0, atol=1e-6)


def test_constant_vectors_that_rounding_would_give_a_direction():
    constant = np.full((2, 3), .1)
    assert (pearson(constant, np.arange(6.).reshape(2, 3)) == 0).all() and (pearson(constant, constant) == 0).all()


def test_very_short_and_very_long_vectors_have_directions():
    U = np.array([[3e-30, 4e-30], [3e30, 4e30], [0, 0], [1e-40, 0], [3e38, 3e38]])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.allclose(cosine(U, [[4, 3]]).ravel(), [.96, .96, 0, .8, 1.4 / 2 ** .5], atol=1e-6)
        for call in (unit_rows, lambda X: nearest(X, X, 1, "euclidean")):
            call(U[:1])
        with pytest.raises(ValueError, match="row 1 holds NaN or numbers too large"):
            unit_rows([[1., 2.], [1e300, 1.]])


def test_when_rankings_agree_and_when_not():
    rng = np.random.default_rng(0)
    U, V = rng.normal(size=(5, 8)), rng.normal(size=(30, 8))
    order = {name: lambda U, V, s=s: np.argsort(-s(U, V), axis=1, kind="stable") for name, s in SIMILARITIES.items()}
    assert np.array_equal(order["cosine"](unit_rows(U), unit_rows(V)), order["euclidean"](unit_rows(U), unit_rows(V)))
    centred = [X - X.mean(axis=1, keepdims=True) for X in (U, V)]
    assert np.array_equal(order["pearson"](*centred), order["cosine"](*centred))
    assert not np.array_equal(order["cosine"](U, V), order["euclidean"](U, V)) and not np.array_equal(order["cosine"](U, V), order["pearson"](U, V))


def test_unknown_similarities_are_refused():
    with pytest.raises(ValueError, match="similarity: got 'dot'; give one of 'cosine', 'euclidean', 'pearson'"):
        nearest(np.ones((1, 2)), np.ones((1, 2)), 1, "dot")


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_not_finite_are_refused(wrong):
    U, V = np.ones((3, 2)), np.ones((2, 2))
    U[1, 1] = wrong
    for call in (lambda: euclidean(U, V), lambda: euclidean(V, U), lambda: pearson(U, V), lambda: pearson(V, U), lambda: nearest(U, V, 1, "euclidean"),
                 lambda: unit_rows(U), lambda: cosine(U, V), lambda: cosine(V, U), lambda: nearest(U, V, 1), lambda: nearest(V, U, 1),
                 lambda: nearest(U, V, 1, block=1)):
        with pytest.raises(ValueError, match="row 1 holds NaN"):
            call()


def test_wrong_shapes_are_refused():
    for call in (cosine, euclidean, pearson, lambda U, V: nearest(U, V, 1), lambda U, V: nearest(U, V, 1, "euclidean")):
        with pytest.raises(ValueError, match="3 numbers.* 2"):
            call(np.ones((4, 2)), np.ones((4, 3)))
        with pytest.raises(ValueError, match="shape"):
            call(np.ones(2), np.ones((4, 2)))
    for k in (0, -1):
        with pytest.raises(ValueError, match=f"k: got {k}"):
            nearest(np.ones((4, 2)), np.ones((4, 2)), k)


def brute_force(U, V, k, similarity):
    """Sort every row whole; `kind="stable"` keeps the order of ties among equals."""
    S, order = SIMILARITIES[similarity](U, V), tie_order(len(V))
    codes = order[np.argsort(-S[:, order], axis=1, kind="stable")[:, :k]]
    scores, pad = np.take_along_axis(S, codes, axis=1), ((0, 0), (0, k - codes.shape[1]))
    return np.pad(scores, pad, constant_values=-np.inf), np.pad(codes, pad, constant_values=-1)


@given(matrices(4, SIGNS), matrices(4, SIGNS, least=1), st.integers(1, 15), st.integers(1, 13), st.sampled_from(["cosine", "euclidean"]))
def test_nearest_equals_brute_force_in_any_block(U, V, k, block, similarity):
    scores, codes = nearest(U, V, k, similarity, block)
    assert scores.shape == codes.shape == (len(U), k) and scores.dtype == np.float32
    for found, wanted in zip((scores, codes), brute_force(U, V, k, similarity)):
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


@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_more_pairs_than_the_memory_holds_are_refused_before_anything_is_made(similarity, monkeypatch):
    X = np.ones((1000, 2), "float32")
    monkeypatch.setattr("llmrec.data.checks.memory_size", lambda: 1_000_000)
    with pytest.raises(ValueError, match="U = 1,000, V = 1,000: this needs .* use nearest"):
        SIMILARITIES[similarity](X, X)
    assert nearest(X, X, 3, similarity, block=100)[1].shape == (1000, 3)
