"""Softmax against SciPy and at its limits, the likelihood against a loop, and lists with probabilities."""
import numpy as np
import pandas as pd
import pytest
import scipy.special
from hypothesis import given, strategies as st
from hypothesis.extra.numpy import arrays
from scipy.sparse import csr_matrix

from llmrec.recommenders.base import Popularity, Random
from llmrec.ranking.probability import (fit_temperature, nll, nll_gradient, recommend_with_probability,
    reliability, softmax)

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


@pytest.mark.parametrize("temperature", [0, -1, np.nan, np.inf, ".1"])
def test_wrong_temperatures_are_refused(temperature, movielens):
    S, labels = np.ones((1, 2), "float32"), csr_matrix([[1, 0]])
    model = Popularity().fit(movielens)
    for call in (lambda: softmax(S, temperature), lambda: nll(S, labels, temperature),
                 lambda: recommend_with_probability(model, 1, temperature=temperature)):
        with pytest.raises(ValueError, match=f"temperature: got {temperature!r}"):
            call()


@pytest.mark.parametrize("wrong", ["5", 0, 2.5, None])
def test_wrong_lengths_of_lists_are_refused(wrong, movielens):
    with pytest.raises(ValueError, match=f"k: got {wrong!r}; give a whole number of at least 1"):
        recommend_with_probability(Popularity().fit(movielens), 1, k=wrong)


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
    left = movielens.n_items - np.diff(movielens.ratings()[:2].indptr)
    by_user = everything.groupby("user_id")
    assert (by_user.size() == left).all() and np.allclose(by_user.probability.sum(), 1, atol=1e-5)
    assert everything.attrs["short_lists"] == 2 and everything.probability.gt(0).all()


@given(arrays("float64", (3, 4), elements=st.floats(-3, 3)), arrays("int8", (3, 4), elements=st.integers(0, 1)), st.floats(.2, 5))
def test_the_gradient_is_that_of_finite_differences(S, likes, temperature):
    if not likes.any():
        with pytest.raises(ValueError, match="labels: are empty"):
            nll_gradient(S, csr_matrix(likes), temperature)
        return
    found, h = nll_gradient(S, csr_matrix(likes), temperature), 1e-4
    for where in np.ndindex(S.shape):
        step = np.zeros_like(S)
        step[where] = h
        slope = (nll(S + step, csr_matrix(likes), temperature) - nll(S - step, csr_matrix(likes), temperature)) / (2 * h)
        assert abs(found[where] - slope) < 1e-5


def test_what_may_not_be_chosen_has_no_slope():
    G = nll_gradient(np.array([[0, 1, -np.inf], [-np.inf] * 3]), csr_matrix([[1, 0, 0], [0, 0, 0]]))
    assert np.allclose(G, [[-.7310586, .7310586, 0], [0, 0, 0]])


def drawn(temperature, n=4000, seed=0):
    """Scores of four items and, for each row, one label drawn from their softmax."""
    rng = np.random.default_rng(seed)
    S = rng.normal(0, 2, (n, 4))
    P = scipy.special.softmax(S / temperature, axis=1)
    items = (P.cumsum(axis=1) < rng.random((n, 1))).sum(axis=1).clip(max=3)
    return S, csr_matrix((np.ones(n), (np.arange(n), items)), shape=(n, 4))


@pytest.mark.parametrize("temperature", [.3, 1, 4])
def test_the_temperature_that_labels_were_drawn_at_is_found(temperature):
    S, labels = drawn(temperature)
    found = fit_temperature(S, labels)
    assert found == pytest.approx(temperature, rel=.1)
    assert all(nll(S, labels, found) <= nll(S, labels, found * factor) for factor in (.98, 1.02))
    assert fit_temperature(S * 7, labels) == pytest.approx(7 * found, rel=.01), "the temperature grows with the scores"
    blind = np.vstack([S, np.zeros((5, 4))]), csr_matrix(np.vstack([labels.toarray(), np.zeros((5, 4))]))
    assert fit_temperature(*blind) == found, "who has no label does not count"


def test_labels_against_the_scores_want_equal_chances():
    S = np.array([[1., 0, -1]])
    assert softmax(S, fit_temperature(S, csr_matrix([[0, 0, 1]]))) == pytest.approx(np.full((1, 3), 1 / 3), abs=1e-3)


def test_temperatures_that_cannot_be_fitted():
    for S, labels, message in ((np.ones((1, 3)), [[1, 0, 0]], "S: all scores are the same"), (np.full((1, 3), -np.inf), [[1, 0, 0]], "S: all scores are the same"),
                               (np.array([[0, 1, -np.inf]]), [[0, 0, 1]], "labels: hold an item with score -inf"), (np.eye(2), [[0, 0], [0, 0]], "labels: are empty")):
        with pytest.raises(ValueError, match=message):
            fit_temperature(S, csr_matrix(labels))


