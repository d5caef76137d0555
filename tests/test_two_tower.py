"""Two towers: losses against independent sums, gradients by finite differences, the hold-out by hand, runs that are killed, and the promises of a recommender."""
import re

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings, strategies as st
from hypothesis.extra.numpy import arrays
from scipy.sparse import csr_matrix
from sklearn.base import clone
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

import llmrec.ranking.two_tower
from llmrec.data.dataset import Dataset
from llmrec.language.encoding import Stateless
from llmrec.recommenders.base import load_recommender
from llmrec.ranking.training import run_epoch
from llmrec.ranking.two_tower import (LOSSES, TwoTower, batch_loss, contrast_loss, draw_others, init_weights,
    profiles_without, standardise, tower, training_bytes)

blocks = (np.arange(24)[:, None] // 12 == np.arange(20) // 10) & (np.random.default_rng(0).random((24, 20)) < .6)  # two groups, each with films of its own
QUICK = dict(d=4, n_epochs=4, batch_size=32, n_sampled=8, lr=.02, patience=9)


def letters():
    """Counts of the letters in a title: vectors without a language model."""
    return make_pipeline(CountVectorizer(analyzer="char", vocabulary=list("abxy")), FunctionTransformer(lambda X: X.toarray().astype("float32")))


def dataset(X, titles=None, **columns):
    """Likes as a Dataset that keeps empty rows and columns; films of the first half are all about a, of the second about x."""
    user, item = np.nonzero(X)
    half = X.shape[1] // 2
    titles = titles or ["a" * (2 + i % 3) + "b" * (i % 2) if i < half else "x" * (2 + i % 3) + "y" * (i % 2) for i in range(X.shape[1])]
    return Dataset(pd.DataFrame({"user_id": user, "item_id": item, **columns}), pd.DataFrame({"item_id": range(X.shape[1]), "title": titles}),
                   pd.RangeIndex(X.shape[0], name="user_id"))


def model(**more):
    return TwoTower(letters(), template="{title}", **(QUICK | more))


def unit(h):
    return h / np.linalg.norm(h, axis=1, keepdims=True)


def test_a_tower_is_the_network_of_the_formula():
    rng, sizes = np.random.default_rng(0), (5, 4, 3, 2)
    weights, h = init_weights(sizes, rng), rng.normal(size=(7, 5)).astype("float32")
    parts = np.split(weights, np.cumsum([20, 4, 12, 3, 6]))
    assert not np.concatenate(parts[1::2]).any() and np.abs(parts[0]).max() <= np.sqrt(6 / 9)
    expected = np.maximum(0, np.maximum(0, h @ parts[0].reshape(5, 4)) @ parts[2].reshape(4, 3)) @ parts[4].reshape(3, 2)
    found = tower(torch.from_numpy(h), torch.from_numpy(weights), sizes).numpy()
    some = np.linalg.norm(expected, axis=1) > 1e-6
    assert some.sum() > 3 and np.allclose(found[some], unit(expected[some]), atol=1e-5)


@settings(deadline=None, max_examples=40)
@given(arrays("int8", (5, 6), elements=st.integers(0, 1)), st.integers(0, 2**31))
def test_a_profile_without_its_target_is_the_mean_of_the_others(X, seed):
    users, items = np.nonzero(X)
    if not len(users):
        return
    V = np.random.default_rng(seed).normal(size=(6, 3)).astype("float32")
    order = np.random.default_rng(seed).permutation(len(users))
    found = profiles_without(csr_matrix(X, dtype="float32"), users[order], items[order], V)
    for profile, user, item in zip(found, users[order], items[order]):
        others = [j for j in np.flatnonzero(X[user]) if j != item]
        assert np.allclose(profile, V[others].mean(0) if others else 0, atol=1e-5)


def naive_loss(liked, others, hide, log_expected):
    """One row at a time, as the formula says it."""
    rows = [np.exp(o[~h] - log_expected[~h]).sum() for o, h in zip(others, hide)]
    return np.mean([-np.log(np.exp(l) / (np.exp(l) + z)) for l, z in zip(liked, rows)])


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 5), st.integers(1, 7), st.integers(0, 2**31))
def test_the_loss_is_the_formula(b, c, seed):
    rng = np.random.default_rng(seed)
    liked, others, hide, log_expected = rng.normal(0, 3, b), rng.normal(0, 3, (b, c)), rng.random((b, c)) < .4, rng.normal(size=c)
    found = contrast_loss(*map(torch.from_numpy, (liked, others, hide, log_expected))).item()
    assert np.isclose(found, naive_loss(liked, others, hide, log_expected), rtol=1e-6, atol=1e-8)


