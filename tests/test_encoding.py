"""The poolings by hand, the encoder against its peer, every family of model, every pooling and layer, a GPU that is full, and the cache under fire."""
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
import types
import warnings
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings, strategies as st
from sklearn.base import clone
from sklearn.pipeline import make_pipeline
from transformers import GPT2Config, GPT2Model

from llmrec.language import cache, encoding
from llmrec.data.text import item_text
from llmrec.language.cache import VectorCache, key_of, seal, unseal
from llmrec.language.models import find_model, load_model, load_tokenizer
from llmrec.language.encoding import POOLINGS, TextEncoder, encode_batch, plan_batches, tokenize
from tests.test_models import FAMILIES, save  # noqa: F401 (a fixture)

ODD = ["", " ", "🚀🐼", "玩具总动员", "a\x00b", "word " * 90, "x" * 300, "naïve café ÅÄÖ", "A"]


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Small batches on several threads of a busy machine mostly wait for one another."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


# Pooling

@pytest.fixture(scope="module")
def padded():
    """Hidden states of texts of 1 to 7 tokens, with huge numbers where padding is, and their mask."""
    rng, lengths = np.random.default_rng(0), np.array([7, 1, 4, 7, 2])
    mask = (np.arange(7) < lengths[:, None]).astype("int64")
    hidden = np.where(mask[..., None] == 1, rng.standard_normal((5, 7, 8)), 1e30).astype("float32")
    return torch.tensor(hidden), torch.tensor(mask)


BY_HAND = {
    "mean": lambda h: sum(h) / len(h),
    "cls": lambda h: h[0],
    "last": lambda h: h[-1],
    "max": lambda h: [max(column) for column in h.T],
    "weighted": lambda h: sum(t * row for t, row in enumerate(h, 1)) / sum(range(1, len(h) + 1)),
}
PEERS = {"mean": "mean", "cls": "cls", "last": "lasttoken", "max": "max", "weighted": "weightedmean"}


@pytest.mark.parametrize("pooling", POOLINGS)
def test_each_pooling_equals_a_loop_over_unpadded_texts_and_the_peer(pooling, padded):
    from sentence_transformers.sentence_transformer.modules import Pooling
    hidden, mask = padded
    ours = POOLINGS[pooling](hidden, mask)
    loop = [BY_HAND[pooling](h[:n]) for h, n in zip(hidden.numpy(), mask.sum(dim=1))]
    assert ours.dtype == torch.float32 and np.abs(ours.numpy() - loop).max() < 1e-6
    peer = Pooling(8, PEERS[pooling])({"token_embeddings": hidden.clone(), "attention_mask": mask})["sentence_embedding"]
    assert (ours - peer).abs().max() < 1e-6
    assert (POOLINGS[pooling](hidden.half().clamp(-9, 9), mask) - ours).abs().max() < 1e-2, "16 bits in, 32 bits out"


@settings(deadline=None, max_examples=30)
@given(st.lists(st.integers(1, 6), min_size=1, max_size=4), st.integers(0, 3), st.integers(0, 99))
def test_more_padding_changes_nothing(lengths, more, seed):
    rng, width = np.random.default_rng(seed), max(lengths)
    hidden = torch.tensor(rng.standard_normal((len(lengths), width + more, 3)), dtype=torch.float32)
    mask = torch.arange(width + more) < torch.tensor(lengths)[:, None]
    for pool in POOLINGS.values():
        assert torch.allclose(pool(hidden, mask.long()), pool(hidden[:, :width], mask[:, :width].long()), atol=1e-6)


# Encoding

@pytest.fixture(scope="module")
def films(movielens):
    return item_text(movielens.items)[:300]


@pytest.fixture
def encoder(tmp_path):
    return TextEncoder(device="cpu", dtype="float32", cache_dir=tmp_path / "cache")


@pytest.fixture
def encoded(monkeypatch):
    """The sizes of the batches that go through the model from now on."""
    sizes = []
    monkeypatch.setattr(encoding, "encode_batch", lambda model, ids, *how: sizes.append(len(ids)) or encode_batch(model, ids, *how))
    return sizes


def timed(encoder, texts):
    """The vectors, and the seconds that they took."""
    start = time.perf_counter()
    return encoder.transform(texts), time.perf_counter() - start


def cosines(A, B):
    return (A * B).sum(axis=1) / np.linalg.norm(A, axis=1) / np.linalg.norm(B, axis=1)


# The vectors

