"""The index against exact search, its recall by hand and against scikit-learn's neighbours, and the whole trade-off on a small set."""
import json

import faiss
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.base import clone
from sklearn.neighbors import NearestNeighbors

from llmrec.language.indexes import ItemIndex, check_factory, index_recall, measure_search, resample_vectors, trade_off
from llmrec.language.similarity import SIMILARITIES, nearest

VECTORS = np.random.default_rng(0).normal(size=(600, 16)).astype("float32")
KINDS = [("Flat", "cosine"), ("Flat", "euclidean"), ("IVF8,Flat", "pearson"), ("IVF8,Flat", "euclidean"), ("HNSW16", "cosine"), ("HNSW16", "euclidean"),
         ("PCA8,IVF4,Flat", "cosine"), ("IVF8,PQ2x4", "cosine"), ("IVF4,SQ8,RFlat", "pearson"), ("HNSW16,SQ8", "cosine"), ("IVF8_HNSW8,Flat", "cosine")]


def overlap(a, b):
    """The share of ids that two tables of lists have in common."""
    return np.mean([len(np.intersect1d(x, y)) / len(x) for x, y in zip(a, b)])


@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_a_flat_index_finds_what_exact_search_finds(similarity):
    V = np.vstack([VECTORS, np.zeros((1, 16)), np.ones((1, 16))])
    scores, ids = ItemIndex("Flat", similarity).add(V).search(V[:50], 10)
    exact, codes = nearest(V[:50], V, 10, similarity)
    assert scores.dtype == np.float32 and np.array_equal(ids, codes) and np.allclose(scores, exact, atol=2e-3 if similarity == "euclidean" else 1e-6)


@pytest.mark.parametrize("factory, similarity", KINDS)
def test_every_kind_adds_removes_saves_and_loads(factory, similarity, tmp_path):
    parameters = "nprobe=8" if "IVF" in factory else ""
    build = lambda: ItemIndex(factory, similarity, parameters, "a model").add(VECTORS[:400], np.arange(400) * 3).add(VECTORS[400:])
    index = build()
    scores, ids = index.search(VECTORS, 5)
    assert all(np.array_equal(a, b) for a, b in zip(build().search(VECTORS, 5), (scores, ids))), "built twice, the same"
    assert len(index) == 600 and set(ids.ravel()) <= {*range(0, 1200, 3), *range(1198, 1398)} and (np.diff(scores, axis=1) <= 0).all()
    gone = ids[:40, 0]
    found = index.remove(gone).search(VECTORS, 5)
    assert len(index) == 600 - len(set(gone)) and not np.isin(found[1], gone).any()
    kept = np.flatnonzero(~np.isin(ids, gone).any(axis=1))
    assert overlap(found[1][kept], ids[kept]) > .97, "lists without a removed item stay; a graph that is built anew may differ a little"
    index.save(tmp_path / "index")
    again = ItemIndex.load(tmp_path / "index", model="a model")
    assert repr(again) == repr(index) and all(np.array_equal(a, b) for a, b in zip(again.search(VECTORS, 5), found))
    for grown in (index, again):
        assert 5000 in grown.add(VECTORS[:1] * 2, [5000]).search(VECTORS[:1] * 2, 20)[1] and len(grown) == 601 - len(set(gone))


def test_ids_may_be_texts(tmp_path):
    index = ItemIndex().add(np.eye(3), ["Heat", "Alien", "\u6d3b\u7740"]).add(-np.eye(3)[:1], ["a much longer title"])
    scores, ids = index.search(np.eye(3), 5)
    assert ids[:, 0].tolist() == ["Heat", "Alien", "\u6d3b\u7740"] and (ids[:, 4] == "").all() and (scores[:, 4] == -np.inf).all()
    index.save(tmp_path / "new" / "index")
    assert ItemIndex.load(tmp_path / "new" / "index").remove("Heat").search(np.eye(3)[:1], 1)[1] == [["Alien"]]


def test_fewer_items_than_asked_for():
    index = ItemIndex().add(np.eye(2))
    scores, ids = index.search(np.eye(2), 3)
    assert ids.tolist() == [[0, 1, -1], [1, 0, -1]] and scores[:, 2].tolist() == [-np.inf] * 2
    scores, ids = index.remove([0, 1]).search(np.eye(2), 3)
    assert len(index) == 0 and (ids == -1).all() and (scores == -np.inf).all()
    assert index.add(np.eye(2)).search(np.eye(2), 1)[1].tolist() == [[0], [1]] and ItemIndex().add(np.eye(2)).search(np.ones((0, 2)), 1)[1].shape == (0, 1)


