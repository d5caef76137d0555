"""The mean and attention against loops and in their limits; how much an item of a history counts, by hand and against a loop."""
import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_matrix
from scipy.special import softmax

from llmrec.data.dataset import make_dataset
from llmrec.language.similarity import SIMILARITIES, cosine
from llmrec.tastes.histories import attention_scores, mean_profile, weigh_history
from tests.test_profiles import films


def histories(seed, dislikes=False, n_items=15):
    """Nine people, the fourth without any film, and vectors of 15 items."""
    rng = np.random.default_rng(seed)
    W = np.where(rng.random((9, n_items)) < .3, rng.uniform(.2, 2, (9, n_items)), 0)
    if dislikes:
        W *= rng.choice([1, 1, -1], W.shape)
    W[3] = 0
    return W.astype("float32"), rng.normal(size=(n_items, 6)).astype("float32")


# The mean

@pytest.mark.parametrize("seed", range(3))
def test_mean_profile_equals_a_loop(seed):
    W, V = histories(seed, dislikes=seed == 2)
    U = mean_profile(csr_matrix(W), V)
    assert U.dtype == np.float32 and U.shape == (9, 6) and (U[3] == 0).all()
    for u, row in zip(U, W):
        assert np.allclose(u, sum((w * v for w, v in zip(row, V)), np.zeros(6)) / (abs(row).sum() or 1), atol=1e-6)


# Attention

@pytest.mark.parametrize("similarity", SIMILARITIES)
@pytest.mark.parametrize("dislikes", [False, True])
def test_attention_equals_a_loop_over_people_and_items(similarity, dislikes):
    W, V = histories(0, dislikes)
    S = attention_scores(csr_matrix(W), V, .2, similarity, block=4)
    assert S.dtype == np.float32 and S.shape == W.shape and (S[3] == 0).all()
    C = SIMILARITIES[similarity](V, V)
    for u in np.delete(range(9), 3):
        films = np.flatnonzero(W[u])
        for i in range(len(V)):
            loudness = softmax(np.log(abs(W[u, films])) + C[films, i] / .2)
            assert S[u, i] == pytest.approx((np.sign(W[u, films]) * loudness) @ C[films, i], abs=2e-5)


def test_attention_between_its_limits():
    W, V = histories(1)
    H, C = csr_matrix(W), cosine(V, V)
    rows = np.delete(range(9), 3)
    hot, cold = attention_scores(H, V, 1e6)[rows], attention_scores(H, V, .005)[rows]
    assert np.allclose(hot, W[rows] @ C / W[rows].sum(axis=1, keepdims=True), atol=1e-4)
    assert np.allclose(cold, [C[row > 0].max(axis=0) for row in W[rows]], atol=.02)
    assert np.array_equal(attention_scores(H, V, .1), attention_scores(H, V, .1, block=1000))
    assert attention_scores(csr_matrix((2, 15)), V).tolist() == [[0] * 15] * 2


def test_attention_refuses_what_it_cannot_tell_apart():
    H = csr_matrix(np.float32([[1, 0], [0, 1]]))
    with pytest.raises(ValueError, match="temperature: 1e-05 is too low here"):
        attention_scores(H, np.float32([[1, 0], [0, 1]]), 1e-5)
    for temperature in (0, -1., np.nan):
        with pytest.raises(ValueError, match="temperature: got .*; give a number above 0"):
            attention_scores(H, np.eye(2), temperature)
    with pytest.raises(ValueError, match="similarity: got 'dot'; give one of 'cosine'"):
        attention_scores(H, np.eye(2), similarity="dot")


# How much each film counts

def test_weights_by_hand():
    frame = pd.DataFrame(dict(user_id=[1, 1, 1, 1, 1, 1, 2], item_id=[10, 20, 30, 40, 50, 60, 10], rating=[4, 5, 2.5, 5, 4.5, 3, 4],
                              timestamp=[10, 20, 25, 30, 30, 40, 5], title=list("abcdefa")))
    data = make_dataset(frame)
    weigh = lambda **settings: weigh_history(data, **settings).toarray().tolist()
    assert weigh() == [[1, 1, 0, 1, 1, 0], [1, 0, 0, 0, 0, 0]]
    assert weigh(half_life=1) == [[1 / 8, 1 / 4, 0, 1, 1, 0], [1, 0, 0, 0, 0, 0]]    # the two of one second do not age each other
    assert weigh(by_rating=True) == [[1, 2, 0, 2, 1.5, 0], [1, 0, 0, 0, 0, 0]]
    assert weigh(dislikes=.5, half_life=2) == pytest.approx(np.float32([[.5 ** 1.5, .5, -.25, 1, 1, 0], [1, 0, 0, 0, 0, 0]]))


@pytest.mark.parametrize("half_life", [.7, 4, 1e6])
def test_weights_equal_a_loop_whatever_the_order_of_the_rows(half_life):
    rng = np.random.default_rng(0)
    rows = pd.DataFrame({"user_id": np.repeat(range(5), 20), "item_id": np.tile(range(20), 5), "rating": rng.integers(1, 6, 100),
                         "timestamp": rng.integers(0, 9, 100), "title": "a"}).sample(frac=1, random_state=0)
    W = weigh_history(make_dataset(rows), half_life=half_life, dislikes=.3)
    for row in rows.itertuples():
        later = ((rows.user_id == row.user_id) & (rows.rating >= 4) & (rows.timestamp > row.timestamp)).sum()
        wanted = (1 if row.rating >= 4 else -.3 if row.rating < 3 else 0) * .5 ** (later / half_life)
        assert W[row.user_id, row.item_id] == pytest.approx(wanted, rel=1e-6, abs=1e-30)


def test_without_settings_the_weights_are_the_likes():
    for data in (films(), make_dataset(films().interactions[["user_id", "item_id"]])):
        assert (weigh_history(data) != data.likes()).nnz == 0


@pytest.mark.parametrize("wrong, message", [({"half_life": 0}, "half_life: got 0; give a number above 0"), ({"half_life": np.nan}, "half_life: got nan"),
                                            ({"half_life": "5"}, "half_life: got '5'"), ({"dislikes": -1}, "dislikes: got -1; give a number of at least 0"),
                                            ({"half_life": 5}, "half_life: got 5, but the data has no column 'timestamp'"),
                                            ({"by_rating": True}, "by_rating: got True, but the data has no column 'rating'"),
                                            ({"dislikes": 1}, "dislikes: got 1, but the data has no column 'rating'")])
def test_wrong_weights_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        weigh_history(make_dataset(films().interactions[["user_id", "item_id"]]), **wrong)