def test_equal_to_sentence_transformers(films):
    from sentence_transformers import SentenceTransformer
    peer = SentenceTransformer(find_model("minilm").folder, device="cpu")
    peer.max_seq_length = 64
    texts = ODD + films[:100]
    ours = TextEncoder(device="cpu", dtype="float32", max_length=64, cache_dir=False)
    with pytest.warns(UserWarning, match=f"1 of {len(texts)} texts cut"):
        vectors = ours.transform(texts)
    assert ours.n_truncated_ == 1
    theirs = peer.encode(texts, normalize_embeddings=True, show_progress_bar=False)
    assert vectors.dtype == np.float32 and np.abs(vectors - theirs).max() < 1e-5


def test_bfloat16_is_close(films):
    pair = [TextEncoder(device="cpu", dtype=dtype, cache_dir=False).transform(films[:16]) for dtype in ("float32", "bfloat16")]
    assert pair[1].dtype == np.float32 and cosines(*pair).min() > .9995


@pytest.mark.gpu
def test_cuda_equals_cpu_and_is_faster(films):
    auto, cpu = TextEncoder(device="cuda", cache_dir=False), TextEncoder(device="cpu", dtype="float32", cache_dir=False)
    auto.transform(films)   # the first call starts the device
    V, seconds = zip(*(timed(encoder, films) for encoder in (auto, cpu)))
    assert cosines(*V).min() >= .999 and seconds[0] < seconds[1]
    assert cosines(auto.set_params(dtype="float32").transform(films), V[1]).min() > .9999


@pytest.mark.gpu
@pytest.mark.parametrize("family", FAMILIES)
def test_cuda_equals_cpu_for_each_family(family, save):
    how = dict(model=str(save(FAMILIES[family]())), max_length=64, cache_dir=False)
    V = [TextEncoder(device=device, **how).transform(["the film", "a toy story of the film"]) for device in ("cpu", "cuda")]
    assert cosines(*V).min() >= .999


def test_rows_follow_the_list(encoder, films):
    texts = films[:120]
    back = np.random.default_rng(0).permutation(len(texts))
    V = encoder.transform(texts)
    assert np.allclose(np.linalg.norm(V, axis=1), 1, atol=1e-5)
    fresh = clone(encoder).set_params(cache_dir=False)
    assert (fresh.transform([texts[i] for i in back]) == V[back]).all(), "a batch depends on the texts alone, not on their order"
    for container in (tuple, np.array, pd.Series):
        assert (encoder.transform(container(texts)) == V).all()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_vector_does_not_depend_on_its_neighbours(encoder, films, dtype):
    fresh = clone(encoder).set_params(dtype=dtype, cache_dir=False)
    V = fresh.transform(films[:120])
    for some in (range(0, 1), range(7), range(5, 90, 3)):
        assert cosines(fresh.transform([films[i] for i in some]), V[list(some)]).min() >= .9999
    small = clone(fresh).set_params(batch_tokens=64)
    assert cosines(small.transform(films[:40] + ["a long neighbour " * 40])[:40], V[:40]).min() >= .9999


def test_a_very_long_text_and_no_text(encoder):
    with pytest.warns(UserWarning, match="1 of 1 texts cut to max_length=128"):
        assert encoder.transform(["wörd 玩 " * 13_000]).shape == (1, 384)
    assert encoder.n_truncated_ == 1
    assert encoder.transform([]).shape == (0, 384) and encoder.n_truncated_ == 0


def test_plan_batches():
    rng = np.random.default_rng(0)
    lengths = rng.integers(1, 60, 500).tolist()
    batches = plan_batches(lengths, [str(i) for i in range(500)], 256)
    assert sorted(i for batch in batches for i in batch) == list(range(500))
    assert all(len(batch) * max(lengths[i] for i in batch) <= 256 for batch in batches)
    assert plan_batches([9, 300, 9], ["a", "b", "c"], 18) == [[1], [0, 2]]
    assert plan_batches([], [], 18) == []


# Pooling, layers, prefixes

@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_batch_gives_what_each_text_gives_alone(family, pooling, save):
    model = load_model(find_model(save(FAMILIES[family]())), "cpu", "float32")
    ids = [[2, 3, 4, 5, 6, 7], [8], [9, 10, 11]]
    for layer in (0, 1, 2, -1):
        batch = encode_batch(model, ids, pooling, layer)
        assert np.abs(batch - np.concatenate([encode_batch(model, [i], pooling, layer) for i in ids])).max() < 1e-6
        assert np.allclose(np.linalg.norm(batch, axis=1), 1, atol=1e-6)