def test_the_full_loss_is_torch_cross_entropy_over_what_was_not_liked():
    X, rng = csr_matrix(blocks, dtype="float32"), np.random.default_rng(3)
    V, settled = rng.normal(size=(20, 4)).astype("float32"), model(loss="full", hidden=(5,))
    weights = torch.from_numpy(np.concatenate([init_weights((4, 5, 4), rng) for _ in range(2)]))
    users, items = (codes[:50] for codes in np.nonzero(blocks))
    S = (tower(torch.from_numpy(profiles_without(X, users, items, V)), weights.chunk(2)[0], (4, 5, 4)) @ tower(torch.from_numpy(V), weights.chunk(2)[1], (4, 5, 4)).T) / .1
    own = torch.from_numpy(blocks[users].copy())
    own[range(50), items] = False
    expected = torch.nn.functional.cross_entropy(S.masked_fill(own, -torch.inf), torch.from_numpy(items))
    found = batch_loss(settled, weights, X, V, (users, items), np.asarray(X.sum(0)).ravel(), rng)
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("hidden", [(), (3,)])
@pytest.mark.parametrize("loss", LOSSES)
def test_the_gradient_of_a_batch(loss, hidden, monkeypatch):
    X, rng = csr_matrix(blocks, dtype="float64"), np.random.default_rng(0)
    V, settled = rng.normal(size=(20, 4)), model(loss=loss, hidden=hidden, temperature=.5)
    users, items = (codes[::9] for codes in np.nonzero(blocks))
    n = len(init_weights((4, *hidden, 4), rng))
    weights = torch.from_numpy(rng.normal(size=2 * n)).requires_grad_()

    single = llmrec.ranking.two_tower.profiles_without
    monkeypatch.setattr(llmrec.ranking.two_tower, "profiles_without", lambda *args: single(*args).astype("float64"))
    assert torch.autograd.gradcheck(lambda w: batch_loss(settled, w, X, V, (users, items), np.asarray(X.sum(0)).ravel(), np.random.default_rng(1)), (weights,))


@pytest.mark.parametrize("loss", ["sampled", "in-batch"])
def test_the_estimated_sum_is_unbiased(loss):
    rng, n_likes = np.random.default_rng(0), np.array([50, 20, 5, 1, 1, 3])
    scores, sums = rng.normal(size=6), []
    for _ in range(4000):
        items = rng.choice(6, 9, p=n_likes / n_likes.sum())
        codes, log_expected = draw_others(loss, items, n_likes, 7, rng)
        codes, log_expected = (codes[1:], log_expected[1:]) if loss == "in-batch" else (codes, log_expected)  # a like is not compared with itself
        sums.append(np.exp(scores[codes] - log_expected).sum())
    assert abs(np.mean(sums) - np.exp(scores).sum()) < 4 * np.std(sums) / np.sqrt(len(sums))


def test_more_samples_come_nearer_to_the_full_loss():
    rng, n_likes = np.random.default_rng(0), np.arange(300)
    S, items = torch.from_numpy(rng.normal(0, 2, (8, 300))), np.arange(8)
    hide = torch.from_numpy(np.arange(300)[None] == items[:, None])
    exact = contrast_loss(S[range(8), items], S, hide, torch.zeros(300)).item()

    def error(m):
        found = []
        for _ in range(100):
            codes, log_expected = draw_others("sampled", items, n_likes, m, rng)
            found.append(contrast_loss(S[range(8), items], S[:, codes], hide[:, codes], torch.from_numpy(log_expected)).item())
        return abs(np.mean(found) - exact), np.std(found)
    (bias_few, spread_few), (bias_many, spread_many) = error(10), error(1000)
    assert bias_many < .02 < bias_few and spread_many < spread_few / 5


