"""Sequences: a block against torch, what the mask promises, windows by hand, the loss against a plain sum, and the promises of a recommender."""
import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings, strategies as st
from sklearn.base import clone

import llmrec.ranking.sequence
from llmrec.data.dataset import Dataset
from llmrec.language.encoding import Stateless
from llmrec.recommenders.base import load_recommender
from llmrec.ranking.training import hold_out, run_epoch
from llmrec.ranking.sequence import (ITEMS, SASRec, SASRecNet, cut_windows, like_order,
    network_bytes, next_loss, next_scores, pad_rows, rows_of_users)

QUICK = dict(d=8, length=6, n_epochs=3, batch_size=8, n_sampled=8, lr=.02, patience=9)
EVERY_KIND = pytest.mark.parametrize("items", ITEMS)


class Letters(Stateless):
    """Counts of the letters in a title: vectors without a language model."""

    def transform(self, X):
        return np.array([[text.count(letter) for letter in "abcdefgh"] for text in X], "float32")


def dataset(rows, n_items=None, **columns):
    """Likes in the order of the rows, as a Dataset; users without any stay."""
    user = np.repeat(np.arange(len(rows)), [len(row) for row in rows])
    item = np.concatenate([np.asarray(row, int) for row in rows])
    time = np.concatenate([np.arange(len(row)) for row in rows])
    n_items = n_items or item.max() + 1
    items = pd.DataFrame({"item_id": range(n_items), "title": [chr(97 + j % 8) * 2 + chr(97 + j // 8 % 8) for j in range(n_items)]})
    return Dataset(pd.DataFrame({"user_id": user, "item_id": item, "timestamp": time, **columns}), items, pd.RangeIndex(len(rows), name="user_id"))


def in_a_ring(n_users=40, n_items=12, length=7):
    """Everybody likes films in the order of a ring, each from another start: the last like tells the next."""
    return [[(user + step) % n_items for step in range(length)] for user in range(n_users)]


RING = in_a_ring()


def model(**more):
    return SASRec(Letters(), template="{title}", **(QUICK | more))


def random_net(n_items=15, n_likes=None, **more):
    """An untrained network with its model, without dropout."""
    settled = model(dropout=0, **more)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        n_likes = torch.ones(n_items, dtype=torch.int64) if n_likes is None else torch.as_tensor(n_likes)
        return SASRecNet(settled, torch.randn(n_items, 5), n_likes), settled


def test_a_block_is_the_multi_head_attention_of_torch():
    block = llmrec.ranking.sequence.Block(4, .5).eval()
    theirs = torch.nn.MultiheadAttention(4, 1, batch_first=True)
    x = torch.randn(2, 5, 4)
    with torch.no_grad():
        theirs.in_proj_weight.copy_(block.project.weight), theirs.in_proj_bias.copy_(block.project.bias)
        theirs.out_proj.weight.copy_(torch.eye(4)), theirs.out_proj.bias.zero_()
        normed = block.before(x)
        answers, weights = theirs(normed, normed, normed, attn_mask=~torch.ones(5, 5, dtype=torch.bool).tril())
        h = x + answers
        found, found_weights = block(x)
        assert torch.allclose(found, h + block.think(block.between(h)), atol=1e-5) and torch.allclose(found_weights, weights, atol=1e-6)


@pytest.mark.parametrize("n_blocks", [1, 3])
@EVERY_KIND
def test_no_state_knows_later_likes(items, n_blocks):
    net, _ = random_net(items=items, n_blocks=n_blocks)
    one, two = (torch.tensor([row]) for row in ([1, 2, 3, 4, 5, 6], [1, 2, 3, 9, 8, 7]))
    first, second = (net(net.vectors(row))[0][0] for row in (one, two))
    assert torch.allclose(first[:3], second[:3], atol=1e-6) and not torch.allclose(first[3], second[3], atol=1e-3)


@EVERY_KIND
def test_filling_does_not_matter(items):
    net, _ = random_net(items=items)
    S = next_scores(net, pad_rows([np.array([3, 1, 2])], 3))
    assert np.allclose(next_scores(net, pad_rows([np.array([3, 1, 2]), np.arange(6)], 6))[0], S[0], atol=1e-6)


def test_places_make_an_order_of_a_set():
    net, _ = random_net()
    S = next_scores(net, pad_rows([np.array([3, 1, 2]), np.array([1, 3, 2])], 6))
    assert not np.allclose(S[0], S[1], atol=1e-4)
    with torch.no_grad():
        net.places.zero_()
    S = next_scores(net, pad_rows([np.array([3, 1, 2]), np.array([1, 3, 2])], 6))
    assert np.allclose(S[0], S[1], atol=1e-5), "without places, what comes before the last like is a set"


def test_the_last_likes_are_kept():
    assert pad_rows([np.arange(5), np.array([7]), np.array([], int)], 3).tolist() == [[2, 3, 4], [7, -1, -1], [-1, -1, -1]]


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(0, 12), min_size=1, max_size=5), st.integers(1, 6), st.integers(0, 2**31))
def test_every_like_but_the_first_is_predicted_once_from_those_before_it(sizes, length, seed):
    rows = [np.arange(size) + 100 * user for user, size in enumerate([*sizes, 2])]
    users, inputs, targets = cut_windows(rows, length, np.random.default_rng(seed))
    real = targets >= 0
    assert inputs.shape == targets.shape == (len(users), length) and np.array_equal(inputs >= 0, real)
    assert np.array_equal(inputs[real] + 1, targets[real]) and (targets // 100 == users[:, None])[real].all()
    assert sorted(targets[real]) == sorted(like for row in rows for like in row[1:])


def test_windows_differ_between_epochs():
    rng = np.random.default_rng(0)
    one, two = (cut_windows([np.arange(50)], 6, rng)[2] for _ in range(2))
    assert not np.array_equal(one, two)


def test_likes_are_ordered_by_time_and_ties_are_drawn():
    frame = pd.DataFrame({"user_id": [1, 0, 1, 0, 1], "item_id": [0, 1, 2, 3, 4], "rating": [5, 4, 4, 3, 5.], "timestamp": [9, 7, 8, 1, 1]})
    data = Dataset(frame, pd.DataFrame({"item_id": range(5)}), pd.RangeIndex(2, name="user_id"))
    users, items = like_order(data, np.random.default_rng(0))
    assert users.tolist() == [0, 1, 1, 1] and items.tolist() == [1, 4, 2, 0]
    tied = dataset([range(6)], rating=5.)
    tied.interactions["timestamp"] = 3
    orders = {tuple(like_order(tied, np.random.default_rng(seed))[1]) for seed in range(9)}
    assert len(orders) > 5 and all(sorted(order) == [0, 1, 2, 3, 4, 5] for order in orders)


def test_rows_of_users_without_likes_are_empty():
    assert [row.tolist() for row in rows_of_users(np.array([1, 1, 3]), np.array([5, 6, 7]), 5)] == [[], [5, 6], [], [7], []]


def test_what_is_held_out_is_the_end_of_the_row():
    rng = np.random.default_rng(1)
    data = dataset([rng.permutation(40)[:30] for _ in range(5)], 40)
    data.interactions["timestamp"] = rng.integers(0, 4, len(data.interactions))  # mostly ties
    users, items = like_order(data, np.random.default_rng(3))
    _, held = hold_out(data, np.random.default_rng(3))
    for user, row in enumerate(rows_of_users(users, items, 5)):
        assert set(row[-3:]) == set(held[user].indices)


@EVERY_KIND
def test_the_full_loss_is_the_softmax_like_by_like(items):
    rows = [np.array([0, 1, 2, 3, 4]), np.array([5, 1, 7]), np.array([8, 2])]
    X = dataset(rows, 15).likes()
    n_likes = X.getnnz(axis=0)
    net, settled = random_net(items=items, loss="full", n_likes=n_likes)
    windows = cut_windows(rows, 6, np.random.default_rng(0))
    expected = []
    for user, row in enumerate(rows):
        for start in range(1, len(row)):
            window = next(inputs[:(targets == row[start]).argmax() + 1] for who, inputs, targets in zip(*windows) if who == user and row[start] in targets)
            state = net(net.vectors(torch.from_numpy(window))[None])[0][0, -1]
            s = net.vectors(torch.arange(15)) @ state + torch.log1p(torch.from_numpy(n_likes))
            others = [j for j in range(15) if n_likes[j] and j not in row]
            expected.append(torch.nn.functional.cross_entropy(s[[row[start], *others]][None], torch.tensor([0])).item())
    loss, n = next_loss(net, settled, X, windows, n_likes, np.random.default_rng(0))
    assert n == 7 and loss.item() == pytest.approx(np.mean(expected), rel=1e-4)


def test_the_sampled_loss_comes_near_to_the_full_one():
    data = dataset(RING)
    X, windows = data.likes(), cut_windows([np.array(row) for row in RING], 6, np.random.default_rng(0))
    net, full = random_net(n_items=12, n_likes=X.getnnz(axis=0), loss="full")
    sampled = clone(full).set_params(loss="sampled", n_sampled=4000)
    losses = [next_loss(net, settled, X, windows, X.getnnz(axis=0), np.random.default_rng(0))[0].item() for settled in (full, sampled)]
    assert losses[0] == pytest.approx(losses[1], abs=.02)


@EVERY_KIND
def test_it_learns_what_follows_in_a_ring(items):
    fitted = model(items=items, n_epochs=12, patience=12, loss="full", dropout=.1).fit(dataset(RING))
    S = fitted.score_sequences([np.array([(start + step) % 12 for step in range(5)]) for start in range(12)])
    for start in range(12):
        S[start, [(start + step) % 12 for step in range(5)]] = -np.inf  # known likes
    right = (S.argmax(axis=1) == (np.arange(12) + 5) % 12).mean()
    assert right > .8, right


def test_same_seed_same_model_and_a_clean_generator():
    data, before = dataset(RING), torch.get_rng_state()
    one, two, other = (model(rng=rng).fit(data).score_items([0, 3]) for rng in (3, 3, 4))
    assert one.dtype == np.float32 and np.array_equal(one, two) and not np.array_equal(one, other)
    assert torch.equal(torch.get_rng_state(), before), "the global generator is left alone"


@EVERY_KIND
def test_what_is_learned_is_arrays_that_save_and_load(items, tmp_path, monkeypatch):
    monkeypatch.setattr("llmrec.language.encoding.TextEncoder", Letters)  # parameters that can be saved
    fitted = model(items=items).set_params(encoder=None).fit(dataset(RING))
    learned = {name: value for name, value in vars(fitted).items() if name.endswith("_") and name not in ("X_", "train_")}
    assert learned.keys() == {"V_", "n_likes_", "weights_", "history_", "sequences_"} and all(type(value) is np.ndarray for value in learned.values())
    fitted.save(tmp_path / "model.npz")
    loaded = load_recommender(tmp_path / "model.npz")
    assert np.array_equal(loaded.score_items([0, 5]), fitted.score_items([0, 5]))
    assert np.array_equal(loaded.recommend([0, 5], k=3), fitted.recommend([0, 5], k=3))


def test_scores_are_those_of_the_persons_sequence():
    fitted = model().fit(dataset(RING))
    assert np.allclose(fitted.score_items([2, 0]), fitted.score_sequences([np.array(RING[2]), np.array(RING[0])]), atol=1e-6)
    assert not hasattr(fitted, "score_history")


def test_people_with_one_like_or_none():
    fitted = model().fit(dataset([*RING, [4], []], 12))
    S = fitted.score_items([40, 41])
    assert np.isfinite(S[0]).all() and np.isneginf(S[1]).all()
    assert np.isneginf(fitted.score_sequences([np.array([], int)])).all()


@EVERY_KIND
def test_a_film_that_nobody_liked_needs_language(items):
    S = model(items=items).fit(dataset(RING, 14)).score_items([0, 1])
    assert np.isfinite(S[:, :12]).all()
    assert np.isneginf(S[:, 12:]).all() if items == "ids" else np.isfinite(S[:, 12:]).all()


def test_training_stops_when_nothing_better_comes_and_keeps_the_best():
    fitted = model(n_epochs=200, patience=4, lr=.1).fit(dataset(RING))
    ndcg = fitted.history_[:, 1]
    assert len(ndcg) == ndcg.argmax() + 5 < 200
    until_best = model(n_epochs=int(ndcg.argmax()) + 1, patience=200, lr=.1).fit(dataset(RING))
    assert np.array_equal(until_best.weights_, fitted.weights_)


@pytest.mark.parametrize("die_in", [1, 3])
def test_a_killed_run_ends_as_if_it_had_not_been(die_in, tmp_path, monkeypatch):
    data, path = dataset(RING), tmp_path / "run"
    straight = model(dropout=.3).fit(data)

    def killed(loss, order, batch_size, optimiser, calls=[]):
        calls.append(0)
        if len(calls) == die_in:
            run_epoch(loss, order[:batch_size], batch_size, optimiser)  # half an epoch's damage
            raise KeyboardInterrupt
        return run_epoch(loss, order, batch_size, optimiser)
    monkeypatch.setattr(llmrec.ranking.sequence, "run_epoch", killed)
    with pytest.raises(KeyboardInterrupt):
        model(dropout=.3, checkpoint=path).fit(data)
    monkeypatch.undo()
    torch.rand(5)
    resumed = model(dropout=.3, checkpoint=path).fit(data)
    assert np.array_equal(resumed.weights_, straight.weights_) and np.array_equal(resumed.history_, straight.history_)
    for other, train in ((model(dropout=.2, checkpoint=path), data), (model(dropout=.3, rng=1, checkpoint=path), data), (model(dropout=.3, checkpoint=path), dataset(RING[::-1]))):
        with pytest.raises(ValueError, match="checkpoint: .* is of a run on other data or with other settings"):
            other.fit(train)


def test_without_times_it_refuses():
    data = dataset(RING)
    with pytest.raises(ValueError, match="train: has no column 'timestamp'"):
        model().fit(Dataset(data.interactions.drop(columns="timestamp"), data.items, data.users))


def test_nobody_with_three_likes():
    with pytest.raises(ValueError, match="nobody has 3 likes"):
        model().fit(dataset([[0, 1], [1, 2]]))


@pytest.mark.parametrize("wrong, message", [
    (dict(items="texts"), "items: got 'texts'; give one of 'both', 'language', 'ids'"), (dict(loss="in-batch"), "loss: got 'in-batch'; give one of 'full', 'sampled'"),
    (dict(d=0), "d: got 0"), (dict(n_blocks=0), "n_blocks: got 0"), (dict(length=2.5), "length: got 2.5"), (dict(dropout=1), "dropout: got 1"), (dict(dropout=-.1), "dropout: got -0.1"),
    (dict(batch_size=0), "batch_size: got 0"), (dict(n_sampled=0), "n_sampled: got 0"), (dict(n_epochs="9"), "n_epochs: got '9'"), (dict(patience=0), "patience: got 0"),
    (dict(lr=0), "lr: got 0"), (dict(lr=float("nan")), "lr: got nan"), (dict(weight_decay=-1), "weight_decay: got -1"), (dict(lr=1e38), r"lr: got 1e\+38; give a number from 1e-09 to 1"),
    (dict(lr="a"), "lr: got 'a'"), (dict(dropout="a"), "dropout: got 'a'"), (dict(dropout=True), "dropout: got True"), (dict(d=True), "d: got True"), (dict(weight_decay=1e30), "weight_decay: got 1e")])
def test_wrong_parameters_are_named(wrong, message):
    with pytest.raises(ValueError, match=message):
        model(**wrong).fit(dataset(RING))


@pytest.mark.parametrize("wrong", [dict(n_sampled=10**12), dict(d=10**9), dict(length=10**11), dict(n_blocks=10**10)])
def test_what_the_memory_cannot_hold_is_refused_before_it_is_made(wrong, monkeypatch):
    monkeypatch.setattr(llmrec.ranking.sequence, "train_sasrec", None)
    (name, value), = wrong.items()
    with pytest.raises(ValueError, match=f"{name} = {value:,}.*: this needs about [0-9,]+ GiB of memory, of [0-9,]+ GiB; give smaller ones .*ItemKNN"):
        model(**wrong).fit(dataset(RING))


@EVERY_KIND
def test_the_estimate_counts_every_weight(items):
    net, settled = random_net(items=items, n_blocks=2)
    X = dataset(RING, 15).likes()
    assert network_bytes(settled, X, 5) > 16 * sum(weights.numel() for weights in net.parameters())
