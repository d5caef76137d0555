"""Three similarities against scikit-learn and SciPy, the exact search against sorting everything, the index against the exact search."""
import json
import warnings

import faiss
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from hypothesis.extra.numpy import arrays
from scipy.spatial.distance import cdist
from sklearn.base import clone
from sklearn.metrics.pairwise import cosine_similarity, euclidean_distances
from sklearn.preprocessing import normalize

from llmrec.language.similarity import (tie_order, SIMILARITIES, ItemIndex, check_factory, choose, cosine,
    euclidean, nearest, pearson, unit_rows)

NUMBERS = st.floats(-50, 50, width=32).map(lambda x: round(x, 2))
SIGNS = st.sampled_from([-1, 1])    # rows of four have length 2, so their cosines are exact in float32 and often equal


def matrices(d, numbers=NUMBERS, least=0):
    """Matrices of width d; a row in a few is zero."""
    return st.integers(least, 12).flatmap(lambda n: st.tuples(
        arrays("float32", (n, d), elements=numbers), st.lists(st.sampled_from([0, 1, 1, 1]), min_size=n, max_size=n),
    )).map(lambda pair: pair[0] * np.array(pair[1], "float32")[:, None])


PAIRS = st.integers(1, 9).flatmap(lambda d: st.tuples(matrices(d, least=1), matrices(d, least=1)))


@given(PAIRS)
def test_cosine_equals_scikit_learn_and_scipy(pair):
    U, V = pair
    C = cosine(U, V)
    assert C.dtype == np.float32 and np.allclose(C, cosine_similarity(U.astype("float64"), V.astype("float64")), rtol=0, atol=1e-6)
    there, here = U.any(axis=1), V.any(axis=1)
    assert (C[~there] == 0).all() and (C[:, ~here] == 0).all(), "a zero vector is like nothing"
    if there.any() and here.any():
        apart = cdist(U[there].astype("float64"), V[here].astype("float64"), "cosine")
        assert np.allclose(C[there][:, here], 1 - apart, rtol=0, atol=1e-6)


@given(PAIRS, st.floats(.01, 100))
def test_cosine_looks_at_directions_only(pair, scale):
    U, V = pair
    C = cosine(U, V)
    assert np.allclose(C, cosine(scale * U, V), atol=1e-6) and np.allclose(C, cosine(V, U).T, atol=1e-6)
    assert np.allclose(np.diag(cosine(U, U)), U.any(axis=1), atol=1e-6) and np.abs(C).max() <= 1 + 1e-6


@given(st.integers(1, 9).flatmap(matrices))
def test_unit_rows_equal_scikit_learn(X):
    before = X.copy()
    unit = unit_rows(X)
    assert (X == before).all() and unit.dtype == np.float32 and unit.shape == X.shape
    if len(X):
        assert np.allclose(unit, normalize(X.astype("float64")), rtol=0, atol=1e-6)


@settings(max_examples=50)
@given(PAIRS)
def test_euclidean_equals_scipy_and_scikit_learn(pair):
    U, V = pair
    D, wide = euclidean(U, V), [X.astype("float64") for X in pair]
    assert D.dtype == np.float32 and np.allclose(D, cdist(*wide), rtol=1e-6, atol=1e-6) and np.allclose(D, euclidean_distances(*wide), rtol=1e-6, atol=1e-5)
    assert (np.diag(euclidean(U, U)) == 0).all() and np.array_equal(SIMILARITIES["euclidean"](U, V), -D)


@settings(max_examples=50)
@given(PAIRS)
def test_pearson_equals_scipy(pair):
    U, V = pair
    P = pearson(U, V)
    varied = [np.ptp(X, axis=1) > 0 for X in pair]
    assert (P[~varied[0]] == 0).all() and (P[:, ~varied[1]] == 0).all(), "a constant vector is like nothing"
    apart = cdist(U[varied[0]].astype("float64"), V[varied[1]].astype("float64"), "correlation") if varied[0].any() and varied[1].any() else 0
    assert np.allclose(P[varied[0]][:, varied[1]], 1 - apart, rtol=0, atol=1e-6)


@pytest.mark.parametrize("offset", [0, 1e3, 1e6])
def test_near_vectors_far_from_the_origin(offset):
    rng = np.random.default_rng(0)
    V = rng.normal(size=(40, 24)) * 10.0 ** rng.integers(-4, 1, (40, 1)) + offset
    U = V + 1e-3 * rng.normal(size=V.shape)
    assert np.allclose(euclidean(U, V), cdist(U, V), rtol=1e-6, atol=0), "float64 in, right to the last digit of float32"
    assert np.allclose(euclidean(V, V[::-1])[range(40), range(39, -1, -1)], 0, atol=0)
    U, V = U[:, :8] + np.arange(8), V[:, :8] + np.arange(8)
    assert np.allclose(pearson(U, V), 1 - cdist(U, V, "correlation"), rtol=0, atol=1e-6)


def test_constant_vectors_that_rounding_would_give_a_direction():
    constant = np.full((2, 3), .1)
    assert (pearson(constant, np.arange(6.).reshape(2, 3)) == 0).all() and (pearson(constant, constant) == 0).all()


