"""Softmax against SciPy and at its limits, the likelihood against a loop, and lists with probabilities."""
import numpy as np
import pytest
import scipy.special
from hypothesis import given, strategies as st
from hypothesis.extra.numpy import arrays
from scipy.sparse import csr_matrix

from llmrec.recommenders import Popularity, Random
from llmrec.ranking import nll, recommend_with_probability, softmax

SCORES = st.tuples(st.integers(1, 6), st.integers(1, 9)).flatmap(
    lambda shape: arrays("float32", shape, elements=st.one_of(st.floats(-20, 20, width=32), st.just(-np.inf))))
TEMPERATURES = st.floats(.02, 50)


@given(SCORES, TEMPERATURES)
def test_softmax_equals_scipy(S, temperature):
    P = softmax(S, temperature)
    some = np.isfinite(S).any(axis=1)
    assert P.dtype == np.float32 and (P[~np.isfinite(S)] == 0).all() and np.allclose(P.sum(axis=1), some, atol=1e-6)
    assert np.allclose(P[some], scipy.special.softmax(S[some].astype("float64") / temperature, axis=1), rtol=0, atol=1e-6)


@given(arrays("float32", (3, 5), elements=st.integers(-64, 64)), st.integers(-1000, 1000), st.sampled_from([.5, 1, 2]))
def test_softmax_does_not_see_a_shift(S, shift, temperature):
    assert (softmax(S + np.float32(shift), temperature) == softmax(S, temperature)).all()


@pytest.mark.parametrize("temperature", [1e-300, 1e-40, 1e-6, 1, 1e6, 1e300])
@pytest.mark.filterwarnings("error")
def test_softmax_at_extreme_scores(temperature):
    top = np.finfo("float32").max
    S = np.array([[top, -top, -np.inf], [1, 1, 0], [-np.inf] * 3, [-top, -np.inf, -np.inf]], "float32")
    P = softmax(S, temperature)
    assert np.isfinite(P).all() and np.allclose(P.sum(axis=1), [1, 1, 0, 1]) and P[1, 0] == P[1, 1] and P[3, 0] == 1
    if temperature < .01:
        assert (P[:2] == [[1, 0, 0], [.5, .5, 0]]).all(), "a cold softmax takes the best only"


@pytest.mark.parametrize("temperature", [0, -1, np.nan, np.inf])
def test_wrong_temperatures_are_refused(temperature, movielens):
    S, labels = np.ones((1, 2), "float32"), csr_matrix([[1, 0]])
    model = Popularity().fit(movielens)
    for call in (lambda: softmax(S, temperature), lambda: nll(S, labels, temperature),
                 lambda: recommend_with_probability(model, 1, temperature=temperature)):
        with pytest.raises(ValueError, match=f"temperature: got {temperature}"):
            call()


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_scores_that_are_no_numbers_are_refused(wrong):
    S = np.array([[0, 1], [wrong, 1]], "float32")
    for call in (lambda: softmax(S), lambda: nll(S, csr_matrix([[1, 0], [0, 0]]))):
        with pytest.raises(ValueError, match="S: holds NaN or"):
            call()


@given(arrays("float32", (4, 6), elements=st.floats(-5, 5, width=32)), arrays("int8", (4, 6), elements=st.integers(0, 1)), TEMPERATURES)
def test_nll_equals_a_loop(S, likes, temperature):
    if not likes.any():
        with pytest.raises(ValueError, match="labels: are empty"):
            nll(S, csr_matrix(likes), temperature)
        return
    losses = []
    for row, items in enumerate(likes):
        powers = np.exp(S[row].astype("float64") / temperature)
        losses += [-np.log(powers[item] / powers.sum()) for item in np.flatnonzero(items)]
    assert np.isclose(nll(S, csr_matrix(likes), temperature), np.mean(losses), rtol=1e-6)


@pytest.mark.filterwarnings("error")
def test_nll_of_what_cannot_be_chosen_is_infinite():
    S = np.array([[0, -np.inf], [-np.inf, -np.inf]], "float32")
    assert np.isclose(nll(S, csr_matrix([[1, 0], [0, 0]])), 0, atol=1e-7)
    for impossible in ([[0, 1], [0, 0]], [[0, 0], [1, 0]]):
        assert nll(S, csr_matrix(impossible)) == np.inf


@pytest.mark.parametrize("exclude_seen", [True, False])
@pytest.mark.parametrize("model", [Random(), Popularity()], ids=lambda model: type(model).__name__)
def test_lists_agree_with_recommend(model, exclude_seen, movielens):
    model.fit(movielens)
    users = movielens.users[[5, 0, 77]]
    lists = recommend_with_probability(model, users, k=7, temperature=2., exclude_seen=exclude_seen)
    plain = model.recommend(users, k=7, exclude_seen=exclude_seen)
    assert lists.drop(columns="probability").equals(plain) and lists.attrs == plain.attrs == {"short_lists": 0}
    allowed = np.vstack([S for _, S in model.allowed_scores(users, exclude_seen)])
    P = scipy.special.softmax(allowed.astype("float64") / 2, axis=1)
    rows, columns = np.repeat(np.arange(3), 7), movielens.item_codes(lists.item_id)
    assert np.allclose(lists.probability, P[rows, columns], rtol=1e-4, atol=0)


def test_probabilities_add_up_over_all_that_is_allowed(movielens):
    model = Random().fit(movielens)
    everything = recommend_with_probability(model, movielens.users[:2], k=movielens.n_items)
    left = movielens.n_items - np.diff(movielens.matrix(min_rating=None)[:2].indptr)
    by_user = everything.groupby("user_id")
    assert (by_user.size() == left).all() and np.allclose(by_user.probability.sum(), 1, atol=1e-5)
    assert everything.attrs["short_lists"] == 2 and everything.probability.gt(0).all()
