"""Curves by hand, a test that can say no, and counterfactuals against trying every set."""
from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_matrix

from llmrec.data.dataset import Dataset
from llmrec.language.similarity import top_k
from llmrec.recommenders.base import Random
from llmrec.recommenders.linear import EASE
from llmrec.tastes.hybrids import Hybrid
from llmrec.lists.faithfulness import (counterfactual, gains, item_table, list_margins, measure_faithfulness,
    order_curves, removal_masks, tree_surrogate)
from tests.test_explanation import TALL, WIDE, Letters

GIVES = np.array([5, 3, -1, 1.])


def a_sum(masks):
    """A game in which each player gives a fixed amount."""
    return masks @ GIVES


def test_masks_and_curves_by_hand():
    assert removal_masks(np.array([2, 0, 1]), 3).astype(int).tolist() == [[1, 1, 1], [1, 1, 0], [0, 1, 0], [0, 0, 0]]
    assert removal_masks(np.arange(5), 2).sum(axis=1).tolist() == [5, 3, 0]
    deletion, insertion = order_curves(a_sum, np.array([[0, 1, 3, 2]]), steps=4)[0]
    assert np.allclose(deletion, [1, 3 / 8, 0, -1 / 8, 0]) and np.allclose(insertion, 1 - deletion)


def test_no_order_beats_that_by_value_where_the_value_is_a_sum():
    from itertools import permutations

    curves = order_curves(a_sum, np.array(list(permutations(range(4)))), steps=4)[:, 0]
    best = order_curves(a_sum, np.array([np.argsort(-GIVES)]), steps=4)[0, 0]
    assert (best <= curves.min(axis=0) + 1e-12).all()


def test_the_test_says_yes_to_the_truth_and_no_to_noise():
    rng, tables = np.random.default_rng(0), []
    for person in range(60):
        gives = rng.normal(.5, 1, 12)
        gives[0] += max(0, 1 - gives.sum())  # the whole is worth something
        tables.append(gains(lambda masks: masks @ gives, {"truth": gives, "noise": rng.random(12), "the wrong way round": -gives}, rng=person)[0])
    table = measure_faithfulness(tables)
    assert table.beats_random.to_dict() == {(name, test): name == "truth" for name in ("truth", "noise", "the wrong way round") for test in ("deletion", "insertion")}
    assert (table.loc["the wrong way round", "high"] < 0).all() and ((table.low <= table.gain) & (table.gain <= table.high)).all()


def test_deletion_and_insertion_differ_where_the_value_is_no_sum():
    curves = order_curves(lambda masks: masks.any(axis=1) * 1., np.array([[0, 1, 2]]), steps=3)[0]
    assert curves.tolist() == [[1, 1, 1, 0], [0, 1, 1, 1]]


def test_ties_are_broken_at_random_but_the_same_for_a_seed():
    first, again, other = (gains(a_sum, {"nothing": np.zeros(4)}, rng=seed)[0] for seed in (0, 0, 1))
    assert first.equals(again) and not first.equals(other)


def test_wrong_calls():
    with pytest.raises(ValueError, match="the whole speaks for"):
        order_curves(lambda masks: -a_sum(masks), np.array([[0, 1, 2, 3]]))
    with pytest.raises(ValueError, match="steps: got 0"):
        removal_masks(np.arange(3), 0)
    with pytest.raises(ValueError, match="steps: got True"):
        order_curves(a_sum, np.array([[0, 1, 2, 3]]), steps=True)
    with pytest.raises(ValueError, match="n_random: got 0"):
        gains(a_sum, {"truth": GIVES}, n_random=0)
    with pytest.raises(ValueError, match="n_draws: got True"):
        measure_faithfulness([gains(a_sum, {"truth": GIVES})[0]], n_draws=True)
    with pytest.raises(ValueError, match="tables: got none"):
        measure_faithfulness([])


def without(model, u, item, gone, k):
    """Whether the film is off the list when some likes are gone, by the recommended list itself."""
    h = model.X_[[u]].toarray()
    h[0, list(gone)] = 0
    S = model.score_history(csr_matrix(h))[0]
    S[model.train_.rated()[[u]].indices] = -np.inf
    return item not in top_k(S[None], k) or not h.any()


def test_counterfactuals_work_can_spare_nothing_and_are_smallest_where_they_say_so():
    model, larger = EASE(reg=5.).fit(WIDE), 0
    for u in range(12):
        for item in model.recommend(u, k=3).item_id:
            gone = counterfactual(model, u, item, k=3)
            codes = gone.item_id.tolist()
            assert codes and set(codes) <= set(model.X_[[u]].indices) and without(model, u, item, codes, 3)
            assert not any(without(model, u, item, set(codes) - {back}, 3) for back in codes)
            smaller = [some for size in range(1, len(codes)) for some in combinations(model.X_[[u]].indices, size) if without(model, u, item, some, 3)]
            assert not (gone.attrs["smallest"] and smaller)
            larger += bool(smaller)
    assert larger <= 4  # of 36: the greedy search is seldom far off