def test_very_short_and_very_long_vectors_have_directions():
    U = np.array([[3e-30, 4e-30], [3e30, 4e30], [0, 0], [1e-40, 0], [3e38, 3e38]])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.allclose(cosine(U, [[4, 3]]).ravel(), [.96, .96, 0, .8, 1.4 / 2 ** .5], atol=1e-6)
        for call in (unit_rows, lambda X: nearest(X, X, 1, "euclidean")):
            call(U[:1])
        with pytest.raises(ValueError, match="row 1 holds NaN or numbers too large"):
            unit_rows([[1., 2.], [1e300, 1.]])


def test_when_rankings_agree_and_when_not():
    rng = np.random.default_rng(0)
    U, V = rng.normal(size=(5, 8)), rng.normal(size=(30, 8))
    order = {name: lambda U, V, s=s: np.argsort(-s(U, V), axis=1, kind="stable") for name, s in SIMILARITIES.items()}
    assert np.array_equal(order["cosine"](unit_rows(U), unit_rows(V)), order["euclidean"](unit_rows(U), unit_rows(V)))
    centred = [X - X.mean(axis=1, keepdims=True) for X in (U, V)]
    assert np.array_equal(order["pearson"](*centred), order["cosine"](*centred))
    assert not np.array_equal(order["cosine"](U, V), order["euclidean"](U, V)) and not np.array_equal(order["cosine"](U, V), order["pearson"](U, V))


def test_unknown_similarities_are_refused():
    for call in (lambda: nearest(np.ones((1, 2)), np.ones((1, 2)), 1, "dot"), lambda: choose(SIMILARITIES, "dot", "similarity"),
                 lambda: ItemIndex(similarity="dot").add(np.ones((1, 2)))):
        with pytest.raises(ValueError, match="similarity: got 'dot'; accepted are 'cosine', 'euclidean', 'pearson'"):
            call()


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_not_finite_are_refused(wrong):
    U, V = np.ones((3, 2)), np.ones((2, 2))
    U[1, 1] = wrong
    for call in (lambda: euclidean(U, V), lambda: euclidean(V, U), lambda: pearson(U, V), lambda: pearson(V, U), lambda: nearest(U, V, 1, "euclidean"),
                 lambda: ItemIndex().add(U), lambda: ItemIndex(similarity="euclidean").add(V).search(U, 1), lambda: unit_rows(U), lambda: cosine(U, V), lambda: cosine(V, U), lambda: nearest(U, V, 1), lambda: nearest(V, U, 1),
                 lambda: nearest(U, V, 1, block=1)):
        with pytest.raises(ValueError, match="row 1 holds NaN"):
            call()


def test_wrong_shapes_are_refused():
    for call in (cosine, euclidean, pearson, lambda U, V: nearest(U, V, 1), lambda U, V: nearest(U, V, 1, "euclidean")):
        with pytest.raises(ValueError, match="3 numbers.* 2"):
            call(np.ones((4, 2)), np.ones((4, 3)))
        with pytest.raises(ValueError, match="shape"):
            call(np.ones(2), np.ones((4, 2)))
    for k in (0, -1):
        with pytest.raises(ValueError, match=f"k: got {k}"):
            nearest(np.ones((4, 2)), np.ones((4, 2)), k)


def brute_force(U, V, k, similarity):
    """Sort every row whole; `kind="stable"` keeps the order of ties among equals."""
    S, order = SIMILARITIES[similarity](U, V), tie_order(len(V))
    codes = order[np.argsort(-S[:, order], axis=1, kind="stable")[:, :k]]
    scores, pad = np.take_along_axis(S, codes, axis=1), ((0, 0), (0, k - codes.shape[1]))
    return np.pad(scores, pad, constant_values=-np.inf), np.pad(codes, pad, constant_values=-1)


@given(matrices(4, SIGNS), matrices(4, SIGNS, least=1), st.integers(1, 15), st.integers(1, 13), st.sampled_from(["cosine", "euclidean"]))
def test_nearest_equals_brute_force_in_any_block(U, V, k, block, similarity):
    scores, codes = nearest(U, V, k, similarity, block)
    assert scores.shape == codes.shape == (len(U), k) and scores.dtype == np.float32
    for found, wanted in zip((scores, codes), brute_force(U, V, k, similarity)):
        assert (found == wanted).all()


def test_nearest_in_real_widths():
    rng = np.random.default_rng(0)
    U, V = rng.normal(size=(70, 384)), rng.normal(size=(300, 384))
    S = cosine_similarity(U, V)
    for block in (1, 7, 1024):
        scores, codes = nearest(U, V, 20, block=block)
        assert np.allclose(scores, np.take_along_axis(S, codes, axis=1), rtol=0, atol=1e-6)
        assert np.allclose(scores, -np.sort(-S, axis=1)[:, :20], rtol=0, atol=1e-6), "twenty scores as high as can be"


def test_nothing_to_look_for_and_nowhere_to_look():
    assert cosine(np.ones((0, 2)), np.ones((3, 2))).shape == (0, 3) and unit_rows(np.ones((0, 2))).shape == (0, 2)
    for n_u, n_v in [(0, 3), (3, 0)]:
        scores, codes = nearest(np.ones((n_u, 2)), np.ones((n_v, 2)), 2)
        assert scores.shape == codes.shape == (n_u, 2) and (codes == -1).all() and (scores == -np.inf).all()


# The index

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
