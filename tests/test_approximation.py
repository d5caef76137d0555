"""Recall by hand and against scikit-learn's neighbours, resampled vectors, and the whole trade-off on a small set."""
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.neighbors import NearestNeighbors

from llmrec.language.similarity import ItemIndex, nearest
from llmrec.language.approximation import measure_search, recall_at_k, resample_vectors, trade_off

VECTORS = np.random.default_rng(0).normal(size=(400, 16)).astype("float32")


def test_recall_by_hand():
    assert np.allclose(recall_at_k([[4, 7, 1], [1, 2, 3]], [[7, 4, 9], [3, 2, 1]]), [2 / 3, 1])
    assert recall_at_k([["a", ""], ["b", "c"]], [["a", "b"], ["a", ""]]).tolist() == [.5, 0], "texts, and what is empty is no hit"
    assert recall_at_k([[-1, -1]], [[-1, -1]]).tolist() == [1], "nothing to find"
    assert recall_at_k(np.empty((0, 3), int), np.empty((0, 3), int)).shape == (0,)


@settings(max_examples=40)
@given(st.integers(1, 6).flatmap(lambda k: st.tuples(*[arrays("int64", (4, k), elements=st.integers(0, 9), unique=False)] * 2)))
def test_recall_is_a_share_and_ignores_order(pair):
    found, exact = (np.argsort(table, axis=1) + table[:, :1] for table in pair)    # unique within a row
    recall = recall_at_k(found, exact)
    assert np.allclose(recall, [len(set(f) & set(e)) / len(e) for f, e in zip(found, exact)])
    assert np.array_equal(recall, recall_at_k(found[:, ::-1], exact)) and (recall_at_k(exact, exact) == 1).all()


def test_tables_that_do_not_match_are_refused():
    for found, exact in [([[1, 2]], [[1]]), ([1], [1])]:
        with pytest.raises(ValueError, match="found: has shape"):
            recall_at_k(found, exact)


def test_recall_against_neighbours_of_scikit_learn():
    exact = NearestNeighbors(n_neighbors=8, metric="cosine", algorithm="brute").fit(VECTORS).kneighbors(VECTORS[:50], return_distance=False)
    recalls = []
    for n_probe in (1, 4, 16):
        index = ItemIndex("IVF16,Flat", parameters=f"nprobe={n_probe}").add(VECTORS)
        recalls.append(recall_at_k(index.search(VECTORS[:50], 8)[1], exact).mean())
    assert recalls[0] < recalls[1] < recalls[2] == 1


def test_resampled_vectors():
    drawn = resample_vectors(VECTORS, 3000, noise=.5, rng=3)
    assert drawn.shape == (3000, 16) and drawn.dtype == np.float32 and np.allclose(np.linalg.norm(drawn, axis=1), 1, atol=1e-6)
    assert np.array_equal(drawn, resample_vectors(VECTORS, 3000, .5, np.random.default_rng(3))) and not np.array_equal(drawn, resample_vectors(VECTORS, 3000, .5))
    to_source = nearest(drawn, VECTORS, 1)[0]
    assert abs(np.median(to_source) - 1 / 1.25 ** .5) < .02, "a shift of length .5 at a right angle has cosine 1 / sqrt(1 + .25)"
    assert np.allclose(nearest(resample_vectors(VECTORS, 50, 0), VECTORS, 1)[0], 1, atol=1e-6), "without noise: copies"
    with pytest.raises(ValueError, match="noise: got -0.1"):
        resample_vectors(VECTORS, 5, -.1)


def test_the_trade_off():
    table = trade_off(VECTORS, VECTORS[:40], {"Flat": [""], "IVF16,Flat": ["nprobe=1", "nprobe=4", "nprobe=16"], "HNSW8": ["efSearch=64"]}, k=5)
    assert table.index.tolist() == [("Flat", ""), ("IVF16,Flat", "nprobe=1"), ("IVF16,Flat", "nprobe=4"), ("IVF16,Flat", "nprobe=16"), ("HNSW8", "efSearch=64")]
    assert table.recall["Flat", ""] == table.recall["IVF16,Flat", "nprobe=16"] == 1 and table.recall["IVF16,Flat"].is_monotonic_increasing
    assert (table[["per_second", "MB", "build_seconds"]] > 0).all().all() and table.MB["HNSW8", "efSearch=64"] > table.MB["Flat", ""] >= VECTORS.nbytes / 1e6
    with pytest.raises(ValueError, match="same width"):
        trade_off(VECTORS, VECTORS[:, :5], {"Flat": [""]})
    with pytest.raises(ValueError, match="factory: got 'Round'"):
        trade_off(VECTORS, VECTORS, {"Round": [""]})


def test_measuring_leaves_the_index_as_it_was():
    index = ItemIndex().add(VECTORS)
    exact = nearest(VECTORS[:9], VECTORS, 4)[1]
    assert measure_search(index, VECTORS[:9], exact, rounds=1)["recall"] == 1 and len(index) == 400