def test_the_first_token_of_a_decoder_knows_nothing_of_the_text(save):
    folder, texts = str(save(FAMILIES["gpt"]())), ["the film", "the toy story that nobody has seen", "a film"]
    V = TextEncoder(folder, pooling="cls", max_length=64, device="cpu", cache_dir=False).transform(texts)
    assert np.abs(V[0] - V[1]).max() < 1e-6 and cosines(V[:1], V[2:])[0] < .99
    last = TextEncoder(folder, pooling="last", max_length=64, device="cpu", cache_dir=False).transform(texts)
    assert cosines(last[:1], last[1:2])[0] < .99


def test_a_prefix_is_read_with_every_text(encoder, films, encoded):
    prefixed = clone(encoder).set_params(prefix="query: ")
    V = prefixed.transform(films[:20])
    assert (V == encoder.transform([f"query: {text}" for text in films[:20]])).all() and len(encoded) == 1
    assert cosines(V, encoder.transform(films[:20])).max() < .999
    with pytest.raises(TypeError, match="prefix: got 3; give a str"):
        prefixed.set_params(prefix=3).transform(["a"])


# A GPU that is full

class Full:
    """A model for at most `rows` texts at a time; the hidden state of a token is its number and the number of its text's tokens."""
    device, config = torch.device("cpu"), types.SimpleNamespace(num_hidden_layers=1)

    def __init__(self, rows):
        self.rows, self.sizes = rows, []

    def __call__(self, input_ids, attention_mask, **how):
        self.sizes.append(len(input_ids))
        if len(input_ids) > self.rows:
            raise torch.OutOfMemoryError("CUDA out of memory")
        lengths = attention_mask.sum(dim=1, keepdim=True).expand_as(input_ids)
        return types.SimpleNamespace(last_hidden_state=torch.stack([input_ids, lengths], dim=2).float())


def test_a_batch_that_does_not_fit_is_halved():
    ids = [[i + 1] * (11 - i) for i in range(11)]
    roomy, tight = Full(11), Full(3)
    assert (encode_batch(tight, ids) == encode_batch(roomy, ids)).all()
    assert roomy.sizes == [11] and tight.sizes == [11, 5, 2, 3, 6, 3, 3]


def test_a_text_that_does_not_fit_at_all_is_an_error():
    with pytest.raises(ValueError, match="max_length: a text of 5 tokens does not fit into the memory of cpu"):
        encode_batch(Full(0), [[1] * 5, [2]])


# The families

@pytest.mark.parametrize("family", FAMILIES)
def test_each_family_equals_one_text_at_a_time(family, save):
    model = FAMILIES[family]().eval()
    folder = save(model)
    texts = ["the film", "a toy story that nobody has seen of the film", "", "story"]
    V = TextEncoder(str(folder), max_length=64, device="cpu", dtype="float32", cache_dir=False).transform(texts)
    reader = model.get_encoder() if family == "t5" else model
    tokenizer = load_tokenizer(find_model(folder))
    for text, v in zip(texts, V):
        ids = torch.tensor([tokenizer(text)["input_ids"] or [tokenizer.eos_token_id]])
        with torch.no_grad():
            mean = reader(input_ids=ids).last_hidden_state[0].mean(dim=0)
        assert np.allclose(v, mean / mean.norm(), atol=1e-5), text


def test_smollm2_from_gguf():
    V = TextEncoder("smollm2", device="cpu", dtype="float32", cache_dir=False).transform(["", "Toys come alive", "A toy is alive"])
    assert V.shape == (3, 576) and V[1] @ V[2] > V[0] @ V[1]


def test_numbers_that_are_not_finite_are_refused(save):
    model = FAMILIES["gpt"]()
    torch.nn.init.constant_(model.wte.weight, float("nan"))
    with pytest.raises(ValueError, match="not finite"):
        TextEncoder(str(save(model)), max_length=64, device="cpu", cache_dir=False).transform(["the film"])


# Wrong calls