@pytest.mark.parametrize("loss", LOSSES)
def test_two_groups_are_told_apart_and_a_film_without_likes_is_placed_by_its_text(loss):
    X = np.pad(blocks, ((0, 0), (0, 2)))
    titles = ["aa" + "b" * (i % 2) if i < 10 else "xx" + "y" * (i % 2) for i in range(20)] + ["aab", "xxy"]
    S = model(loss=loss, n_epochs=30, patience=30).fit(dataset(X, titles)).score_items(range(24))
    own = np.arange(24) // 12 == 0
    assert (S[own, 20] > S[own, 21]).all() and (S[~own, 20] < S[~own, 21]).all()


@pytest.mark.parametrize("loss", LOSSES)
def test_a_killed_run_ends_as_if_it_had_not_been(loss, tmp_path, monkeypatch):
    data, path = dataset(blocks), tmp_path / "run.npz"
    straight = model(loss=loss).fit(data)

    def killed(loss, order, batch_size, optimiser, calls=[]):
        calls.append(0)
        if len(calls) == 3:
            run_epoch(loss, order[:batch_size], batch_size, optimiser)  # half an epoch's damage
            raise KeyboardInterrupt
        return run_epoch(loss, order, batch_size, optimiser)
    monkeypatch.setattr(llmrec.ranking.two_tower, "run_epoch", killed)
    with pytest.raises(KeyboardInterrupt):
        model(loss=loss, checkpoint=path).fit(data)
    monkeypatch.undo()
    resumed = model(loss=loss, checkpoint=path).fit(data)
    assert np.array_equal(resumed.weights_, straight.weights_) and np.array_equal(resumed.history_, straight.history_)
    assert len(resumed.history_) == 4 and [p.name for p in tmp_path.iterdir()] == ["run.npz"]


def test_a_finished_run_trains_no_more(tmp_path, monkeypatch):
    data, settled = dataset(blocks), model(checkpoint=tmp_path / "run.npz")
    first = clone(settled).fit(data).weights_
    monkeypatch.setattr(llmrec.ranking.two_tower, "run_epoch", None)
    assert np.array_equal(clone(settled).fit(data).weights_, first)


def test_checkpoints_that_do_not_belong_are_refused(tmp_path):
    data, path = dataset(blocks), tmp_path / "run.npz"
    model(checkpoint=path).fit(data)
    for other, train in ((model(checkpoint=path, lr=.01), data), (model(checkpoint=path, rng=1), data), (model(checkpoint=path), dataset(blocks[::-1]))):
        with pytest.raises(ValueError, match="checkpoint: .* is of a run on other data or with other settings"):
            other.fit(train)
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(ValueError, match="is not a whole checkpoint .*delete it"):
        model(checkpoint=path).fit(data)


def test_training_stops_when_nothing_better_comes_and_keeps_the_best():
    settled = model(n_epochs=200, patience=5, lr=.3).fit(dataset(blocks))
    ndcg = settled.history_[:, 1]
    assert len(ndcg) == ndcg.argmax() + 6 < 200
    until_best = model(n_epochs=int(ndcg.argmax()) + 1, patience=200, lr=.3).fit(dataset(blocks))
    assert np.array_equal(until_best.weights_, settled.weights_)


class Letters(Stateless):
    """An encoder of this file's own."""

    def transform(self, X):
        return letters().fit_transform(X)


def test_same_seed_same_model_and_a_clean_generator():
    data, before = dataset(blocks), torch.get_rng_state()
    one, two, other = (model(rng=rng).fit(data).score_items([0, 13]) for rng in (3, 3, 4))
    assert one.dtype == np.float32 and np.array_equal(one, two) and not np.array_equal(one, other)
    assert torch.equal(torch.get_rng_state(), before), "the global generator is left alone"


def test_what_is_learned_is_arrays_that_save_and_load(tmp_path, monkeypatch):
    data, settled = dataset(blocks), TwoTower(template="{title}", hidden=(3,), **QUICK)
    monkeypatch.setattr("llmrec.language.encoding.TextEncoder", Letters)
    scores = settled.fit(data).score_items([0, 13])
    learned = {name: value for name, value in vars(settled).items() if name.endswith("_") and name not in ("X_", "train_")}
    assert learned.keys() == {"V_", "weights_", "history_", "items_"} and all(type(value) is np.ndarray for value in learned.values())
    settled.save(tmp_path / "model.npz")
    loaded = load_recommender(tmp_path / "model.npz")
    assert np.array_equal(loaded.score_items([0, 13]), scores) and np.array_equal(loaded.score_history(data.likes()[[0, 13]]), scores)


