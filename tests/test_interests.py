"""Means, attention and interests against loops, by hand, and in their limits."""
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from scipy.sparse import csr_matrix
from scipy.special import softmax
from sklearn.cluster import KMeans

from llmrec.language.similarity import SIMILARITIES, cosine, unit_rows
from llmrec.tastes.interests import attention_scores, group_directions, interest_profiles, mean_profile


def histories(seed, dislikes=False, n_items=15):
    """Nine people, the fourth without any film, and vectors of 15 items."""
    rng = np.random.default_rng(seed)
    W = np.where(rng.random((9, n_items)) < .3, rng.uniform(.2, 2, (9, n_items)), 0)
    if dislikes:
        W *= rng.choice([1, 1, -1], W.shape)
    W[3] = 0
    return W.astype("float32"), rng.normal(size=(n_items, 6)).astype("float32")


@pytest.mark.parametrize("seed", range(3))
def test_mean_profile_equals_a_loop(seed):
    W, V = histories(seed, dislikes=seed == 2)
    U = mean_profile(csr_matrix(W), V)
    assert U.dtype == np.float32 and U.shape == (9, 6) and (U[3] == 0).all()
    for u, row in zip(U, W):
        assert np.allclose(u, sum((w * v for w, v in zip(row, V)), np.zeros(6)) / (abs(row).sum() or 1), atol=1e-6)


# Attention

@pytest.mark.parametrize("similarity", SIMILARITIES)
@pytest.mark.parametrize("dislikes", [False, True])
def test_attention_equals_a_loop_over_people_and_items(similarity, dislikes):
    W, V = histories(0, dislikes)
    S = attention_scores(csr_matrix(W), V, .2, similarity, block=4)
    assert S.dtype == np.float32 and S.shape == W.shape and (S[3] == 0).all()
    C = SIMILARITIES[similarity](V, V)
    for u in np.delete(range(9), 3):
        films = np.flatnonzero(W[u])
        for i in range(len(V)):
            loudness = softmax(np.log(abs(W[u, films])) + C[films, i] / .2)
            assert S[u, i] == pytest.approx((np.sign(W[u, films]) * loudness) @ C[films, i], abs=2e-5)


def test_attention_between_its_limits():
    W, V = histories(1)
    H, C = csr_matrix(W), cosine(V, V)
    rows = np.delete(range(9), 3)
    hot, cold = attention_scores(H, V, 1e6)[rows], attention_scores(H, V, .005)[rows]
    assert np.allclose(hot, W[rows] @ C / W[rows].sum(axis=1, keepdims=True), atol=1e-4)
    assert np.allclose(cold, [C[row > 0].max(axis=0) for row in W[rows]], atol=.02)
    assert np.array_equal(attention_scores(H, V, .1), attention_scores(H, V, .1, block=1000))
    assert attention_scores(csr_matrix((2, 15)), V).tolist() == [[0] * 15] * 2


def test_attention_refuses_what_it_cannot_tell_apart():
    H = csr_matrix(np.float32([[1, 0], [0, 1]]))
    with pytest.raises(ValueError, match="temperature: 1e-05 is too low here"):
        attention_scores(H, np.float32([[1, 0], [0, 1]]), 1e-5)
    for temperature in (0, -1., np.nan):
        with pytest.raises(ValueError, match="temperature: got .*; give a number above 0"):
            attention_scores(H, np.eye(2), temperature)
    with pytest.raises(ValueError, match="similarity: got 'dot'; accepted are 'cosine'"):
        attention_scores(H, np.eye(2), similarity="dot")


# Interests

def test_one_interest_is_the_mean_and_as_many_as_likes_are_the_likes():
    W, V = histories(2, dislikes=True)
    H, liking = csr_matrix(W), np.flatnonzero((W > 0).any(axis=1))
    U, owner = interest_profiles(H, V, 1)
    assert owner.tolist() == liking.tolist() and np.allclose(U, mean_profile(H, V)[liking], atol=1e-6)
    H = csr_matrix(np.maximum(W, 0))
    U, owner = interest_profiles(H, V, 15)
    assert np.bincount(owner, minlength=9).tolist() == (W > 0).sum(axis=1).tolist()
    assert all(np.allclose(np.sort(U[owner == u], axis=0), np.sort(V[W[u] > 0], axis=0), atol=1e-6) for u in liking)


def test_two_tastes_are_found_and_a_dislike_is_taken_from_the_nearest():
    V = np.float32([[1, 0], [1, .1], [0, 1], [.1, 1], [1, .5]])
    U, owner = interest_profiles(csr_matrix(np.float32([[1, 1, 1, 3, 0], [0, 0, 0, 0, 0], [1, 1, 1, 1, -1]])), V, 2)
    assert owner.tolist() == [0, 0, 2, 2]
    first, last = (part[np.argsort(part[:, 0])] for part in (U[:2], U[2:]))
    assert np.allclose(first, [[.075, 1], [1, .05]]) and np.allclose(last, [[.05, 1], [1 / 3, -.4 / 3]])


def test_films_at_one_place_are_one_interest():
    V = np.float32([[1, 0], [2, 0], [5, 0]])
    assert interest_profiles(csr_matrix(np.ones((1, 3), "float32")), V, 3)[1].tolist() == [0]
    nothing, owner = interest_profiles(csr_matrix((4, 3)), V)
    assert nothing.shape == (0, 2) and len(owner) == 0


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 6), st.integers(1, 25))
def test_groups_are_a_resting_point_of_spherical_k_means(seed, k, n):
    rng = np.random.default_rng(seed)
    X, weights = rng.normal(size=(n, 4)).astype("float32"), rng.uniform(.1, 2, n)
    centres = group_directions(X, weights, k, n_steps=200)
    assert 1 <= len(centres) <= min(k, n) and np.allclose(np.linalg.norm(centres, axis=1), 1, atol=1e-5)
    groups = (unit_rows(X) @ centres.T).argmax(axis=1)
    means = [unit_rows((weights[groups == g] @ unit_rows(X)[groups == g])[None])[0] for g in np.unique(groups)]
    assert np.allclose(centres, means, atol=1e-4)


def test_clear_groups_are_those_of_scikit_learn():
    rng = np.random.default_rng(0)
    X = unit_rows(np.eye(4)[np.repeat(range(4), 8)] + .1 * rng.normal(size=(32, 4)))
    ours = (X @ group_directions(X, np.ones(32), 4).T).argmax(axis=1)
    theirs = KMeans(4, n_init=10, random_state=0).fit_predict(X)
    assert len(set(zip(ours, theirs))) == 4