@pytest.mark.parametrize("texts, message", [
    ("Toy Story", r"got str; give a list of str, and for one text write \[text\]"), (None, "got NoneType"), (3, "got int"), ({"a": 1}, "got dict"),
    (pd.DataFrame({"a": ["b"]}), "got DataFrame"), (["a", None], r"texts\[1\]: got None"), (["a", float("nan")], r"texts\[1\]: got nan"),
    (pd.Series(["a", None]), r"texts\[1\]: got (None|nan)"), ([3], r"texts\[0\]: got 3"), (["a", ["b"]], r"texts\[1\]: got \['b'\]"),
])
def test_what_is_no_text_is_refused(encoder, texts, message):
    with pytest.raises(TypeError, match=message):
        encoder.transform(texts)


def test_broken_unicode_is_refused(encoder):
    with pytest.raises(ValueError, match=r"texts\[1\]: is no valid Unicode"):
        encoder.transform(["a", "\ud800"])


@pytest.mark.parametrize("wrong, message", [
    ({"pooling": "sum"}, "pooling: got 'sum'; give one of 'mean', "), ({"layer": 7}, "layer: got 7; this model has layers 0 .* to 6"), ({"layer": -2}, "layer: got -2"),
    ({"dtype": "int8"}, "dtype: got 'int8'; give one of 'auto', "), ({"device": "tpu"}, "device: got 'tpu'; give 'auto' or one of"),
    ({"max_length": 2}, "max_length: got 2; give a whole number from 3 to 512"), ({"max_length": 513}, "from 3 to 512"),
    ({"max_length": "9"}, "got '9'"), ({"batch_tokens": 0}, "batch_tokens: got 0"), ({"batch_tokens": 1.5}, "batch_tokens: got 1.5"),
])
def test_wrong_parameters_are_refused(encoder, wrong, message):
    with pytest.raises(ValueError, match=message):
        encoder.set_params(**wrong).transform(["a"])


def test_positions_that_a_model_lacks_are_refused(save):
    folder = save(GPT2Model(GPT2Config(vocab_size=32, n_embd=16, n_head=2, n_layer=1, n_positions=8)))
    with pytest.raises(ValueError, match="has 9 tokens, but this model reads at most 8"):
        TextEncoder(str(folder), max_length=64, device="cpu", cache_dir=False).transform(["the toy story of a film that nobody has"])


def test_it_is_a_scikit_learn_transformer(encoder):
    params = dict(model="minilm", pooling="mean", layer=-1, prefix="", device="cpu", dtype="float32", max_length=128, batch_tokens=2048,
                  cache_dir=encoder.cache_dir, verbose=False)
    assert encoder.get_params() == params and clone(encoder).get_params() == params
    V = make_pipeline(clone(encoder)).fit_transform(["a film"])
    assert encoder.fit() is encoder and (V == make_pipeline(clone(encoder)).transform(["a film"])).all()


# The cache

def entries(folder):
    """The keys in all the files of a cache."""
    keys = []
    for path in Path(folder).glob("*.sqlite"):
        with closing(sqlite3.connect(path)) as db:
            keys += [key for key, in db.execute("SELECT key FROM vectors")]
    return keys


def test_a_full_cache_needs_no_model(encoder, films, encoded, monkeypatch):
    V = encoder.transform(films)
    assert sum(encoded) == len(entries(encoder.cache_dir)) == len(set(films)) and len(encoded) > 3
    for name in ("load_model", "load_tokenizer"):
        monkeypatch.setattr(encoding, name, None)
    again = clone(encoder).transform(films[::-1])
    assert again[::-1].tobytes() == V.tobytes()


def test_one_new_text_encodes_one_text(encoder, films, encoded):
    V = encoder.transform(films)
    before, new = len(encoded), "A new film with a very long title " * 10
    W = encoder.transform([new, *films, new])
    assert encoded[before:] == [1] and (W[1:-1] == V).all() and (W[0] == W[-1]).all()
    assert (W[:1] == clone(encoder).set_params(cache_dir=False).transform([new])).all()


def test_all_that_decides_the_vectors_is_in_the_key(encoder, save, encoded):
    texts = ["the film", "a toy story"]
    encoder.transform(texts)
    changes = [dict(max_length=64), dict(dtype="bfloat16"), dict(pooling="cls"), dict(layer=2), dict(layer=3), dict(prefix="a "),
               dict(model=str(save(FAMILIES["gpt"]())), max_length=64)]
    for change in changes:
        clone(encoder).set_params(**change).transform(texts)
    encoder.transform(["the film", "a toy"])
    assert encoded == [2] * (1 + len(changes)) + [1]
    encoder.transform(texts)
    assert len(encoded) == 2 + len(changes)