@pytest.mark.parametrize("call, message", [
    (lambda i: i.add(np.ones((2, 4)), [7, 1]), "ids: 1 is there already"), (lambda i: i.add(np.ones((2, 4)), [7, 7]), "ids: 7 .*twice"),
    (lambda i: i.add(np.ones((1, 4)), [-1]), "ids: -1 .*empty place"), (lambda i: i.add(np.ones((1, 4)), ["a"]), "ids: are string"),
    (lambda i: i.add(np.ones((2, 4)), [7, "a"]), "ids: are mixed"), (lambda i: i.add(np.ones((2, 4)), [1.5, 2]), "ids: are mixed|ids: are floating"),
    (lambda i: i.add(np.ones((2, 4)), [7]), r"ids: have shape \(1,\) for 2"), (lambda i: i.add(np.ones((2, 5))), "have 5 numbers, those in the index 4"),
    (lambda i: i.search(np.ones((2, 5)), 1), "have 5 numbers"), (lambda i: i.search(np.ones((2, 4)), 0), "k: got 0"), (lambda i: i.remove([1, 99]), "ids: 99 is not"),
    (lambda i: i.add(np.full((1, 4), np.nan)), "row 0 holds NaN"), (lambda i: ItemIndex().search(np.ones((2, 4)), 1), "holds nothing"),
    (lambda i: ItemIndex().save("nowhere"), "holds nothing"), (lambda i: ItemIndex("Flat,Flat").add(np.eye(3)), "factory: got 'Flat,Flat'"),
    (lambda i: ItemIndex("PQ16").add(np.eye(30)), "vectors of 30 numbers"), (lambda i: ItemIndex().add(np.eye(2), ["", "a"]), "ids: .*empty place"),
    (lambda i: ItemIndex().add(np.eye(2), ["b", "a"]).add(np.eye(2)), "ids: got None"), (lambda i: ItemIndex(parameters="nprobe=4").add(np.eye(2)), "parameters: got 'nprobe=4'"),
    (lambda i: ItemIndex("IVF2,Flat", parameters="nprobe=-4").add(np.eye(2)), "parameters: got 'nprobe=-4'"),
])
def test_wrong_calls_are_refused_and_change_nothing(call, message):
    index = ItemIndex().add(np.eye(4)[:3])
    with pytest.raises(ValueError, match=message):
        call(index)
    assert len(index) == 3 and index.search(np.eye(4)[:3], 1)[1].ravel().tolist() == [0, 1, 2]


@pytest.mark.parametrize("factory, message", [
    ("HNSW0", "number after HNSW must be from 2 to 256"), ("HNSW1", "number after HNSW"), ("HNSW257", "number after HNSW"),
    ("IVF4_HNSW0,Flat", "number after HNSW"), ("IVF0,Flat", "number after IVF must be from 1 to 65,536"), ("IVF65537,Flat", "number after IVF"),
    ("PQ64x24", "number after x must be from 4 to 12"), ("PQ8x3", "number after x"), ("PQ0", "number after PQ must be from 1 to 1,024"),
    ("PCA0,Flat", "number after PCA must be from 1 to 4,096"), ("PCA17,Flat", "vectors of 16 numbers, which have at most 16"),
    ("PCA12,PQ8", "vectors of 12 numbers, which 8 does not divide"), ("PQ3", "which 3 does not divide"),
    *[(odd, "factory: got .*give 'Flat'") for odd in ["", "flat", "Flat,Flat", "IVF9", "IVF4,HNSW8", "NSG16", "LSH", "HNSW", "HNSW-4", "PQ4x4fs", "IDMap,Flat",
        "Flat ", " Flat", "Flat\n", "HNSW\u0664", "IVF4(PQ2),Flat", "RFlat", "HNSW" + "9" * 5000, None, 3, ["Flat"]]],
])
def test_factories_that_faiss_would_die_of_are_refused(factory, message):
    """Some of them end the process, so they must not come to faiss."""
    with pytest.raises(ValueError, match=message):
        ItemIndex(factory).add(VECTORS)


