"""Lists against a stable sort; metrics against ranx, plain loops and scikit-learn, and the properties that each must have."""
import re
import subprocess
import sys
import warnings

import numpy as np
import pytest
from hypothesis import assume, given, settings, strategies as st
from hypothesis.extra.numpy import arrays
from scipy.sparse import csr_matrix
from sklearn.metrics import ndcg_score

from llmrec.data.checks import check_whole
from llmrec.language.similarity import highest, tie_order, top_k
from llmrec.evaluation.metrics import (ACCURACY, accuracy, catalogue_coverage, find_hits, gini,
    intra_list_diversity, ndcg_at_k, novelty, popularity_lift, recall_at_k, serendipity)

many = settings(max_examples=150, deadline=None)
each_metric = pytest.mark.parametrize("name", ACCURACY)


def matrix(rows, n_items):
    """Sparse rows with a 1 for every item of each set."""
    return csr_matrix(np.array([[float(i in row) for i in range(n_items)] for row in rows]).reshape(len(rows), n_items))


# Lists

tied_scores = st.tuples(st.integers(0, 4), st.integers(1, 12)).flatmap(lambda shape: arrays(
    st.sampled_from(["float32", "float64"]), shape, elements=st.sampled_from([-np.inf, -1., -0., 0., .5, 2., np.inf])))


@many
@given(tied_scores, st.integers(1, 15))
def test_top_k_is_a_stable_sort_of_shuffled_items(scores, k):
    before, order = scores.copy(), tie_order(scores.shape[1])
    best = order[np.argsort(-scores[:, order], axis=1, kind="stable")[:, :k]]
    best[np.take_along_axis(scores, best, 1) == -np.inf] = -1
    expected = np.pad(best, ((0, 0), (0, max(0, k - scores.shape[1]))), constant_values=-1)
    found = top_k(scores, k)
    assert found.shape == (len(scores), k) and found.dtype == np.int64 and (found == expected).all()
    assert (scores == before).all()


@pytest.mark.parametrize("view", [lambda S: S[:, ::-1], lambda S: np.asfortranarray(S), lambda S: S[::2]])
def test_top_k_reads_any_array(view):
    scores = view(np.random.default_rng(0).integers(0, 50, (6, 40)).astype("float32"))
    order = tie_order(40)
    assert (top_k(scores, 7) == order[np.argsort(-scores[:, order], axis=1, kind="stable")[:, :7]]).all()


def test_the_lowest_codes_win_no_ties():
    listed = top_k(np.zeros((1, 10_000), "float32"), 1000)[0]
    assert 4_000 < listed.mean() < 6_000 and len(set(listed)) == 1000
    assert np.array_equal(top_k(np.zeros((3, 10_000)), 1000), np.tile(listed, (3, 1))), "the same for everybody"
    assert sorted(tie_order(7)) == list(range(7))


@many
@given(arrays("float32", st.tuples(st.integers(1, 3), st.integers(1, 70)), elements=st.sampled_from([-np.inf, -1., 0., .5, 2., np.nan])), st.data())
def test_the_highest_are_those_of_a_full_sort(scores, data):
    m = data.draw(st.integers(1, scores.shape[1]))
    codes = highest(scores, m)
    assert codes.shape == (len(scores), m) and all(len(set(row)) == m for row in codes)
    assert np.array_equal(np.sort(np.take_along_axis(scores, codes, 1)), np.sort(scores)[:, -m:], equal_nan=True), "NaN comes first"


def test_the_highest_are_those_of_torch():
    import torch
    scores = np.random.default_rng(0).normal(size=(64, 9066)).astype("float32")
    assert np.array_equal(top_k(scores, 20), torch.topk(torch.from_numpy(scores), 20).indices.numpy())


@pytest.mark.parametrize("room", ["evaluation.metrics", "evaluation.protocol", "recommenders.base", "recommenders.content", "recommenders.neighbours", "evaluation.judging"])
def test_no_torch_is_loaded_to_rank(room):
    """And the lists are the same in a process that has loaded it."""
    lists = "np.random.default_rng(0).integers(0, 9, (50, 200)).astype('float32')"
    code = f"import sys, numpy as np, llmrec.{room}; from llmrec.language.similarity import top_k; print(top_k({lists}, 20).tolist(), 'torch' in sys.modules)"
    import torch  # noqa: F401
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert found.strip() == f"{top_k(np.random.default_rng(0).integers(0, 9, (50, 200)).astype('float32'), 20).tolist()} False"


@pytest.mark.filterwarnings("error")
def test_top_k_reads_an_array_that_cannot_be_written():
    scores = np.arange(6, dtype="float32").reshape(2, 3)
    scores.flags.writeable = False
    assert top_k(scores, 2).tolist() == [[2, 1], [2, 1]]


