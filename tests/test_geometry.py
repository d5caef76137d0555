"""Projections against scikit-learn, nearest words and word vectors by hand, and how wrong calls are refused."""
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.decomposition import PCA
from sklearn.preprocessing import normalize

from llmrec.language.encoding import TextEncoder
from llmrec.language.geometry import (Projection, ProjectedEncoder, WordVectorEncoder, nearest_words,
    random_cosines, top_share)


class Letters(TransformerMixin, BaseEstimator):
    """Counts of the letters a to e, of unit length: vectors that can be worked out by hand."""

    def fit(self, X, y=None):
        return self

    def transform(self, X):
        return normalize(np.array([[text.count(letter) for letter in "abcde"] for text in X], dtype="float32"))


def vectors(n=40, d=8, seed=0):
    return normalize(np.random.default_rng(seed).standard_normal((n, d)) + 2).astype("float32")


def test_cosines_of_random_pairs():
    V = np.eye(3)
    assert not random_cosines(V, 50).any(), "a row is never paired with itself"
    V = vectors()
    S = V @ V.T
    others = S[~np.eye(len(V), dtype=bool)]
    found = random_cosines(V, 4000)
    assert np.isclose(found.mean(), others.mean(), atol=.01) and found.min() >= others.min() - 1e-6
    assert np.array_equal(found, random_cosines(V, 4000)) and not np.array_equal(found, random_cosines(V, 4000, rng=1))
    with pytest.raises(ValueError, match="V: has 1 rows"):
        random_cosines(V[:1])


def test_share_of_the_first_direction():
    assert np.isclose(top_share(np.ones((5, 4))), 1) and np.isclose(top_share(np.eye(4)), .25)
    assert np.isclose(top_share(np.array([[3., 0], [0, 1]])), .9)


def test_centring_by_hand():
    """Mean (1, 1); the differences are (1, -1), (-1, 1) and 0."""
    X = np.array([[2., 0], [0, 2], [1, 1]])
    Z = Projection().fit(X).transform(X)
    assert Z.shape == (3, 1) and np.isclose(abs(Z[0, 0]), 1) and np.isclose(Z[0, 0], -Z[1, 0]) and np.isclose(Z[2, 0], 0)


@pytest.mark.parametrize("method", ["centre", "whiten"])
@pytest.mark.parametrize("k", [1, 3, 8])
def test_equal_to_pca(method, k):
    X, new = vectors(), vectors(5, seed=1)
    peer = PCA(k, whiten=method == "whiten", svd_solver="full").fit(X)
    ours = Projection(method, k).fit(X)
    for part in (X, new):
        assert np.allclose(np.abs(ours.transform(part)), np.abs(normalize(peer.transform(part))), atol=1e-5)


@settings(deadline=None, max_examples=40)
@given(st.integers(3, 30), st.integers(2, 6), st.integers(0, 1000))
def test_whitened_has_the_identity_as_covariance(n, d, seed):
    X = np.random.default_rng(seed).standard_normal((n, d)) @ np.diag(np.arange(1, d + 1)) + 5
    model = Projection("whiten").fit(X)
    Z = (X - model.mean_) @ model.components_
    assert np.allclose(Z.mean(0), 0, atol=1e-8) and np.allclose(np.cov(Z.T), np.eye(Z.shape[1]), atol=1e-6)
    lengths = np.linalg.norm(model.transform(X), axis=1)
    assert np.allclose(lengths[lengths > 0], 1, atol=1e-5) and model.transform(X).dtype == "float32"
    moved = Projection("whiten").fit(X + 3)
    assert np.allclose(moved.transform(X + 3), model.transform(X), atol=1e-4)


def test_centring_does_not_care_about_axes():
    X = vectors()
    plain = normalize(X - X.mean(0))
    Z = Projection().fit_transform(X)
    assert np.allclose(Z @ Z.T, plain @ plain.T, atol=1e-5)