def test_reliability_by_hand():
    """Two people with chances .1 .2 .3 .4; the first has two labels, so each of their films is forecast twice."""
    S, labels = np.log(np.array([[.1, .2, .3, .4]] * 2)), csr_matrix([[0, 0, 1, 1], [1, 0, 0, 0]])
    table = reliability(S, labels, n_bins=1)
    assert table.forecasts.tolist() == [12] and table.expected[0] == pytest.approx(3) and table.found.tolist() == [3] and table.attrs["ece"] == pytest.approx(0, abs=1e-6)
    two = reliability(S, labels, n_bins=2)  # half of the probability lies below the second person's .3, which falls into the upper bin
    assert two.forecasts.tolist() == [8, 4] and two.found.tolist() == [2, 1] and np.allclose(two.expected, [1.5, 1.5])
    assert two.attrs["ece"] == pytest.approx((.5 + .5) / 3, abs=1e-6) and np.allclose(two.predicted, [1.5 / 8, 1.5 / 4]) and np.allclose(two.observed, [2 / 8, 1 / 4])


def test_true_chances_are_reliable_and_bold_ones_are_not():
    S, labels = drawn(1)
    good, bold = (reliability(S, labels, temperature).attrs["ece"] for temperature in (1, .2))
    assert good < .05 < .2 < bold
    table = reliability(S, labels)
    assert table.forecasts.sum() == S.size and table.found.sum() == len(S) and table.expected.sum() == pytest.approx(len(S), rel=1e-5)


def test_reliability_without_labels():
    with pytest.raises(ValueError, match="labels: are empty"):
        reliability(np.eye(2), csr_matrix((2, 2)))


@pytest.mark.parametrize("n_bins", [0, 2.5, True, "3"])
def test_wrong_bins(n_bins):
    with pytest.raises(ValueError, match=f"n_bins: got {n_bins!r}; give a whole number of at least 1"):
        reliability(np.eye(2), np.eye(2), n_bins=n_bins)


def reliability_at_once(S, labels, temperature, n_bins):
    """The same table from one sort of all forecasts."""
    P, Y = softmax(S, temperature), labels.toarray() != 0
    draws = np.broadcast_to(Y.sum(axis=1, keepdims=True), P.shape).ravel()
    order = np.argsort(P, axis=None, kind="stable")
    expected = draws[order] * P.ravel()[order].astype("float64")
    bins = np.minimum(n_bins - 1, ((expected.cumsum() - expected / 2) / expected.sum() * n_bins).astype(int))
    sums = {name: np.bincount(bins, weights, n_bins) for name, weights in (("forecasts", draws[order]), ("expected", expected), ("found", Y.ravel()[order]))}
    return pd.DataFrame(sums).query("forecasts > 0")


@pytest.mark.parametrize("block", [4, 400, 4000])
@pytest.mark.parametrize("ties", [False, True])
def test_blocks_change_nothing(block, ties, monkeypatch):
    rng = np.random.default_rng(0)
    S = rng.normal(0, 3, (41, 57)).astype("float32")
    S = S.round() if ties else S
    S[rng.random(S.shape) < .1] = -np.inf
    S[5] = -np.inf
    labels = csr_matrix((rng.random(S.shape) < .05) & np.isfinite(S) & (np.arange(41)[:, None] % 7 > 0))
    measures = softmax, nll, nll_gradient, fit_temperature, reliability
    whole = [measure(S, *more) for measure, more in zip(measures, ([.7], [labels, .7], [labels, .7], [labels], [labels, .7, 6]))]
    monkeypatch.setattr("llmrec.ranking.probability.BLOCK", block)
    parts = [measure(S, *more) for measure, more in zip(measures, ([.7], [labels, .7], [labels, .7], [labels], [labels, .7, 6]))]
    assert all(np.array_equal(a, b) for a, b in zip(whole[:3], parts)) and parts[3] == pytest.approx(whole[3], rel=1e-9)
    at_once = reliability_at_once(S, labels, .7, 6)
    for table in (whole[4], parts[4]):
        assert table.forecasts.tolist() == at_once.forecasts.tolist() and table.found.tolist() == at_once.found.tolist() and np.allclose(table.expected, at_once.expected)


TAKE_LABELS = pytest.mark.parametrize("measure", [nll, nll_gradient, fit_temperature, reliability])


@TAKE_LABELS
@pytest.mark.parametrize("labels", [np.eye(3), csr_matrix((2, 4)), np.array([1, 0, 0])], ids=["a row too many", "a column too many", "one row"])
def test_labels_of_another_shape_are_refused(measure, labels):
    with pytest.raises(ValueError, match=r"labels: have shape .* as S has: \(2, 3\)"):
        measure(np.eye(3)[:2], labels)


@TAKE_LABELS
def test_labels_may_be_dense_and_may_store_zeros(measure):
    S, dense = np.random.default_rng(0).normal(size=(3, 4)), np.array([[1, 0, 0, 1], [0, 0, 0, 0], [0, 2, 0, 0]])
    stored = csr_matrix(([1, 0, 1, 0, 2], ([0, 0, 0, 1, 2], [0, 2, 3, 1, 1])), shape=(3, 4))
    expected = np.asarray(measure(S, csr_matrix(dense)))
    assert stored.nnz == 5 and np.array_equal(measure(S, dense), expected) and np.array_equal(measure(S, stored), expected) and stored.nnz == 5
