"""The loop that fills lists, and five ways by hand, against naive programs and against pyversity."""
import numpy as np
import pytest
import pyversity
from hypothesis import given, strategies as st
from scipy.stats import chisquare

from llmrec.lists.rerankers import (dpp, greedy_lists, gumbel_noise, gumbel_top_k, list_volume, max_sum,
    stratified, xquad)
from llmrec.lists.diversity import mmr, similarity_lookup
from tests.test_diversity import pool


@given(st.integers(0, 1000), st.integers(1, 6), st.floats(0, 1))
def test_greedy_takes_the_best_gain_that_is_left(seed, k, weight):
    rng = np.random.default_rng(seed)
    relevance, novelty = rng.random((3, 6)).astype("float32"), rng.random((3, 6)).astype("float32")
    lists = greedy_lists(relevance, k, weight, lambda rows: (novelty[rows], lambda best: novelty[rows]))
    gain = np.float32(1 - weight) * relevance + np.float32(weight) * novelty
    assert np.array_equal(lists, np.argsort(-gain, axis=1, kind="stable")[:, :k])


def test_gumbel_lists_have_the_probabilities_of_drawing_without_replacement():
    relevance, weight, n = np.float32([1, .6, .2, 0]), .4, 30_000
    lists = gumbel_top_k(np.tile(relevance, (n, 1)), gumbel_noise(4, np.arange(n), 3), 2, weight)
    p = np.exp(relevance.astype(float) * (1 - weight) / weight)
    p /= p.sum()
    pairs = [(i, j) for i in range(4) for j in range(4) if i != j]
    counts = [(lists == pair).all(axis=1).sum() for pair in pairs]
    assert chisquare(counts, [n * p[i] * p[j] / (1 - p[i]) for i, j in pairs]).pvalue > .01


def test_noise_is_a_function_of_seed_and_person():
    assert np.array_equal(gumbel_noise(5, np.array([3, 9]), 1)[1], gumbel_noise(5, np.array([9]), 1)[0])
    assert not np.array_equal(gumbel_noise(5, np.array([9]), 1), gumbel_noise(5, np.array([9]), 2))
    assert gumbel_noise(5, np.array([], int), 1).shape == (0, 5)


def test_strata_by_hand():
    red_or_blue, codes = np.float32([[1, 0], [1, 0], [1, 0], [0, 1], [0, 1]]), np.array([[0, 1, 2, 3, 4]])
    relevance = np.float32([[1, .9, .6, .3, .1]])
    assert stratified(relevance, codes, red_or_blue, 4, 1).tolist() == [[0, 3, 1, 4]]  # in turn, the best of each
    assert stratified(relevance, codes, red_or_blue, 3, .3).tolist() == [[0, 1, 3]]    # .42 - .6 < .21
    mixed = np.float32([[.5, .5], [1, 0], [0, 1]])
    assert stratified(np.float32([[1, .5, .4]]), np.array([[1, 0, 2]]), mixed, 3, .5).tolist() == [[0, 2, 1]]  # .4 > .5 - .5


def test_what_has_no_group_pays_nothing():
    groups, codes = np.float32([[1, 0], [1, 0], [0, 0], [0, 0]]), np.array([[0, 1, 2, 3]])
    assert stratified(np.float32([[1, .9, .2, .1]]), codes, groups, 4, .6).tolist() == [[0, 2, 3, 1]]  # .36 - .6 < .04


def naive(method, relevance, S, k, weight):
    """MMR, max-sum or a DPP for one person, from their definitions, in float64."""
    chosen, log_det = [], lambda some: np.linalg.slogdet(S[np.ix_(some, some)])[1] if some else 0
    while len(chosen) < k:
        novelty = {"mmr": lambda i: -max([0, *S[i, chosen]]), "max_sum": lambda i: (1 - S[i, chosen]).sum(), "dpp": lambda i: log_det([*chosen, i]) - log_det(chosen)}[method]
        gains = [-np.inf if i in chosen else (1 - weight) * relevance[i] + weight * novelty(i) for i in range(len(relevance))]
        chosen.append(int(np.argmax(gains)))
    return chosen