def test_vectors_of_an_older_version_are_not_read(encoder, encoded, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(VectorCache, "version", 1)
        encoder.transform(["a film"])
    encoder.transform(["a film"])
    encoder.transform(["a film"])
    assert encoded == [1, 1] and VectorCache.version == 2


def test_texts_that_were_cut_are_counted_from_the_cache_too(encoder):
    encoder.set_params(max_length=8)
    texts = ["a text that is longer than eight tokens", "short"]
    for _ in range(2):
        with pytest.warns(UserWarning, match="1 of 2 texts (were )?cut to max_length=8"):
            encoder.transform(texts)
        assert encoder.n_truncated_ == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        encoder.transform(texts[1:])
    assert encoder.n_truncated_ == 0


def test_what_was_sealed_is_opened_and_nothing_else():
    key, vector = key_of("recipe", "text"), np.arange(3, dtype="float32")
    whole = seal(key, vector)
    assert (unseal(key, whole) == vector).all()
    for place in range(len(whole)):
        assert unseal(key, whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1:]) is None
    for other, data in [(key, b""), (key, whole[:-1]), (key, whole + b"0"), (key, None), (key, 3), (key_of("recipe", "txet"), whole)]:
        assert unseal(other, data) is None


def test_a_damaged_vector_is_encoded_again(encoder, films, encoded):
    V = encoder.transform(films[:100])
    path, = Path(encoder.cache_dir).glob("*.sqlite")
    key = entries(encoder.cache_dir)[7]
    with closing(sqlite3.connect(path)) as db:
        whole, = db.execute("SELECT sealed FROM vectors WHERE key = ?", [key]).fetchone()
    data, place = path.read_bytes(), path.read_bytes().index(whole) + 500
    path.write_bytes(data[:place] + bytes([data[place] ^ 4]) + data[place + 1:])
    before = len(encoded)
    with pytest.warns(UserWarning, match=f"{path.name}: 1 vectors are damaged"):
        W = encoder.transform(films[:100])
    assert encoded[before:] == [1] and cosines(V, W).min() >= .9999
    assert encoder.transform(films[:100]).tobytes() == W.tobytes() and len(encoded) == before + 1


def test_a_flipped_byte_anywhere_gives_no_wrong_vector(encoder, films, monkeypatch):
    V = encoder.transform(films[:60])
    path, = Path(encoder.cache_dir).glob("*.sqlite")
    whole, vectors = path.read_bytes(), dict(zip(films, V))
    ids = {tuple(tokens): text for text, tokens in zip(films, tokenize(load_tokenizer(find_model("minilm")), films[:60], 128)[0])}
    monkeypatch.setattr(encoding, "encode_batch", lambda model, batch, *how: np.stack([vectors[ids[tuple(tokens)]] for tokens in batch]))
    rng, noticed = np.random.default_rng(0), 0
    for place in [*range(0, 120), *rng.integers(len(whole), size=150)]:
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << rng.integers(8)]) + whole[place + 1:])
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            assert (encoder.transform(films[:60]) == V).all()
        noticed += bool(caught)
    assert noticed > 100


def test_a_file_that_is_no_database_is_replaced(encoder, films):
    encoder.transform(films[:9])
    path, = Path(encoder.cache_dir).glob("*.sqlite")
    path.write_bytes(b"half of something else" * 100)
    with pytest.warns(UserWarning, match=f"{path.name} is damaged .*removed"):
        encoder.transform(films[:9])
    assert len(entries(encoder.cache_dir)) == 9


def test_a_cache_that_cannot_be_written(encoder, films, tmp_path, monkeypatch):
    V = encoder.transform(films[:100])
    (tmp_path / "file").write_text("not a folder")
    beneath = clone(encoder).set_params(cache_dir=tmp_path / "file" / "cache", batch_tokens=256)
    with pytest.warns(UserWarning, match="going on without keeping vectors") as caught:
        assert cosines(beneath.transform(films[:100]), V).min() > .9999
    assert len(caught) == 1

    def full(path, work):
        with closing(sqlite3.connect(path)) as db, db:
            db.execute("PRAGMA max_page_count = 1")
            db.execute("CREATE TABLE IF NOT EXISTS vectors (key BLOB PRIMARY KEY, sealed BLOB)")
            return work(db)
    monkeypatch.setattr(cache, "transact", full)
    with pytest.warns(UserWarning, match="cannot use .*disk is full") as caught:
        assert cosines(clone(encoder).set_params(cache_dir=tmp_path, batch_tokens=256).transform(films[:100]), V).min() > .9999
    assert len(caught) == 1, "one warning, and no more tries"