def test_a_factory_is_checked_before_the_width_is_known():
    for factory in ("Flat", "HNSW32", "IVF64,PQ16", "PCA4096,IVF65536_HNSW256,PQ1024x12,RFlat", "PQ7", "HNSW8,SQfp16"):
        assert check_factory(factory) is None
    with pytest.raises(ValueError, match="'HNSW1'; the number after HNSW"):
        check_factory("HNSW1")


LEAST = [f"{before}{form}{after}" for before in ("", "PCA1,", "PCA16,") for after in ("", ",RFlat") for form in
         ("Flat", "SQ4", "SQ6", "SQ8", "SQfp16", "PQ1x4", "HNSW2", "HNSW256", "HNSW2,SQ4", "IVF1,Flat", "IVF600,SQ6", "IVF1_HNSW2,Flat", "IVF20_HNSW256,PQ1x4")]


@pytest.mark.parametrize("similarity", ["cosine", "euclidean"])
def test_every_factory_that_is_allowed_works_at_the_ends_of_its_ranges(similarity):
    for factory in LEAST:
        index = ItemIndex(factory, similarity).add(VECTORS)
        ids = index.search(VECTORS[:20], 3)[1]
        index.remove(ids[:3, 0])
        assert len(index) == 600 - len(set(ids[:3, 0])) and not np.isin(index.search(VECTORS[:20], 3)[1], ids[:3, 0]).any(), factory


def test_too_few_vectors_to_learn_from(capfd):
    for factory in ("IVF1024,Flat", "IVF1024,PQ16", "PQ16"):
        with pytest.raises(ValueError, match=f"V: 200 vectors are too few for '{factory}'"):
            ItemIndex(factory).add(VECTORS[:200])
    ItemIndex("IVF64,PQ1x4").add(VECTORS[:200])
    assert capfd.readouterr() == ("", ""), "faiss does not write to the screen"


def test_seeds_decide_and_settings_can_change():
    lists = [ItemIndex("IVF32,Flat", rng=rng).add(VECTORS).search(VECTORS, 5)[1] for rng in (0, 0, 1)]
    assert np.array_equal(lists[0], lists[1]) and not np.array_equal(lists[0], lists[2])
    index = ItemIndex("IVF32,Flat").add(VECTORS)
    index.parameters = "nprobe=32"
    assert np.array_equal(index.search(VECTORS, 5)[1], nearest(VECTORS, VECTORS, 5)[1]), "all cells searched: exact"
    assert clone(index).get_params() == index.get_params() and len(clone(index)) == 0


def test_a_graph_is_the_same_however_many_threads_there_are():
    threads = faiss.omp_get_max_threads()
    try:
        faiss.omp_set_num_threads(4)
        one, two = (faiss.serialize_index(ItemIndex("HNSW8").add(VECTORS).index_) for _ in range(2))
        assert np.array_equal(one, two) and faiss.omp_get_max_threads() == 4
    finally:
        faiss.omp_set_num_threads(threads)


def test_damaged_and_foreign_files_are_refused(tmp_path):
    path = tmp_path / "index"
    ItemIndex("IVF8,Flat", model="one").add(VECTORS).save(path)
    whole = path.read_bytes()
    assert ItemIndex.load(path).model == ItemIndex.load(path, "one").model == "one"
    with pytest.raises(ValueError, match="vectors of 'one', not of 'two'"):
        ItemIndex.load(path, model="two")
    rng = np.random.default_rng(0)
    for place in [0, 31, 32, len(whole) - 1, *rng.integers(len(whole), size=20)]:
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1:])
        with pytest.raises(ValueError, match="damaged"):
            ItemIndex.load(path)
    for part in (b"", whole[:20], whole[:-1], whole + b"x", json.dumps({"factory": "Flat"}).encode() * 9):
        path.write_bytes(part)
        with pytest.raises(ValueError, match="damaged"):
            ItemIndex.load(path)
    with pytest.raises(FileNotFoundError):
        ItemIndex.load(tmp_path / "none")


def test_what_the_index_refuses():
    with pytest.raises(ValueError, match="similarity: got 'dot'; give one of 'cosine', 'euclidean', 'pearson'"):
        ItemIndex(similarity="dot").add(np.ones((1, 2)))
    wrong = np.array([[1., 1], [np.nan, 1]])
    for call in (lambda: ItemIndex().add(wrong), lambda: ItemIndex(similarity="euclidean").add(np.ones((2, 2))).search(wrong, 1)):
        with pytest.raises(ValueError, match="row 1 holds NaN"):
            call()


# What an approximate index finds

FEWER = VECTORS[:400]


