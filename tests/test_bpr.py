"""BPR: its step against finite differences, its pairs, and the order it learns."""
import numpy as np
import pytest
from scipy.sparse import csr_matrix

from llmrec.recommenders.bpr import BPR, bpr_epoch, bpr_step
from tests.test_factors import dataset, some_likes


def test_a_step_of_bpr_goes_down_the_gradient():
    rng, lr, reg, h = np.random.default_rng(1), .05, .3, 1e-5
    triple, gap = rng.normal(size=(3, 5)), .7

    def loss(flat):
        u, v, w = flat.reshape(3, 5)
        return np.log1p(np.exp(-(gap + u @ (v - w)))) + reg / 2 * (flat @ flat)

    slopes = np.array([(loss(triple.ravel() + e) - loss(triple.ravel() - e)) / (2 * h) for e in h * np.eye(15)]).reshape(3, 5)
    moved = triple.copy()
    wrong = bpr_step(*moved, gap, lr, reg)
    assert np.allclose(moved, triple - lr * slopes, atol=1e-6)
    assert np.isclose(wrong, 1 / (1 + np.exp(gap + triple[0] @ (triple[1] - triple[2]))), atol=1e-6)


def test_an_epoch_draws_only_pairs_of_a_like_and_no_like():
    """With two of three films liked by everybody, every step pushes the third down and one of the two up."""
    X = csr_matrix(np.array([[1, 1, 0], [1, 1, 0]]), dtype="float32")
    bias, users = np.zeros(3, "float32"), np.array([0, 0, 1, 1])
    U, V = np.zeros((2, 2), "float32"), np.zeros((3, 2), "float32")
    wrong = bpr_epoch(users, X.indices, X.indptr, U, V, bias, np.float32(.1), np.float32(0), np.random.default_rng(0))
    assert bias[2] < 0 <= min(bias[0], bias[1]) and np.isclose(bias.sum(), 0, atol=1e-6) and 0 < wrong <= .5
    assert not U.any() and not V.any(), "vectors of zeros have no slope"


def test_bpr_learns_the_order():
    X = some_likes()
    model = BPR(16, reg=0, n_epochs=300).fit(dataset(X))
    scores = model.score_items(range(len(X)))
    assert (scores[X > 0].mean() > scores[X == 0].mean()) and model.wrong_[-1] < model.wrong_[0] / 4
    ordered = [(scores[u][X[u] > 0][:, None] > scores[u][X[u] == 0]).mean() for u in range(len(X))]
    assert np.mean(ordered) > .95


def test_bpr_has_no_fold_in():
    assert not hasattr(BPR(), "score_history")


def test_somebody_who_likes_everything():
    with pytest.raises(ValueError, match="train: somebody likes every item"):
        BPR().fit(dataset(np.array([[1, 1, 1], [1, 0, 0]])))