@pytest.mark.parametrize("weight", [.1, .5, .9])
@pytest.mark.parametrize("method", [mmr, max_sum, dpp], ids=lambda method: method.__name__)
def test_batched_is_the_naive_program(method, weight):
    relevance, given, V = pool(short=False, d=40)
    unit = V.astype(float) / np.linalg.norm(V, axis=1, keepdims=True)
    for row, own, listed in zip(relevance, given["codes"], method(relevance, given["similar"], 9, weight)):
        assert naive(method.__name__, row.astype(float), unit[own] @ unit[own].T, 9, weight) == listed.tolist()


@pytest.mark.parametrize("their", [.1, .5, .9, 1.])
def test_dpp_is_that_of_pyversity_on_z_scores_at_another_weight(their):
    relevance, given, V = pool(m=25, n=60, d=64, short=False)
    z = (relevance - relevance.mean(axis=1, keepdims=True)) / relevance.std(axis=1, keepdims=True)
    lists = dpp(z, given["similar"], 20, 1 / (3 - 2 * their))
    assert all(np.array_equal(pyversity.dpp(V[own], row, 20, their).indices, listed) for row, own, listed in zip(relevance, given["codes"], lists))


def test_more_places_than_dimensions():
    relevance, given, V = pool(d=2, short=False)
    twice = similarity_lookup(np.repeat(V[:15], 6, axis=0), given["codes"])  # and doubles
    with np.errstate(all="raise", under="ignore"):
        for weight in (.1, .5, 1):
            for similar in (given["similar"], twice):
                assert [len(set(row)) for row in dpp(relevance, similar, 25, weight)] == [25] * 7
    after = dpp(relevance, given["similar"], 25, .5)[:, 3:]  # once the plane is spanned, relevance decides
    assert (np.diff(after, axis=1) > 0).all()


def test_volume_by_hand():
    V = np.float32([[1, 0], [0, 3], [1, 1], [2, 0]])
    volume = list_volume(np.array([[0, 1], [0, 2], [0, 3], [2, -1], [-1, -1]]), V)
    assert np.allclose(volume, [1, .5 ** .25, 0, 1, 1])


@given(st.integers(0, 1000))
def test_the_volume_of_a_list_is_its_determinant(seed):
    relevance, given, V = pool(m=2, n=8, d=20, seed=seed, short=False)
    topk = np.take_along_axis(given["codes"], dpp(relevance, given["similar"], 5, .5), axis=1)
    unit = V / np.linalg.norm(V, axis=1, keepdims=True)
    for row, volume in zip(topk, list_volume(topk, V)):
        assert np.isclose(np.log(volume) * 10, np.linalg.slogdet(unit[row] @ unit[row].T)[1], atol=1e-3)


def test_xquad_by_hand():
    groups, codes = np.float32([[1, 0], [1, 0], [0, 1], [.5, .5]]), np.array([[0, 1, 2, 3]])
    interests = np.float32([[.6, .4]])
    assert xquad(np.float32([[1, .9, .2, .1]]), codes, groups, interests, 4, 1).tolist() == [[0, 2, 1, 3]]  # both open: .6; then .4; then nothing is open
    assert xquad(np.float32([[1, .9, .2, .1]]), codes, groups, interests, 2, .3).tolist() == [[0, 1]]     # .63 > .14 + .12


def test_volumes_do_not_depend_on_the_block():
    rng = np.random.default_rng(0)
    topk, V = rng.permuted(np.tile(np.arange(40), (30, 1)), axis=1)[:, :6], rng.normal(size=(40, 8))
    topk[3, 4:] = -1
    assert np.allclose(list_volume(topk, V, block=7), list_volume(topk, V))
    assert list_volume(np.empty((0, 5), int), V).shape == (0,)
    with pytest.raises(ValueError, match="block: got 0"):
        list_volume(topk, V, block=0)
