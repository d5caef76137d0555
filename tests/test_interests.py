"""Interests against loops, by hand, and in their limits; and the recommender built on them."""
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from scipy.sparse import csr_matrix
from sklearn.base import clone
from sklearn.cluster import KMeans

from llmrec.language.encoding import TextEncoder
from llmrec.language.similarity import SIMILARITIES, unit_rows
from llmrec.recommenders.base import load_recommender
from llmrec.tastes.interests import InterestRecommender, group_directions, interest_profiles
from llmrec.tastes.histories import mean_profile, weigh_history
from llmrec.tastes.profiles import ProfileRecommender
from tests.test_histories import histories
from tests.test_profiles import N_USERS, Letters, films


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


# The recommender

@pytest.mark.parametrize("way", [{}, {"dislikes": .5}, {"half_life": 2., "by_rating": True}], ids=str)
def test_an_item_is_scored_by_the_nearest_interest(way):
    model = InterestRecommender(Letters(), **way).fit(films())
    H = weigh_history(films(), **way)
    S, (U, owner) = model.score_items(model.train_.users), interest_profiles(H, model.V_)
    wanted = [SIMILARITIES["cosine"](U[owner == u], model.V_).max(axis=0) for u in range(N_USERS)]
    assert np.allclose(S[:N_USERS], wanted, atol=1e-5) and (S[N_USERS] == -np.inf).all()


def test_with_one_interest_it_is_the_mean_profile():
    one, mean = (model.fit(films()).score_items(range(N_USERS)) for model in (InterestRecommender(Letters(), 1), ProfileRecommender(Letters())))
    assert np.allclose(one, mean, atol=1e-5)


@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_an_index_finds_the_best_of_every_interest(similarity):
    whole, few = (InterestRecommender(Letters(), similarity=similarity, index=index, n_candidates=15).fit(films()) for index in ("", "Flat"))
    S, F = (model.score_items(range(N_USERS)) for model in (whole, few))
    found = (F > -np.inf).sum(axis=1)
    assert ((15 <= found) & (found <= 45)).all() and np.allclose(F[F > -np.inf], S[F > -np.inf], atol=1e-4)
    assert np.allclose(-np.sort(-S, axis=1)[:, :15], -np.sort(-F, axis=1)[:, :15], atol=1e-4)


def test_it_can_be_cloned_saved_and_asked_in_words(tmp_path):
    model = InterestRecommender(TextEncoder(device="cpu", dtype="float32", cache_dir=str(tmp_path)), 2, template="{title}", index="Flat").fit(films())
    model.save(tmp_path / "model.npz")
    back = load_recommender(tmp_path / "model.npz")
    assert back.recommend(range(N_USERS)).equals(model.recommend(range(N_USERS))) and back.recommend_text("space").equals(model.recommend_text("space"))
    assert clone(model).get_params(deep=False).keys() == model.get_params(deep=False).keys() and "method" not in model.get_params(deep=False)


@pytest.mark.parametrize("name, value", [("n_interests", 0), ("n_interests", "3"), ("index", 5), ("similarity", "dot"), ("centre", "yes"), ("dislikes", -1)])
def test_a_setting_that_cannot_be_used_is_named(name, value):
    model = InterestRecommender(Letters()).set_params(**{name: value})
    with pytest.raises((ValueError, TypeError), match=f"^{name}: got"):
        model.fit(films())
    assert not hasattr(model, "train_")