CHILD = """
import json, sys
import numpy as np
from llmrec.language import encoding
from llmrec.language.encoding import TextEncoder, encode_batch

def count(model, ids, *how):
    vectors = encode_batch(model, ids, *how)
    print(len(ids), flush=True)
    return vectors

encoding.encode_batch = count
V = TextEncoder(device="cpu", dtype="float32", batch_tokens=256, cache_dir=sys.argv[1]).transform(json.load(sys.stdin))
np.save(sys.argv[2], V)
"""


def child(folder, texts, result):
    """A process that encodes `texts`, says how many after each batch, and saves the vectors."""
    started = subprocess.Popen([sys.executable, "-c", CHILD, str(folder), str(result)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                               text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    json.dump(texts, started.stdin)
    started.stdin.close()
    return started


def test_a_killed_run_loses_at_most_one_batch(tmp_path, films, encoded):
    films = films[:150]
    killed = child(tmp_path / "killed", films, tmp_path / "none")
    done = [int(killed.stdout.readline()) for _ in range(5)]
    killed.send_signal(signal.SIGKILL)
    done += [int(line) for line in killed.stdout.read().split()]
    assert killed.wait() == -signal.SIGKILL
    kept = len(entries(tmp_path / "killed"))
    assert len(set(films)) > kept >= sum(done[:-1]) > 0
    encoder = TextEncoder(device="cpu", dtype="float32", batch_tokens=256, cache_dir=tmp_path / "killed")
    V = encoder.transform(films)
    assert sum(encoded) == len(set(films)) - kept
    assert cosines(V, clone(encoder).set_params(cache_dir=False).transform(films)).min() >= .9999


def test_two_processes_share_a_cache(tmp_path, films):
    films, results = films[:150], [tmp_path / f"{number}.npy" for number in range(2)]
    runs = [child(tmp_path / "cache", films, result) for result in results]
    for run in runs:
        run.stdout.read()
    assert [run.wait() for run in runs] == [0, 0] and len(entries(tmp_path / "cache")) == len(set(films))
    encoder = TextEncoder(device="cpu", dtype="float32", batch_tokens=256, cache_dir=tmp_path / "cache")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        V = encoder.transform(films)
    for W in [*map(np.load, results), clone(encoder).set_params(cache_dir=False).transform(films)]:
        assert cosines(V, W).min() >= .9999


def test_threads_share_the_model_and_the_cache(tmp_path, films):
    """Each thread reads another layer or another length; nobody may get, or keep, the vectors of another."""
    texts = [text + " and a word more" * 9 for text in films[:24]]
    ways = [dict(layer=layer) for layer in (0, 1, 3, -1)] + [dict(max_length=length) for length in (8, 16, 32, 128)]
    encoders = [TextEncoder(device="cpu", dtype="float32", batch_tokens=256, cache_dir=tmp_path, **way) for way in ways]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        right = [clone(encoder).set_params(cache_dir=False).transform(texts) for encoder in encoders]
        for part in (texts[::2], texts):
            with ThreadPoolExecutor(len(encoders)) as pool:
                list(pool.map(lambda encoder: encoder.transform(part), encoders))
        for encoder, V in zip(encoders, right):
            assert cosines(encoder.transform(texts), V).min() >= .9999, f"layer {encoder.layer}, length {encoder.max_length}"


FORK = """
import os
import torch
from llmrec.language.encoding import TextEncoder

torch.set_num_threads(2)
encoder, texts = TextEncoder(device="cpu", dtype="float32", cache_dir=False), ["a film about dogs and the sea"] * 4 + ["war " * n for n in range(1, 60)]
V = encoder.transform(texts)
child = os.fork()
if child == 0:
    os._exit(0 if abs(encoder.transform(texts) - V).max() < 1e-5 and torch.get_num_threads() == 1 else 3)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), torch.get_num_threads())
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_forked_process_encodes_and_says_that_it_has_one_thread():
    run = subprocess.Popen([sys.executable, "-W", "always", "-c", FORK], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                           start_new_session=True, env=os.environ | {"OMP_NUM_THREADS": "2"})
    try:
        said, warned = run.communicate(timeout=90)
    except subprocess.TimeoutExpired:
        os.killpg(run.pid, signal.SIGKILL)
        pytest.fail("the forked process waits for ever")
    assert said == "0 2\n" and "get_context('spawn')" in warned