@pytest.mark.parametrize("k", [0, -1, 1.5, "3", None, True, np.True_, [2], np.array([2])], ids=repr)
def test_a_faulty_k_is_refused(k):
    with pytest.raises(ValueError, match=re.escape(f"k: got {k!r}; give a whole number of at least 1")):
        top_k(np.zeros((2, 3), "float32"), k)


@pytest.mark.parametrize("k", [2, np.int64(2), np.uint8(2)], ids=repr)
def test_whole_numbers_of_any_kind_are_a_k(k):
    assert top_k(np.array([[1., 3, 2]]), k).tolist() == [[1, 2]]
    with pytest.raises(ValueError, match="^budget: got 0; give a whole number of at least 1"):
        check_whole(budget=0)


@pytest.mark.parametrize("at", [0, 3, 9])
def test_nan_is_refused_wherever_it_is(at):
    scores = np.arange(20, dtype="float32").reshape(2, 10)
    scores[1, at] = np.nan
    with pytest.raises(ValueError, match="^scores: hold NaN"):
        top_k(scores, 1)


# Accuracy

cases = st.integers(1, 9).flatmap(lambda n: st.tuples(
    st.permutations(range(n)), st.integers(0, n), st.sets(st.integers(0, n - 1)), st.integers(1, 12), st.just(n)))


def loop(name, listed, truth, k):
    """A metric in plain words, for one list without empty places."""
    ranks = [rank for rank, item in enumerate(listed[:k], start=1) if item in truth]
    if not truth:
        return 0
    return {"recall": len(ranks) / len(truth), "precision": len(ranks) / k, "hit_rate": float(len(ranks) > 0), "mrr": 1 / ranks[0] if ranks else 0,
            "map": sum(n / rank for n, rank in enumerate(ranks, start=1)) / len(truth),
            "ndcg": sum(1 / np.log2(r + 1) for r in ranks) / sum(1 / np.log2(r + 2) for r in range(min(k, len(truth))))}[name]


@each_metric
@many
@given(cases)
def test_a_metric_equals_a_plain_loop_and_keeps_its_bounds(name, case):
    order, filled, truth, k, n = case
    padded = np.array([list(order[:filled]) + [-1] * (12 - filled)])
    value = ACCURACY[name](padded, matrix([truth], n), k)
    assert value.shape == (1,) and value.dtype == np.float64 and 0 <= value[0] <= 1 + 1e-12
    assert value[0] == pytest.approx(loop(name, order[:filled], truth, k), abs=1e-12)
    assert ACCURACY[name](padded[:, :max(1, filled)], matrix([truth], n), k)[0] == pytest.approx(value[0], abs=1e-12), "an empty place is no place"


@each_metric
@many
@given(cases, st.data())
def test_moving_a_hit_up_never_lowers_a_metric(name, case, data):
    order, _, truth, k, n = case
    hits, misses = [p for p in range(n) if order[p] in truth], [p for p in range(n) if order[p] not in truth]
    assume(hits and misses)
    hit, miss = data.draw(st.sampled_from(hits)), data.draw(st.sampled_from(misses))
    other = list(order)
    other[miss], other[hit] = other[hit], other[miss]
    worse, better = (order, other) if miss < hit else (other, order)
    before, after = ACCURACY[name](np.array([worse, better]), matrix([truth] * 2, n), k)
    assert after >= before - 1e-12
    if name in ("ndcg", "map") and min(hit, miss) < k:
        assert after > before, "these see every rank"


@each_metric
@many
@given(cases)
def test_a_perfect_list_has_one_and_an_empty_one_zero(name, case):
    order, _, truth, k, n = case
    assume(truth)
    perfect = np.array([sorted(order, key=lambda item: item not in truth)])
    value = ACCURACY[name](perfect, matrix([truth], n), k)[0]
    limit = {"recall": min(1, k / len(truth)), "map": min(1, k / len(truth)), "precision": min(1, len(truth) / k)}.get(name, 1)
    assert value == pytest.approx(limit), "1, or what the number of relevant items allows"
    assert ACCURACY[name](np.full((1, k), -1), matrix([truth], n), k)[0] == 0