def test_scores_are_cosines_over_the_temperature():
    data, settled = dataset(blocks), model(temperature=.25)
    S = settled.fit(data).score_history(csr_matrix(np.vstack([np.zeros(20), blocks[0]]).astype("float32")))
    assert np.isneginf(S[0]).all() and np.abs(S[1]).max() <= 4.0001
    similar = settled.item_similarity(np.array([4]))
    assert similar[0, 4] == pytest.approx(1) and np.allclose(similar, settled.items_[[4]] @ settled.items_.T)


def test_people_with_one_like_or_all_do_no_harm():
    X = np.vstack([blocks, np.zeros(20), np.eye(20)[0], np.ones(20)])
    S = {loss: model(loss=loss).fit(dataset(X)).score_items([24, 25, 26]) for loss in LOSSES}
    assert all(np.isneginf(s[0]).all() and np.isfinite(s[1:]).all() for s in S.values())


@pytest.mark.parametrize("wrong, message", [
    (dict(loss="hinge"), "loss: got 'hinge'; give one of 'full'"), (dict(hidden=256), "hidden: got 256; give a tuple"), (dict(hidden=(0,)), "hidden: got 0"), (dict(hidden=("a",)), "hidden: got 'a'"),
    (dict(d=0), "d: got 0"), (dict(n_epochs=1.5), "n_epochs: got 1.5"), (dict(batch_size=0), "batch_size: got 0"), (dict(n_sampled=0), "n_sampled: got 0"),
    (dict(patience=0), "patience: got 0"), (dict(lr=0), "lr: got 0"), (dict(lr=float("nan")), "lr: got nan"), (dict(temperature=-1), "temperature: got -1"),
    (dict(weight_decay=-1), "weight_decay: got -1"), (dict(temperature="a"), "temperature: got 'a'"), (dict(d=True), "d: got True"),
    (dict(lr=1e38), r"lr: got 1e\+38; give a number from 1e-09 to 1"), (dict(lr=1e300), "lr: got 1e"), (dict(lr=True), "lr: got True"), (dict(lr=".1"), "lr: got '.1'"),
    (dict(temperature=1e-300), "temperature: got 1e-300; give a number from 0.0001"), (dict(temperature=1e300), "temperature: got 1e"),
    (dict(weight_decay=1e30), "weight_decay: got 1e"), (dict(n_sampled="8"), "n_sampled: got '8'")])
def test_wrong_parameters(wrong, message):
    with pytest.raises(ValueError, match=message):
        model(**wrong).fit(dataset(blocks))


@pytest.mark.parametrize("V, message", [(np.ones((4, 2)), "same vector"), (np.array([[0, np.nan]]), "not finite"), (np.full((4, 2), np.nan), "same vector")])
def test_vectors_nothing_can_be_learnt_from(V, message):
    with pytest.raises(ValueError, match=f"encoder: .*{message}"):
        standardise(V)


@pytest.mark.parametrize("wrong", [dict(n_sampled=10**12), dict(hidden=(10**9,)), dict(d=10**10), dict(hidden=(10**5, 10**6))])
def test_what_the_memory_cannot_hold_is_refused_before_it_is_made(wrong, monkeypatch):
    monkeypatch.setattr(llmrec.ranking.two_tower, "train_towers", None)
    (name, value), = wrong.items()
    told = f"{value:,}" if isinstance(value, int) else str(value)
    with pytest.raises(ValueError, match=f"{name} = {re.escape(told)}.*: this needs about [0-9,]+ GiB of memory, of [0-9,]+ GiB; give smaller ones .*RidgeRecommender"):
        model(**wrong).fit(dataset(blocks))


def test_the_estimate_counts_weights_films_and_scores():
    X = csr_matrix(blocks, dtype="float32")
    small, wide, many = (training_bytes(model(loss="sampled", **more), X, 4) for more in ({}, dict(hidden=(1000,)), dict(n_sampled=10_000)))
    assert wide - small > 16 * 2 * len(init_weights((4, 1000, 4), np.random.default_rng(0))) - 16 * 2 * len(init_weights((4, 4), np.random.default_rng(0)))
    assert many - small > 4 * 4 * 32 * (10_000 - 8), "several tables of a batch of 32 with a column for each film drawn"
    assert training_bytes(model(batch_size=10**12), X, 4) == training_bytes(model(batch_size=X.nnz), X, 4), "no batch has more likes than there are"
