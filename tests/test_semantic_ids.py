"""Semantic ids: residual k-means against scikit-learn, twins, the search against a walk over every item, and the promises of a recommender."""
from itertools import combinations

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings, strategies as st
from sklearn.base import clone
from sklearn.cluster import KMeans

import llmrec.generation.semantic_ids
from llmrec.data.dataset import Dataset
from llmrec.generation.decoding import allowed_next, make_trie
from llmrec.generation.semantic_ids import (CODES, Tiger, TigerNet, assign_codes, beam_scores, beam_search, child_tables,
    number_twins, residual_kmeans, tiger_bytes, token_counts, token_loss)
from llmrec.language.encoding import Stateless
from llmrec.ranking.sequence import cut_windows, pad_rows
from llmrec.ranking.training import run_epoch
from llmrec.recommenders.base import load_recommender

QUICK = dict(n_codes=4, n_levels=2, d=8, length=6, n_epochs=3, batch_size=8, lr=.02, patience=9)
EVERY_KIND = pytest.mark.parametrize("codes", CODES)


class Letters(Stateless):
    """Counts of the letters in a title: vectors without a language model."""

    def transform(self, X):
        return np.array([[text.count(letter) for letter in "abcdefgh"] for text in X], "float32")


def dataset(rows, n_items=None):
    """Likes in the order of the rows, as a Dataset; users without any stay."""
    user = np.repeat(np.arange(len(rows)), [len(row) for row in rows])
    item = np.concatenate([np.asarray(row, int) for row in rows])
    time = np.concatenate([np.arange(len(row)) for row in rows])
    n_items = n_items or item.max() + 1
    items = pd.DataFrame({"item_id": range(n_items), "title": [chr(97 + j % 8) * 2 + chr(97 + j // 8 % 8) for j in range(n_items)]})
    return Dataset(pd.DataFrame({"user_id": user, "item_id": item, "timestamp": time}), items, pd.RangeIndex(len(rows), name="user_id"))


RING = [[(user + step) % 12 for step in range(7)] for user in range(40)]  # everybody likes items in the order of a ring


def model(**more):
    return Tiger(Letters(), template="{title}", **(QUICK | more))


def random_net(sizes=(4, 4, 3), **more):
    """An untrained network, not in training."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return TigerNet(model(**more), sizes).eval()


def some_ids(n=20, sizes=(4, 4, 3)):
    every = np.stack(np.meshgrid(*map(np.arange, sizes), indexing="ij"), -1).reshape(-1, len(sizes))
    return np.random.default_rng(0).permutation(every)[:n]


def test_the_first_level_is_k_means_and_the_second_that_of_what_is_left():
    V = np.random.default_rng(0).normal(size=(200, 5))
    books, rng = residual_kmeans(V, 6, 2, rng=3), np.random.default_rng(3)
    for level in range(2):
        theirs = KMeans(6, n_init=1, random_state=int(rng.integers(2**31))).fit(V)
        assert np.allclose(books[level], theirs.cluster_centers_)
        V = V - theirs.cluster_centers_[theirs.labels_]


def test_a_code_is_the_nearest_centre_and_then_that_of_the_rest():
    V, books = np.random.default_rng(0).normal(size=(30, 4)), np.random.default_rng(1).normal(size=(3, 5, 4))
    codes = assign_codes(V, books)
    for v, code in zip(V, codes):
        for book, token in zip(books, code):
            assert token == np.linalg.norm(book - v, axis=1).argmin()
            v = v - book[token]


def test_each_level_leaves_less_over():
    V = np.random.default_rng(0).normal(size=(300, 6))
    books = residual_kmeans(V, 8, 4)
    codes, left = assign_codes(V, books), [(V**2).sum()]
    for level in range(4):
        left.append(((V - sum(books[l][codes[:, l]] for l in range(level + 1)))**2).sum())
    assert np.all(np.diff(left) < 0)


def test_fewer_points_than_centres():
    V = np.array([[0, 0], [1, 1], [0, 0.]])
    books = residual_kmeans(V, 64, 3)
    codes = assign_codes(V, books)
    assert books.shape == (3, 64, 2) and codes[0].tolist() == codes[2].tolist() != codes[1].tolist() and codes.max() < 2


@pytest.mark.parametrize("call, message", [
    (lambda: residual_kmeans(np.empty((0, 3))), "V: got shape"), (lambda: residual_kmeans([[np.nan]]), "finite"),
    (lambda: residual_kmeans([[1.]], n_codes=0), "n_codes: got 0"), (lambda: residual_kmeans([[1.]], n_levels=1.5), "n_levels: got 1.5"),
    (lambda: assign_codes(np.ones((2, 3)), np.ones((1, 2, 4))), "these centres have 4 numbers")])
def test_wrong_vectors_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=30), st.integers(0, 2**31))
def test_no_two_items_keep_one_id(codes, seed):
    codes = np.array(codes)
    ids = number_twins(codes, seed)
    assert len(np.unique(ids, axis=0)) == len(ids) and np.array_equal(ids[:, :-1], codes)
    for code in np.unique(codes, axis=0):
        own = ids[(codes == code).all(1), -1]
        assert sorted(own) == list(range(len(own)))


def test_twins_are_numbered_in_a_random_order():
    assert len({tuple(number_twins(np.zeros((4, 1), int), seed)[:, 1]) for seed in range(20)}) > 5


def test_the_tables_are_the_trie():
    ids = some_ids()
    trie, (tables, leaf) = make_trie(ids.tolist()), child_tables(ids, (4, 4, 3))
    for row, words in enumerate(ids):
        node = 0
        for level, token in enumerate(words):
            assert np.flatnonzero(tables[level][node] >= 0).tolist() == sorted(allowed_next(trie, words[:level].tolist()))
            node = tables[level][node, token]
        assert node == leaf[row]
    assert sorted(leaf) == list(range(20))


def log_probability(net, state, words):
    """Of one id after one state, token by token."""
    total = 0
    for level, token in enumerate(words):
        total += net.next_logprobs(state, level)[token].item()
        if level < len(words) - 1: state = state + net.written[level][token]
    return total


def test_without_a_limit_every_item_has_its_own_probability():
    net, ids, rows = random_net(), some_ids(), [np.array([1, 5, 2]), np.array([7]), np.array([], int)]
    S = beam_scores(net, ids, pad_rows(rows, 6))
    with torch.no_grad():
        for row, scores in zip(rows[:2], S):
            state = net(torch.from_numpy(ids)[row][None])[0, -1]
            assert np.allclose(scores, [log_probability(net, state, words) for words in ids], atol=1e-5)
    assert np.isneginf(S[2]).all() and S.dtype == np.float32


def test_all_words_together_have_probability_one():
    every = some_ids(48)
    S = beam_scores(random_net(), every, np.array([[0, 3, -1]]))
    assert np.exp(S).sum() == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("n_beams", [1, 3, 7])
def test_a_beam_keeps_the_best_beginnings(n_beams):
    net, ids = random_net(), some_ids()
    trie, (tables, leaf) = make_trie(ids.tolist()), child_tables(ids, (4, 4, 3))
    state, beams = torch.randn(8), [()]
    with torch.no_grad():
        for _ in range(3):
            longer = [(*words, token) for words in beams for token in allowed_next(trie, list(words))]
            beams = sorted(longer, key=lambda words: -log_probability(net, state, words))[:n_beams] if len(longer[0]) < 3 else longer
        beams = sorted(beams, key=lambda words: -log_probability(net, state, words))[:n_beams]
    nodes, scores = beam_search(net, state[None], tables, n_beams)
    found = [tuple(ids[np.flatnonzero(leaf == node)[0]].tolist()) for node in nodes[0].tolist()]
    assert found == beams and np.allclose(scores[0], [log_probability(net, state, words) for words in beams], atol=1e-5)


def test_the_loss_is_that_of_each_like_after_those_before_it():
    net, ids, rows = random_net(), some_ids(), [np.array([0, 1, 2, 3]), np.array([5, 1])]
    _, inputs, targets = cut_windows(rows, 6, np.random.default_rng(0))
    tokens, expected = torch.from_numpy(ids), []
    with torch.no_grad():
        for row, wanted in zip(inputs, targets):
            for place in np.flatnonzero(wanted >= 0):
                expected.append(-log_probability(net, net(tokens[row[:place + 1]][None])[0, -1], ids[wanted[place]]))
        loss, n = token_loss(net, tokens, inputs, targets)
    assert n == 4 and loss.item() == pytest.approx(np.mean(expected), rel=1e-5)


def test_no_state_knows_later_likes():
    net, ids = random_net(), torch.from_numpy(some_ids())
    one, two = (net(ids[list(row)][None])[0] for row in ((1, 2, 3, 4), (1, 2, 9, 8)))
    assert torch.allclose(one[:2], two[:2], atol=1e-6) and not torch.allclose(one[2], two[2], atol=1e-3)


@EVERY_KIND
def test_it_learns_what_follows_in_a_ring(codes):
    fitted = model(codes=codes, n_epochs=25, patience=25, dropout=.1, d=16).fit(dataset(RING))
    S = fitted.score_items(range(12))
    S[dataset(RING).likes()[:12].nonzero()] = -np.inf
    right = (S.argmax(axis=1) == (np.arange(12) + 7) % 12).mean()
    assert right > .6, right


@EVERY_KIND
def test_an_item_that_nobody_liked_needs_language(codes):
    S = model(codes=codes).fit(dataset(RING, 14)).score_items([0, 1])
    assert np.isfinite(S[:, :12]).all()
    assert np.isfinite(S[:, 12:]).all() if codes == "language" else np.isneginf(S[:, 12:]).all()


def test_twins_share_their_scores_unless_they_are_told_apart():
    data = dataset(RING)
    shared, apart = (model(separate=separate, n_codes=2).fit(data) for separate in (False, True))
    assert shared.ids_.shape[1] == 2 and apart.ids_.shape[1] == 3 and np.array_equal(shared.ids_, apart.ids_[:, :2])
    S, own = shared.score_items([0])[0], apart.score_items([0])[0]
    for i, j in combinations(range(12), 2):
        assert (S[i] == S[j]) == (shared.ids_[i] == shared.ids_[j]).all() and own[i] != own[j]


def test_beams_leave_the_other_items_out():
    data = dataset(RING)
    every, few = (model(n_beams=n_beams).fit(data) for n_beams in (None, 3))
    S, some = every.score_items([0, 5]), few.score_items([0, 5])
    assert np.isfinite(S).all() and (np.isfinite(some).sum(axis=1) == 3).all() and np.allclose(some[np.isfinite(some)], S[np.isfinite(some)], atol=1e-5)
    assert few.recommend([0], k=5, exclude_seen=False).shape[0] == 3


def test_same_seed_same_model_and_a_clean_generator():
    data, before = dataset(RING), torch.get_rng_state()
    one, two, other = (model(rng=rng).fit(data).score_items([0, 3]) for rng in (3, 3, 4))
    assert np.array_equal(one, two) and not np.array_equal(one, other)
    assert torch.equal(torch.get_rng_state(), before), "the global generator is left alone"


@EVERY_KIND
def test_what_is_learned_is_arrays_that_save_and_load(codes, tmp_path, monkeypatch):
    monkeypatch.setattr("llmrec.language.encoding.TextEncoder", Letters)  # parameters that can be saved
    fitted = model(codes=codes).set_params(encoder=None).fit(dataset(RING))
    learned = {name: value for name, value in vars(fitted).items() if name.endswith("_") and name not in ("X_", "train_")}
    assert learned.keys() == {"ids_", "weights_", "history_", "sequences_"} and all(type(value) is np.ndarray for value in learned.values())
    fitted.save(tmp_path / "model.npz")
    loaded = load_recommender(tmp_path / "model.npz")
    assert np.array_equal(loaded.score_items([0, 5]), fitted.score_items([0, 5])) and clone(loaded).get_params() == clone(fitted).get_params()


def test_people_with_one_like_or_none():
    S = model().fit(dataset([*RING, [4], []], 12)).score_items([40, 41])
    assert np.isfinite(S[0]).all() and np.isneginf(S[1]).all()


def test_a_killed_run_ends_as_if_it_had_not_been(tmp_path, monkeypatch):
    data, path = dataset(RING), tmp_path / "run"
    straight, calls = model().fit(data), []

    def killed(loss, order, batch_size, optimiser):
        calls.append(0)
        if len(calls) == 2: raise KeyboardInterrupt
        return run_epoch(loss, order, batch_size, optimiser)
    monkeypatch.setattr(llmrec.generation.semantic_ids, "run_epoch", killed)
    with pytest.raises(KeyboardInterrupt):
        model(checkpoint=path).fit(data)
    monkeypatch.undo()
    resumed = model(checkpoint=path, n_beams=3).fit(data)
    assert np.array_equal(resumed.weights_, straight.weights_) and np.array_equal(resumed.history_, straight.history_)
    with pytest.raises(ValueError, match="checkpoint: .* is of a run on other data or with other settings"):
        model(checkpoint=path, dropout=.2).fit(data)


@pytest.mark.parametrize("wrong, message", [
    (dict(codes="titles"), "codes: got 'titles'; give one of"), (dict(n_codes=0), "n_codes: got 0"), (dict(n_levels=1.5), "n_levels: got 1.5"),
    (dict(d=True), "d: got True"), (dict(n_beams=0), "n_beams: got 0"), (dict(dropout=1), "dropout: got 1"), (dict(lr=0), "lr: got 0"),
    (dict(length=0), "length: got 0"), (dict(patience=0), "patience: got 0"), (dict(weight_decay=-1), "weight_decay: got -1")])
def test_wrong_parameters_are_named(wrong, message):
    with pytest.raises(ValueError, match=message):
        model(**wrong).fit(dataset(RING))


def test_separate_is_a_yes_or_no():
    with pytest.raises(TypeError, match="separate: got 1"):
        model(separate=1).fit(dataset(RING))


@pytest.mark.parametrize("wrong", [dict(n_codes=10**11), dict(n_levels=10**9), dict(d=10**9), dict(length=10**11), dict(n_blocks=10**10)])
def test_what_the_memory_cannot_hold_is_refused_before_it_is_made(wrong, monkeypatch):
    monkeypatch.setattr(llmrec.generation.semantic_ids, "train_tiger", None)
    (name, value), = wrong.items()
    with pytest.raises(ValueError, match=f"{name} = {value:,}.*: this needs about .* GiB of memory, .*ItemKNN"):
        model(**wrong).fit(dataset(RING))


def test_the_estimate_counts_every_weight():
    fitted = model(n_blocks=2).fit(dataset(RING))
    assert tiger_bytes(fitted, fitted.X_) > 16 * len(fitted.weights_) and token_counts(np.array([[0, 3], [-1, -1]])) == (1, 4)