def test_equals_ranx():
    """On ties in the scores, short lists, users without relevant items, and k beyond the lists."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from ranx import Qrels, Run, evaluate
    rng = np.random.default_rng(0)
    n, n_items = 200, 40
    scores = rng.integers(0, 6, (n, n_items)).astype("float32")
    scores[rng.random(scores.shape) < np.linspace(.2, .97, n)[:, None]] = -np.inf
    scores[np.isneginf(scores).all(axis=1), 0] = 1
    truth = csr_matrix(rng.random((n, n_items)) < rng.choice([.01, .1, .5], (n, 1)))
    topk = top_k(scores, 30)
    assert (topk[:, 4] < 0).any() and (np.diff(truth.indptr) == 0).any() and (topk[:, -1] < 0).any()
    run = Run({f"{u:03}": {str(item): 30. - place for place, item in enumerate(row) if item >= 0} for u, row in enumerate(topk)})
    qrels = Qrels({f"{u:03}": {str(item): 1 for item in truth[u].indices} or {"nothing": 0} for u in range(n)})
    for k in (1, 3, 10, 30, 50):
        ours = accuracy(topk, truth, (k,))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            theirs = evaluate(qrels, run, list(ours), return_mean=False)
        for name in ours:
            assert np.abs(ours[name] - theirs[name]).max() <= 1e-12, name


def test_ndcg_equals_scikit_learn():
    rng = np.random.default_rng(0)
    scores = rng.permuted(np.tile(np.arange(50.), (40, 1)), axis=1)
    truth = (rng.random((40, 50)) < .2).astype(float)
    truth[:, 0] = 1
    for k in (1, 5, 10, 50):
        ours = ndcg_at_k(top_k(scores, k), csr_matrix(truth), k)
        assert ours == pytest.approx([ndcg_score(truth[[u]], scores[[u]], k=k) for u in range(40)])


def test_rows_belong_to_their_lists():
    truth = csr_matrix(np.eye(4)[[2, 0, 3]])
    for metric in ACCURACY.values():
        assert metric(np.array([[2], [1], [3]]), truth, 1).tolist() == [1, 0, 1]


def test_accuracy_looks_hits_up_once_and_agrees():
    rng = np.random.default_rng(1)
    topk, truth = rng.permuted(np.tile(np.arange(30), (50, 1)), axis=1)[:, :10], csr_matrix(rng.random((50, 30)) < .2)
    table = accuracy(topk, truth, (3, 10))
    assert list(table) == [f"{name}@{k}" for k in (3, 10) for name in ACCURACY]
    for name, metric in ACCURACY.items():
        assert (table[f"{name}@3"] == metric(topk, truth, 3)).all()


@pytest.mark.parametrize("k", [0, -1, 1.5, "3", None])
@each_metric
def test_a_metric_refuses_a_faulty_k(name, k):
    with pytest.raises(ValueError, match=f"^k: got {k!r}"):
        ACCURACY[name](np.array([[0]]), matrix([{0}], 1), k)


def test_faulty_truth_is_refused():
    with pytest.raises(ValueError, match="^truth: has 1 rows for 2 lists"):
        recall_at_k(np.array([[0], [1]]), matrix([{0}], 2), 1)
    zeros = csr_matrix((np.array([1., 0]), ([0, 0], [0, 1])), shape=(1, 2))
    with pytest.raises(ValueError, match="^truth: holds stored zeros"):
        find_hits(np.array([[0]]), zeros)


# Beyond accuracy

lists = st.tuples(st.integers(1, 6), st.integers(1, 5), st.integers(5, 9)).flatmap(lambda shape: st.tuples(
    st.lists(st.permutations(range(shape[2])).map(lambda p: p[:shape[1]]), min_size=shape[0], max_size=shape[0]),
    arrays(bool, shape[:2]), st.just(shape[2]))).map(lambda made: (np.where(made[1], -1, np.array(made[0])), made[2]))


@many
@given(lists)
def test_coverage_and_gini_equal_a_plain_loop_and_keep_their_bounds(case):
    topk, n = case
    counts = sorted(int((topk == item).sum()) for item in range(n))
    assert catalogue_coverage(topk, n) == sum(c > 0 for c in counts) / n
    value = gini(topk, n)
    pairs = sum(abs(a - b) for a in counts for b in counts)
    assert value == pytest.approx(pairs / (2 * (n - 1) * sum(counts)) if sum(counts) else 0) and 0 <= value <= 1 + 1e-12


def test_gini_at_its_ends():
    assert gini(np.arange(12).reshape(6, 2), 12) == 0 and gini(np.zeros((9, 1), int), 5) == 1 and gini(np.zeros((3, 1), int), 1) == 0
    assert gini(np.array([[0], [0], [0], [1]]), 5) > gini(np.array([[0], [0], [1], [1]]), 5), "a place that goes to a rarer item lowers it"


@many
@given(lists, st.data())
def test_novelty_equals_a_plain_loop_and_rewards_the_rare(case, data):
    topk, n = case
    n_likes = np.array(data.draw(st.lists(st.integers(0, 20), min_size=n, max_size=n)))
    value = novelty(topk, n_likes, 20)
    expected = [np.mean([-np.log2((n_likes[i] + 1) / 21) for i in row[row >= 0]]) if (row >= 0).any() else 0 for row in topk]
    assert value == pytest.approx(expected, abs=1e-12) and (value >= 0).all() and (value <= np.log2(21) + 1e-12).all()
    rarer = n_likes.copy()
    rarer[0] = 0
    assert (novelty(topk, rarer, 20) >= value - 1e-12).all()


@many
@given(lists, st.data())
def test_popularity_lift_equals_a_plain_loop(case, data):
    topk, n = case
    n_likes = np.array(data.draw(st.lists(st.integers(0, 20), min_size=n, max_size=n)))
    liked = data.draw(arrays(bool, (len(topk), n)))
    value = popularity_lift(topk, csr_matrix(liked.astype("float32")), n_likes)
    for row, own, lift in zip(topk, liked, value):
        known = own.any() and n_likes[own].mean() > 0 and (row >= 0).any()
        assert lift == pytest.approx(n_likes[row[row >= 0]].mean() / n_likes[own].mean() - 1 if known else 0, abs=1e-12) and lift >= -1


def test_a_list_like_the_history_has_no_lift():
    assert popularity_lift(np.array([[1, 3]]), matrix([{1, 3}], 5), np.arange(5)).tolist() == [0]


@many
@given(lists, st.integers(0, 2**32 - 1))
def test_diversity_equals_the_mean_over_pairs(case, seed):
    topk, n = case
    V = np.random.default_rng(seed).normal(size=(n, 3))
    V[0] = 0
    length = np.linalg.norm(V, axis=1)
    cosine = V @ V.T / np.maximum(1e-300, np.outer(length, length))
    expected = []
    for row in topk:
        row = row[row >= 0]
        pairs = [1 - cosine[a, b] for place, a in enumerate(row) for b in row[:place]]
        expected.append(np.mean(pairs) if pairs else 0)
    value = intra_list_diversity(topk, V)
    assert value == pytest.approx(expected, abs=1e-12) and (value > -1e-12).all() and (value < 2 + 1e-12).all()


def test_diversity_at_its_ends():
    V = np.array([[1., 0], [2, 0], [-1, 0], [0, 3]])
    assert intra_list_diversity(np.array([[0, 1], [0, 3], [0, 2], [0, -1]]), V).round(12).tolist() == [0, 1, 2, 0]


@many
@given(lists, st.data())
def test_serendipity_equals_a_plain_loop_and_stays_below_precision(case, data):
    topk, n = case
    truth, obvious = data.draw(arrays(bool, (len(topk), n))), np.array(data.draw(st.lists(
        st.permutations(range(n)).map(lambda p: p[:2]), min_size=len(topk), max_size=len(topk))))
    value = serendipity(topk, csr_matrix(truth), obvious)
    expected = [np.mean([i >= 0 and truth[u, i] and i not in obvious[u] for i in row]) for u, row in enumerate(topk)]
    assert value == pytest.approx(expected) and (value <= ACCURACY["precision"](topk, csr_matrix(truth), topk.shape[1]) + 1e-12).all()
    assert (serendipity(topk, csr_matrix(truth), topk) == 0).all(), "what is listed by both is obvious"
    assert serendipity(topk, csr_matrix(truth), np.full((len(topk), 2), -1)) == pytest.approx(ACCURACY["precision"](topk, csr_matrix(truth), topk.shape[1]))


def test_unknown_codes_are_refused():
    with pytest.raises(ValueError, match="^topk: holds item code 9, but there are 3 items"):
        novelty(np.array([[0, 9]]), np.ones(3), 2)


def test_faulty_lists_are_refused():
    truth = matrix([{0}, {1}], 3)
    with pytest.raises(ValueError, match="^topk: holds item code 3, but there are 3 items"):
        find_hits(np.array([[0, 1], [0, 3]]), truth)
    with pytest.raises(ValueError, match="^topk: list 1 holds item code 2 twice"):
        recall_at_k(np.array([[0, 1, -1], [2, 1, 2]]), truth, 3)
    assert not find_hits(np.array([[-1, -1], [2, -1]]), truth).any(), "an empty place may come twice"
    for metric in (catalogue_coverage, gini):
        with pytest.raises(ValueError, match="^n_candidates: got 2, but the lists hold 3 items"):
            metric(np.array([[0, 1], [2, 1]]), 2)


def test_top_k_of_whole_numbers_and_of_nothing():
    assert sorted(top_k(np.array([[3, 0, 255, 255, 7]], dtype="uint8"), 3)[0]) == [2, 3, 4]
    assert sorted(top_k(np.array([[True, False, True]]), 2)[0]) == [0, 2]
    assert top_k(np.empty((2, 0), dtype="float32"), 3).tolist() == [[-1] * 3] * 2
