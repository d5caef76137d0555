"""NeuMF and LightGCN: their parts against dense NumPy, their gradients by finite differences, their promises as recommenders."""
import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings, strategies as st
from hypothesis.extra.numpy import arrays
from scipy.sparse import csr_matrix
from sklearn.base import clone

from llmrec.data.dataset import Dataset
from llmrec.recommenders.base import load_recommender
from llmrec.recommenders.neural import (LightGCN, NeuMF, NeuMFNet, as_torch, bpr_loss, draw_unliked,
    epoch_batches, normalised_likes, propagate)

QUICK = {LightGCN: dict(d=4, n_epochs=3), NeuMF: dict(d=3, n_epochs=2, batch_size=16)}


def dataset(X):
    """Likes as a Dataset that keeps empty rows and columns."""
    user, item = np.nonzero(X)
    return Dataset(pd.DataFrame({"user_id": user, "item_id": item}), pd.DataFrame({"item_id": range(X.shape[1])}),
                   pd.RangeIndex(X.shape[0], name="user_id"))


likes = st.tuples(st.integers(1, 6), st.integers(1, 7)).flatmap(lambda shape: arrays(np.int8, shape, elements=st.integers(0, 1)))
blocks = (np.arange(12)[:, None] // 6 == np.arange(10) // 5) & (np.random.default_rng(0).random((12, 10)) < .7)  # two groups, each with films of its own


def propagate_dense(X, E, n_layers):
    """Powers of the normalised adjacency of the whole graph."""
    n = X.shape[0]
    A = np.block([[np.zeros((n, n)), X], [X.T, np.zeros((X.shape[1],) * 2)]])
    root = np.sqrt(np.maximum(1, A.sum(0)))
    return sum(np.linalg.matrix_power(A / root / root[:, None], k) @ E for k in range(n_layers + 1)) / (n_layers + 1)


def both_ways(X):
    A = normalised_likes(csr_matrix(X, dtype="float64"))
    return as_torch(A), as_torch(A.T.tocsr())


@settings(deadline=None, max_examples=60)
@given(likes, st.integers(0, 4), st.integers(0, 2**31))
def test_propagation_is_the_dense_one(X, n_layers, seed):
    E = np.random.default_rng(seed).normal(size=(sum(X.shape), 2))
    U, V = propagate(*both_ways(X), torch.from_numpy(E[:len(X)]), torch.from_numpy(E[len(X):]), n_layers)
    assert np.allclose(np.vstack([U, V]), propagate_dense(X.astype(float), E, n_layers), atol=1e-12)


def test_propagation_by_hand():
    """Person 0 likes films 0 and 1, person 1 likes film 0: the weights are 1/2, 1/sqrt 2 and 1/sqrt 2, and film 2 hears nothing."""
    likes, likes_t = both_ways(np.array([[1, 1, 0], [1, 0, 0]]))
    U, V = propagate(likes, likes_t, torch.zeros(2, 1).double(), torch.tensor([[1.], [0.], [5.]]).double(), 1)
    assert np.allclose(U.ravel(), [1 / 4, np.sqrt(.5) / 2]) and np.allclose(V.ravel(), [.5, 0, 2.5])


@pytest.mark.parametrize("n_layers", [0, 1, 3])
def test_the_gradient_through_the_graph(n_layers):
    graph, rng = both_ways(blocks), np.random.default_rng(1)
    U, V = (torch.from_numpy(rng.normal(size=(n, 2))).requires_grad_() for n in blocks.shape)
    triples = [torch.from_numpy(rng.integers(0, n, 8)) for n in (12, 10, 10)]
    assert torch.autograd.gradcheck(lambda U, V: bpr_loss(*propagate(*graph, U, V, n_layers), *triples), (U, V))


def test_the_gradient_of_the_network():
    net = NeuMFNet(4, 5, 2, torch.Generator().manual_seed(0)).double()
    names, values = zip(*net.named_parameters())
    users, items = torch.tensor([0, 3, 1])[:, None], torch.tensor([4, 0, 2])

    def scores(*values): return torch.func.functional_call(net, dict(zip(names, values)), (users, items)).sigmoid()
    generator = torch.Generator().manual_seed(1)  # random biases too: at zero, a relu may stand on its kink
    assert torch.autograd.gradcheck(scores, tuple(torch.randn(v.shape, generator=generator, dtype=v.dtype, requires_grad=True) for v in values))


def test_the_bpr_loss_by_hand():
    U, V = torch.tensor([[1., 0]]), torch.tensor([[2., 9], [0, 9]])
    zero, one = torch.tensor([0]), torch.tensor([1])
    assert bpr_loss(U, V, zero, zero, one).item() == pytest.approx(np.log(1 + np.exp(-2)))
    assert bpr_loss(U, V, zero, one, zero).item() == pytest.approx(np.log(1 + np.exp(2)))


@settings(deadline=None, max_examples=60)
@given(likes, st.integers(0, 2**31))
def test_what_is_drawn_was_not_liked(X, seed):
    users = np.repeat(np.flatnonzero(X.sum(1) < X.shape[1]), 5)
    drawn = draw_unliked(csr_matrix(X), users, np.random.default_rng(seed))
    assert not X[users, drawn].any() and ((0 <= drawn) & (drawn < X.shape[1])).all()


def test_all_that_was_not_liked_is_drawn_equally_often():
    X = csr_matrix(np.array([[0, 1, 0, 0, 1], [1, 0, 1, 1, 0]]))
    first, second = np.split(draw_unliked(X, np.repeat([0, 1], 9000), np.random.default_rng(0)), 2)
    assert abs(np.bincount(first, minlength=5) - [3000, 0, 3000, 3000, 0]).max() < 200
    assert abs(np.bincount(second, minlength=5) - [0, 4500, 0, 0, 4500]).max() < 200


def test_an_epoch_holds_every_like_once_but_those_of_who_likes_everything():
    X = csr_matrix(np.vstack([blocks, np.ones(10)]).astype("float32"))
    batches = list(epoch_batches(X, 3, 16, np.random.default_rng(0)))
    users, liked, unliked = (torch.cat(parts).numpy() for parts in zip(*batches))
    assert sorted(zip(users, liked)) == list(zip(*np.nonzero(blocks))) and unliked.shape == (len(users), 3)
    assert not blocks[users[:, None], unliked].any() and [len(part[0]) for part in batches[:-1]] == [16] * (len(batches) - 1)


@pytest.mark.parametrize("model", [LightGCN(d=4, n_epochs=60), NeuMF(d=4, n_epochs=150, batch_size=16)], ids=["LightGCN", "NeuMF"])
def test_two_groups_are_told_apart(model):
    S = model.fit(dataset(blocks)).score_items(range(12))
    own = np.arange(12)[:, None] // 6 == np.arange(10) // 5
    assert S[own].min() > S[~own].max()


@pytest.mark.parametrize("kind", QUICK)
def test_clone_refit_save_and_load(kind, tmp_path):
    data, model = dataset(blocks), kind(**QUICK[kind], rng=3)
    before = torch.get_rng_state()
    scores = model.fit(data).score_items([0, 7])
    assert scores.dtype == "float32" and torch.equal(torch.get_rng_state(), before), "the global generator is left alone"
    assert np.array_equal(clone(model).fit(data).score_items([0, 7]), scores)
    assert np.array_equal(model.fit(dataset(np.eye(4, 7))).fit(data).score_items([0, 7]), scores)
    assert not np.array_equal(clone(model).set_params(rng=4).fit(data).score_items([0, 7]), scores)
    model.save(tmp_path / "model.npz")
    assert np.array_equal(load_recommender(tmp_path / "model.npz").score_items([0, 7]), scores)
    assert all(isinstance(value, np.ndarray) for name, value in vars(model).items() if name.endswith("_") and name not in ("X_", "train_"))


@pytest.mark.parametrize("kind", QUICK)
def test_who_likes_nothing_has_no_score_and_who_likes_everything_does_no_harm(kind):
    X = np.vstack([blocks, np.zeros(10), np.ones(10)])
    S = kind(**QUICK[kind]).fit(dataset(X)).score_items([12, 13])
    assert np.isneginf(S[0]).all() and np.isfinite(S[1]).all()


def test_scores_are_of_the_weights_that_were_learnt():
    data = dataset(blocks)
    model = LightGCN(**QUICK[LightGCN]).fit(data)
    assert np.allclose(model.score_items([5]), model.U_[[5]] @ model.V_.T)
    similar = LightGCN(**QUICK[LightGCN]).fit(dataset(np.pad(blocks, ((0, 0), (0, 1))))).item_similarity(np.array([0, 10]))
    assert similar[0, 0] == pytest.approx(1) and np.isneginf(similar[0, 10]) and np.isneginf(similar[1]).all() and similar.dtype == "float32"
    net, scores = NeuMFNet(12, 10, 3), NeuMF(**QUICK[NeuMF]).fit(data)
    torch.nn.utils.vector_to_parameters(torch.from_numpy(scores.weights_), net.parameters())
    assert scores.score_items([5])[0, 7] == pytest.approx(net(torch.tensor(5), torch.tensor(7)).item(), abs=1e-5)


def test_nothing_learnt_is_as_large_as_users_times_items(movielens):
    few = movielens.take(np.arange(2000))
    for kind in QUICK:
        model = kind(**{**QUICK[kind], "n_epochs": 1, "batch_size": 4096}).fit(few)
        sizes = [value.size for value in vars(model).values() if isinstance(value, np.ndarray)]
        assert max(sizes) <= 20 * (movielens.n_users + movielens.n_items)


@pytest.mark.parametrize("kind", QUICK)
@pytest.mark.parametrize("wrong, message", [
    (dict(d=0), "d: got 0"), (dict(d=True), "d: got True"), (dict(d="a"), "d: got 'a'"), (dict(d=10**12), "d: got 1000000000000"),
    (dict(n_epochs=1.5), "n_epochs: got 1.5"), (dict(batch_size=0), "batch_size: got 0"), (dict(lr=0), "lr: got 0; give a number from 1e-06 to 1,000,000"), (dict(lr="a"), "lr: got 'a'"),
    (dict(reg=-1), "reg: got -1"), (dict(reg=float("nan")), "reg: got nan"), (dict(reg=None), "reg: got None"), (dict(reg=1e300), r"reg: got 1e\+300")])
def test_wrong_parameters(kind, wrong, message):
    with pytest.raises(ValueError, match=message):
        kind(**wrong).fit(dataset(blocks))


def test_wrong_parameters_of_one_model():
    for model, message in ((LightGCN(n_layers=-1), "n_layers: got -1"), (LightGCN(n_layers=True), "n_layers: got True"), (NeuMF(n_unliked=0), "n_unliked: got 0"), (NeuMF(n_unliked="a"), "n_unliked: got 'a'")):
        with pytest.raises(ValueError, match=message):
            model.fit(dataset(blocks))


@pytest.mark.parametrize("kind", QUICK)
@pytest.mark.parametrize("X", [np.zeros((2, 3)), np.ones((2, 3))], ids=["no likes", "everything liked"])
def test_nothing_to_learn_from(kind, X):
    with pytest.raises(ValueError, match="train: nobody likes some items and not others"):
        kind().fit(dataset(X))
