"""The encoder against its peer, every family of model, every pooling and layer, a GPU that is full, and the cache under fire."""
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
import types
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.pipeline import make_pipeline
from transformers import GPT2Config, GPT2Model

from llmrec import encoding
from llmrec.encoding import POOLINGS, TextEncoder, encode_batch, find_model, load_model, load_tokenizer, plan_batches, unseal
from llmrec.preprocessing import item_text
from tests.test_models import FAMILIES, save  # noqa: F401 (a fixture)

ODD = ["", " ", "🚀🐼", "玩具总动员", "a\x00b", "word " * 90, "x" * 300, "naïve café ÅÄÖ", "A"]


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Small batches on several threads of a busy machine mostly wait for one another."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


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
    assert (encoder.transform([texts[i] for i in back]) == V[back]).all(), "a batch depends on the texts alone, not on their order"
    for some in (texts[:7], texts[5:90:3]):
        rows = [texts.index(text) for text in some]
        assert cosines(encoder.transform(some), V[rows]).min() >= .9999
    for container in (tuple, np.array, pd.Series):
        assert (encoder.transform(container(texts)) == V).all()


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
    with pytest.raises(TypeError, match="prefix must be a str, got 3"):
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
    ("Toy Story", r"got str; for one text write \[text\]"), (None, "got NoneType"), (3, "got int"), ({"a": 1}, "got dict"),
    (pd.DataFrame({"a": ["b"]}), "got DataFrame"), (["a", None], r"texts\[1\] is None"), (["a", float("nan")], r"texts\[1\] is nan"),
    (pd.Series(["a", None]), r"texts\[1\] is (None|nan)"), ([3], r"texts\[0\] is 3"), (["a", ["b"]], r"texts\[1\] is \['b'\]"),
])
def test_what_is_no_text_is_refused(encoder, texts, message):
    with pytest.raises(TypeError, match=message):
        encoder.transform(texts)


def test_broken_unicode_is_refused(encoder):
    with pytest.raises(ValueError, match=r"texts\[1\] is no valid Unicode"):
        encoder.transform(["a", "\ud800"])