def test_recall_by_hand():
    assert np.allclose(index_recall([[4, 7, 1], [1, 2, 3]], [[7, 4, 9], [3, 2, 1]]), [2 / 3, 1])
    assert index_recall([["a", ""], ["b", "c"]], [["a", "b"], ["a", ""]]).tolist() == [.5, 0], "texts, and what is empty is no hit"
    assert index_recall([[-1, -1]], [[-1, -1]]).tolist() == [1], "nothing to find"
    assert index_recall(np.empty((0, 3), int), np.empty((0, 3), int)).shape == (0,)


@settings(max_examples=40)
@given(st.integers(1, 6).flatmap(lambda k: st.tuples(*[arrays("int64", (4, k), elements=st.integers(0, 9), unique=False)] * 2)))
def test_recall_is_a_share_and_ignores_order(pair):
    found, exact = (np.argsort(table, axis=1) + table[:, :1] for table in pair)    # unique within a row
    recall = index_recall(found, exact)
    assert np.allclose(recall, [len(set(f) & set(e)) / len(e) for f, e in zip(found, exact)])
    assert np.array_equal(recall, index_recall(found[:, ::-1], exact)) and (index_recall(exact, exact) == 1).all()


def test_tables_that_do_not_match_are_refused():
    for found, exact in [([[1, 2]], [[1]]), ([1], [1])]:
        with pytest.raises(ValueError, match="found: has shape"):
            index_recall(found, exact)


def test_recall_against_neighbours_of_scikit_learn():
    exact = NearestNeighbors(n_neighbors=8, metric="cosine", algorithm="brute").fit(FEWER).kneighbors(FEWER[:50], return_distance=False)
    recalls = []
    for n_probe in (1, 4, 16):
        index = ItemIndex("IVF16,Flat", parameters=f"nprobe={n_probe}").add(FEWER)
        recalls.append(index_recall(index.search(FEWER[:50], 8)[1], exact).mean())
    assert recalls[0] < recalls[1] < recalls[2] == 1


def test_resampled_vectors():
    drawn = resample_vectors(FEWER, 3000, noise=.5, rng=3)
    assert drawn.shape == (3000, 16) and drawn.dtype == np.float32 and np.allclose(np.linalg.norm(drawn, axis=1), 1, atol=1e-6)
    assert np.array_equal(drawn, resample_vectors(FEWER, 3000, .5, np.random.default_rng(3))) and not np.array_equal(drawn, resample_vectors(FEWER, 3000, .5))
    to_source = nearest(drawn, FEWER, 1)[0]
    assert abs(np.median(to_source) - 1 / 1.25 ** .5) < .02, "a shift of length .5 at a right angle has cosine 1 / sqrt(1 + .25)"
    assert np.allclose(nearest(resample_vectors(FEWER, 50, 0), FEWER, 1)[0], 1, atol=1e-6), "without noise: copies"
    with pytest.raises(ValueError, match="noise: got -0.1"):
        resample_vectors(FEWER, 5, -.1)


def test_the_trade_off():
    table = trade_off(FEWER, FEWER[:40], {"Flat": [""], "IVF16,Flat": ["nprobe=1", "nprobe=4", "nprobe=16"], "HNSW8": ["efSearch=64"]}, k=5)
    assert table.index.tolist() == [("Flat", ""), ("IVF16,Flat", "nprobe=1"), ("IVF16,Flat", "nprobe=4"), ("IVF16,Flat", "nprobe=16"), ("HNSW8", "efSearch=64")]
    assert table.recall["Flat", ""] == table.recall["IVF16,Flat", "nprobe=16"] == 1 and table.recall["IVF16,Flat"].is_monotonic_increasing
    assert (table[["per_second", "MB", "build_seconds"]] > 0).all().all() and table.MB["HNSW8", "efSearch=64"] > table.MB["Flat", ""] >= FEWER.nbytes / 1e6
    with pytest.raises(ValueError, match="same width"):
        trade_off(FEWER, FEWER[:, :5], {"Flat": [""]})
    with pytest.raises(ValueError, match="factory: got 'Round'"):
        trade_off(FEWER, FEWER, {"Round": [""]})


def test_measuring_leaves_the_index_as_it_was():
    index = ItemIndex().add(FEWER)
    exact = nearest(FEWER[:9], FEWER, 4)[1]
    assert measure_search(index, FEWER[:9], exact, rounds=1)["recall"] == 1 and len(index) == 400