def test_counterfactual_gives_up_and_refuses():
    model = EASE(reg=5.).fit(WIDE)
    listed = [(u, item, len(counterfactual(model, u, item, k=3))) for u in range(12) for item in model.recommend(u, k=1).item_id]
    u, item, size = max(listed, key=lambda row: row[2])
    assert size > 1 and counterfactual(model, u, item, k=3, most=size - 1).empty
    for item_id in (model.X_[[0]].indices[0], model.recommend(0, k=12).item_id.iloc[-1]):
        with pytest.raises(ValueError, match="is not among the 3 best of user 0"):
            counterfactual(model, 0, item_id, k=3)
    with pytest.raises(ValueError, match="99"):
        counterfactual(model, 0, 99)


def test_models_that_are_not_fitted_or_do_not_fit_are_named():
    for ask in (lambda: counterfactual(EASE(), 0, 1), lambda: item_table(Hybrid(Letters()))):
        with pytest.raises(ValueError, match="(EASE|Hybrid) instance is not fitted"):
            ask()
    with pytest.raises(TypeError, match="model: EASE does not score by features"):
        item_table(EASE())
    with pytest.raises(TypeError, match="model: Random cannot score a history"):
        counterfactual(Random().fit(WIDE), 0, 1)
    for wrong, message in ((dict(k=True), "k: got True"), (dict(most=True), "most: got True")):
        with pytest.raises(ValueError, match=message):
            counterfactual(EASE().fit(WIDE), 0, 1, **wrong)


def test_margins_break_ties_as_lists_do():
    class Same(EASE):
        """Every film is as good as every other."""

        def score_history(self, H):
            return np.ones(H.shape, "float32")

    H, known = csr_matrix(np.ones((1, 40))), np.zeros(40, bool)
    listed = top_k(np.ones((1, 40)), 5)[0]
    assert [list_margins(Same(), H, item, known, 5)[0] > 0 for item in range(40)] == np.isin(np.arange(40), listed).tolist()


def test_margins_by_hand():
    class Given(EASE):
        """Scores that are given."""

        def score_history(self, H):
            return np.array([[5, 4, 3, 2, 1.]] * H.shape[0], "float32")

    H = csr_matrix(np.array([[0, 0, 0, 0, 1], [0, 0, 0, 0, 0.]]))
    known = np.array([False, True, False, False, True])
    assert list_margins(Given(), H, 0, known, 1).tolist() == [2, -np.inf]
    assert list_margins(Given(), H, 2, known, 2).tolist() == [1, -np.inf]


def test_the_surrogate_learns_what_is_there_and_admits_what_is_not():
    model = Hybrid(Letters(), reg=3.).fit(TALL)
    assert item_table(model, n_text=2).columns.tolist() == ["popularity", "text 1", "text 2", "Action", "Comedy", "Drama", "year"]
    rng = np.random.default_rng(0)
    table = pd.DataFrame(rng.random((800, 3)), columns=list("abc"))
    unscored = np.where(np.arange(800) % 9, table.a * 2, -np.inf)
    assert tree_surrogate(table, table.a.to_numpy() * 2)[1] > .95 and tree_surrogate(table, unscored)[1] > .95 and tree_surrogate(table, rng.random(800))[1] < .1


class Table(EASE):
    """Eight likes, of which each says something of twelve films."""

    def fit(self, B):
        n, m = B.shape
        frame = pd.DataFrame({"user_id": np.r_[np.zeros(n, int), np.ones(m, int)], "item_id": range(n + m), "rating": 5., "timestamp": range(n + m)})
        self.B, self.train_ = np.vstack([np.hstack([np.zeros((n, n)), B]), np.zeros((m, n + m))]), Dataset(frame, pd.DataFrame({"item_id": range(n + m)}), pd.RangeIndex(2, name="user_id"))
        self.X_ = self.train_.likes()
        return self

    def score_history(self, H):
        return (H @ self.B).astype("float32")


def test_a_like_put_back_may_free_another():
    B = np.random.default_rng(4097).normal(.3, 1, (8, 12))
    B[:, 0] += .6
    model = Table().fit(B)
    gone = counterfactual(model, 0, 8, k=3).item_id.tolist()
    assert gone and without(model, 0, 8, gone, 3)
    assert not any(without(model, 0, 8, set(gone) - {back}, 3) for back in gone)