@pytest.mark.parametrize("wrong, message", [
    ({"pooling": "sum"}, r"pooling must be one of \['mean', .*got 'sum'"), ({"layer": 7}, "layer: got 7; this model has layers 0 .* to 6"), ({"layer": -2}, "layer must be"), ({"dtype": "int8"}, "dtype must be"), ({"device": "tpu"}, "device must be"),
    ({"max_length": 2}, "max_length must be a whole number from 3 to 512, got 2"), ({"max_length": 513}, "from 3 to 512"),
    ({"max_length": "9"}, "got '9'"), ({"batch_tokens": 0}, "batch_tokens must be"), ({"batch_tokens": 1.5}, "batch_tokens must be"),
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
    return sorted(Path(folder).glob("*.vec"))


def test_a_full_cache_needs_no_model(encoder, films, encoded, monkeypatch):
    V = encoder.transform(films)
    assert len(encoded) == len(entries(encoder.cache_dir)) > 3
    monkeypatch.setattr(encoding, "load_model", None)
    again = clone(encoder).transform(films)
    assert again.tobytes() == V.tobytes()


def test_all_that_decides_the_vectors_is_in_the_key(encoder, save, encoded):
    texts = ["the film", "a toy story"]
    encoder.transform(texts)
    changes = [dict(max_length=64), dict(dtype="bfloat16"), dict(pooling="cls"), dict(layer=2), dict(layer=3), dict(prefix="a "),
               dict(model=str(save(FAMILIES["gpt"]())), max_length=64)]
    for change in changes:
        clone(encoder).set_params(**change).transform(texts)
    encoder.transform(["the film", "a toy"])
    assert len(encoded) == 2 + len(changes)
    encoder.transform(texts)
    assert len(encoded) == 2 + len(changes)


def test_entries_of_before_there_were_layers_are_still_read(tmp_path):
    """The key of a mean over the last layer, as version 1 of the cache wrote it first."""
    texts, files = ["a film"], find_model("minilm")
    recipe = dict(model=files.sha256, pooling="mean", max_length=128, dtype="float32", device="cpu")
    key = hashlib.sha256(json.dumps([1, recipe, texts], sort_keys=True).encode()).hexdigest()
    TextEncoder(device="cpu", dtype="float32", cache_dir=tmp_path).transform(texts)
    assert [path.stem for path in entries(tmp_path)] == [key]


def test_a_flipped_byte_is_noticed_wherever_it_is(encoder, films, encoded):
    V = encoder.transform(films[:100])
    path = entries(encoder.cache_dir)[0]
    whole = path.read_bytes()
    for place in (0, 31, 32, 40, 100, len(whole) - 1):
        data = bytearray(whole)
        data[place] ^= 4
        path.write_bytes(data)
        before = len(encoded)
        with pytest.warns(UserWarning, match=f"{path.name} is damaged"):
            assert encoder.transform(films[:100]).tobytes() == V.tobytes()
        assert len(encoded) == before + 1 and path.read_bytes() == whole
    assert unseal(path.stem, whole).shape[1] == 384
    for key, data in [(path.stem, b""), (path.stem, whole[:-1]), (path.stem, whole + b"0"), ("another key", whole)]:
        assert unseal(key, data) is None


def test_a_cache_that_cannot_be_written(encoder, films, tmp_path, monkeypatch):
    V = encoder.transform(films[:100])
    (tmp_path / "file").write_text("not a folder")
    beneath = clone(encoder).set_params(cache_dir=tmp_path / "file" / "cache", batch_tokens=256)
    with pytest.warns(UserWarning, match="going on without keeping vectors") as caught:
        assert cosines(beneath.transform(films[:100]), V).min() > .9999
    assert len(caught) == 1

    def full(*args):
        raise OSError(28, "No space left on device")
    for name in ("os.replace", "pathlib.Path.write_bytes"):
        with monkeypatch.context() as patch:
            patch.setattr(name, lambda *args, **kwargs: full())
            new = clone(encoder).set_params(cache_dir=tmp_path / name, batch_tokens=256)
            with pytest.warns(UserWarning, match="No space left on device") as caught:
                new.transform(films[:100])
        assert len(caught) == 1 and not list((tmp_path / name).iterdir()), "one warning, and nothing half written"


CHILD = """
import hashlib, json, sys
from llmrec import encoding
from llmrec.encoding import TextEncoder, encode_batch

def count(model, ids, *how):
    vectors = encode_batch(model, ids, *how)
    print("encoded", flush=True)
    return vectors

encoding.encode_batch = count
V = TextEncoder(device="cpu", dtype="float32", batch_tokens=256, cache_dir=sys.argv[1]).transform(json.load(sys.stdin))
sys.stdout.write("sha256 " + hashlib.sha256(V.tobytes()).hexdigest())
"""


def child(folder, texts):
    """A process that encodes `texts` and says so after each batch."""
    started = subprocess.Popen([sys.executable, "-c", CHILD, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                               env=os.environ | {"OMP_NUM_THREADS": "1"})
    json.dump(texts, started.stdin)
    started.stdin.close()
    return started


def test_a_killed_run_loses_at_most_one_batch(tmp_path, films, encoded):
    films = films[:150]
    def run(folder):
        return TextEncoder(device="cpu", dtype="float32", batch_tokens=256, cache_dir=folder).transform(films)
    killed = child(tmp_path / "killed", films)
    for _ in range(5):
        assert killed.stdout.readline() == "encoded\n"
    killed.send_signal(signal.SIGKILL)
    done = 5 + killed.stdout.read().count("encoded")
    assert killed.wait() == -signal.SIGKILL
    kept = len(entries(tmp_path / "killed"))
    assert kept >= done - 1
    V = run(tmp_path / "killed")
    after_kill = len(encoded)
    undisturbed = run(tmp_path / "undisturbed")
    assert V.tobytes() == undisturbed.tobytes()
    assert after_kill == len(entries(tmp_path / "undisturbed")) - kept > 0


def test_two_processes_share_a_cache(tmp_path, films):
    films = films[:150]
    runs = [child(tmp_path, films) for _ in range(2)]
    said = [run.stdout.read() for run in runs]
    assert [run.wait() for run in runs] == [0, 0]
    hashes = {text.split("sha256 ")[1] for text in said}
    assert len(hashes) == 1 and not list(tmp_path.glob("*.tmp"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        V = TextEncoder(device="cpu", dtype="float32", batch_tokens=256, cache_dir=tmp_path).transform(films)
    assert hashlib.sha256(V.tobytes()).hexdigest() in hashes
