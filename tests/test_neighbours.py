"""EASE against an independent solver, in both of its forms, and in the right direction."""
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings, strategies as st
from hypothesis.extra.numpy import arrays
from scipy.sparse import csr_matrix
from sklearn.base import clone
from sklearn.linear_model import Ridge

from llmrec.data import Dataset
from llmrec.evaluation import evaluate
from llmrec.neighbours import EASE, ease_weights, load_recommender
from llmrec.splitting import PROTOCOLS


def dataset(X):
    """Likes as a Dataset that keeps empty rows and columns."""
    user, item = np.nonzero(X)
    return Dataset(pd.DataFrame({"user_id": user, "item_id": item}), pd.DataFrame({"item_id": range(X.shape[1])}),
                   pd.RangeIndex(X.shape[0], name="user_id"))


likes = st.tuples(st.integers(2, 9), st.integers(2, 9)).flatmap(lambda shape: arrays(np.int8, shape, elements=st.integers(0, 1)))


def by_ridge(X, reg):
    """Each column from all others, by scikit-learn."""
    B = np.zeros((X.shape[1], X.shape[1]))
    for j in range(X.shape[1]):
        others = np.delete(np.arange(X.shape[1]), j)
        B[others, j] = Ridge(alpha=reg, fit_intercept=False, solver="cholesky").fit(X[:, others], X[:, j]).coef_
    return B


@settings(deadline=None, max_examples=60)
@given(likes, st.floats(.5, 500))
def test_the_weights_are_ridge_regressions(X, reg):
    X = X.astype(float)
    assert np.allclose(ease_weights(csr_matrix(X), reg), by_ridge(X, reg), atol=1e-8)


@settings(deadline=None, max_examples=60)
@given(likes, likes, st.floats(.5, 500))
def test_both_forms_give_the_same_scores_for_any_history(X, histories, reg):
    histories = csr_matrix(np.resize(histories, (4, X.shape[1])), dtype="float32")
    model = EASE(reg).fit(dataset(X))
    assert hasattr(model, "B_") == (X.shape[1] <= X.shape[0]), "the smaller side is inverted"
    assert np.allclose(model.score_history(histories), histories @ by_ridge(X.astype(float), reg), atol=1e-4)


def test_refitting_on_the_other_side_forgets_the_first():
    wide, tall = np.eye(3, 5, dtype=int), np.eye(5, 3, dtype=int)
    model = EASE(1).fit(dataset(wide)).fit(dataset(tall))
    assert not hasattr(model, "K_") and hasattr(model, "B_")
    assert not hasattr(model.fit(dataset(wide)), "B_")


def test_direction():
    """Everybody who likes 0 likes 1 too, and many like 1 alone: 0 speaks for 1 more than 1 speaks for 0."""
    X = np.array([[1, 1, 0], [1, 1, 0], [0, 1, 0], [0, 1, 1], [0, 1, 0]])
    scores = EASE(1).fit(dataset(X)).score_history(csr_matrix(np.eye(3, dtype="float32")))
    assert scores[0, 1] > scores[1, 0]


def test_a_saved_model_comes_back(tmp_path):
    for X in (np.eye(3, 5, dtype=int), np.eye(5, 3, dtype=int)):
        model = EASE(2.5).fit(dataset(X))
        model.save(tmp_path / "ease.npz")
        back = load_recommender(tmp_path / "ease.npz")
        assert back.reg == 2.5 and np.array_equal(back.score_items([0, 2]), model.score_items([0, 2]))


@pytest.mark.parametrize("reg", [0, -1, float("nan")])
def test_a_penalty_that_is_none(reg):
    with pytest.raises(ValueError, match="reg: got"):
        EASE(reg).fit(dataset(np.eye(2, dtype=int)))


@pytest.mark.parametrize("protocol, ndcg", [("temporal", .1023), ("leave_one_out", .0408)])
def test_the_known_figures(movielens, protocol, ndcg):
    """What three independent implementations reach at lambda 100."""
    report = evaluate(EASE(100), PROTOCOLS[protocol](movielens))
    assert round(report.summary.loc["ndcg@10", "mean"], 4) == ndcg
    assert clone(EASE(7)).reg == 7