def test_directions_without_variance_are_left_out():
    X = np.hstack([vectors(20, 3), np.ones((20, 4))])
    assert Projection("whiten").fit_transform(X).shape == (20, 3)


def test_wrong_projections():
    with pytest.raises(ValueError, match="method: got 'zca'"):
        Projection("zca").fit(vectors())
    for k in (0, 9):
        with pytest.raises(ValueError, match=f"n_components: got {k}"):
            Projection("whiten", k).fit(vectors())
    with pytest.raises(ValueError, match="differ in 0 directions"):
        Projection().fit(np.ones((4, 3)))
    with pytest.raises(ValueError, match="NaN"):
        Projection().fit(np.full((4, 3), np.nan))
    with pytest.raises(ValueError, match="minimum of 2"):
        Projection().fit(np.ones((1, 3)))


@pytest.mark.parametrize("width", [1, 7, 9])
def test_vectors_of_another_width_are_refused(width):
    with pytest.raises(ValueError, match=f"X: its vectors have {width} numbers, those of `fit` 8"):
        Projection("whiten", 3).fit(vectors()).transform(vectors(5, width))


def test_projected_encoder():
    texts = ["abc", "aab", "ccd", "ed", "abe"]
    encoder = ProjectedEncoder(Letters(), "whiten", 2)
    Z = encoder.fit_transform(texts)
    assert np.allclose(Z, Projection("whiten", 2).fit_transform(Letters().transform(texts)), atol=1e-6)
    assert np.allclose(encoder.transform(texts[:2]), Z[:2], atol=1e-6)
    assert clone(encoder).get_params()["method"] == "whiten" and not hasattr(clone(encoder), "encoder_")
    assert encoder.encoder_ is not encoder.encoder


def test_nearest_words_by_hand():
    words, W = ["left", "up", "both"], normalize(np.array([[1., 0], [0, 1], [1, 1]]))
    assert nearest_words(np.array([[1., 0], [.6, .8]]), words, W, k=2) == [["left", "both"], ["both", "up"]]
    assert nearest_words(np.array([[1., 0]]), words, W, k=9) == [["left", "both", "up"]]
    assert nearest_words(np.empty((0, 2)), words, W) == []
    X = normalize(np.random.default_rng(0).standard_normal((7, 2)))
    assert nearest_words(X, words, W, block=2) == nearest_words(X, words, W)
    with pytest.raises(ValueError, match="words: got 2 words for 3"):
        nearest_words(X, words[:2], W)
    with pytest.raises(ValueError, match="k: got 0"):
        nearest_words(X, words, W, k=0)


def test_word_vectors_by_hand():
    """Two texts; 'ab' is in both (weight 1), 'c' and 'd' in one each (weight 1 + ln 3/2)."""
    encoder = WordVectorEncoder(Letters()).fit(["ab c", "ab d"])
    rare, half = 1 + np.log(3 / 2), np.sqrt(.5)
    expected = normalize([[half, half, rare, 0, 0], [half, half, 0, 2 * rare, 0], [0, 0, 0, 0, 0]])
    assert np.allclose(encoder.transform(["ab c", "d AB d", "unknown"]), expected, atol=1e-6)
    assert np.allclose(encoder.transform(["c ab"]), encoder.transform(["ab c"]))
    with pytest.raises(ValueError, match="vocabulary"):
        WordVectorEncoder(Letters()).fit(["", "?"])


def test_with_a_language_model(tmp_path):
    """A text of a single word has the vector of that word."""
    encoder = TextEncoder(device="cpu", dtype="float32", cache_dir=tmp_path)
    texts = ["alien", "alien nemo", "the pulp"]
    bag = WordVectorEncoder(encoder).fit_transform(texts)
    assert np.allclose(bag[0], encoder.transform(["alien"])[0], atol=1e-5)
    assert bag[1] @ bag[0] > bag[2] @ bag[0]
