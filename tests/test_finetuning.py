"""Fine-tuning: pairs by hand, the loss against its formula, LoRA against NumPy, runs that are killed, folders that are whole, every wrong call."""
import sys
from copy import deepcopy

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings, strategies as st
from scipy.sparse import csr_matrix

import llmrec.ranking.training
from llmrec.data.dataset import make_dataset
from llmrec.language.models import find_model, load_model, load_tokenizer
from llmrec.language.encoding import TextEncoder, encode_batch
from llmrec.evaluation.splitting import item_cold, temporal
from llmrec.ranking.finetuning import add_lora, embed, finetune, like_pairs, pair_loss, save_encoder
from tests.test_models import FAMILIES, save  # noqa: F401 (a fixture)

QUICK = dict(lr=.01, max_length=16, dtype="float32", device="cpu")


@pytest.fixture(scope="module")
def pairs():
    """Two groups of people and of films: who reads about a toy likes a story about a film, who reads about nobody has seen that."""
    rng, words = np.random.default_rng(0), "the toy story of a film that nobody has seen".split()
    texts = [" ".join(rng.choice(words[:5] if i < 6 else words[5:], 3)) + f" {words[i % 10]}" for i in range(12)]
    user = np.repeat(np.arange(20), 4)
    item = np.concatenate([rng.permutation(6)[:4] + 6 * (u % 2) for u in range(20)])
    return pd.DataFrame(dict(user=user, item=item, read=[texts[i // 6 * 6 + (i + 1) % 6] for i in item], text=[texts[i] for i in item]))


@pytest.fixture
def held(pairs):
    return pairs.groupby("user").tail(1)


@pytest.fixture
def learn(pairs, held):
    return pairs.drop(held.index)


@pytest.fixture
def tiny(save):  # noqa: F811
    return str(save(FAMILIES["bert"](), "tiny"))


def vectors(folder, texts):
    return TextEncoder(str(folder), max_length=16, dtype="float32", device="cpu", cache_dir=False).transform(list(texts))


# Pairs

def likes(rows, **columns):
    frame = pd.DataFrame(rows, columns=["user_id", "item_id", "rating", "timestamp"]).drop(columns=columns.get("without", []))
    return make_dataset(frame)


ROWS = [("b", 30, 5., 2), ("a", 10, 4., 9), ("a", 20, 5., 1), ("a", 30, 2., 5), ("a", 40, 4.5, 7), ("b", 10, 4., 1), ("c", 20, 5., 1), ("c", 40, 3.5, 2)]


def test_pairs_by_hand():
    found = like_pairs(likes(ROWS), ["ten", "twenty", "thirty", "forty"])
    assert found.values.tolist() == [[0, 3, "twenty", "forty"], [0, 0, "forty", "ten"], [1, 2, "ten", "thirty"]]
    assert found.columns.tolist() == ["user", "item", "read", "text"] and found.index.tolist() == [0, 1, 2]


def test_several_likes_are_read_the_latest_first():
    found = like_pairs(likes(ROWS), ["ten", "twenty", "thirty", "forty"], n_last=3)
    assert found.read.tolist() == ["twenty", "forty. twenty", "ten"]


@settings(max_examples=30)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 5), st.sampled_from([3., 4., 5.]), st.integers(0, 3)), min_size=8, max_size=24, unique_by=lambda r: r[:2]))
def test_a_pair_reads_no_later_like(rows):
    data = likes(rows)
    time = {(data.user_codes([u])[0], data.item_codes([i])[0]): t for u, i, r, t in rows if r >= 4}
    counts = pd.Series([user for user, _ in time]).value_counts()
    if counts.max() < 2 if len(counts) else True:
        with pytest.raises(ValueError, match="train: nobody has two likes"):
            like_pairs(data, [str(i) for i in range(data.n_items)])
        return
    found = like_pairs(data, [str(i) for i in range(data.n_items)])
    assert len(found) == (counts - 1).sum() and not found.duplicated(["user", "item"]).any()
    assert all(time[user, int(read)] <= time[user, item] for user, item, read in zip(found.user, found.item, found.read))


def test_without_times_the_order_is_drawn():
    data, texts = likes([(0, i, 5., 0) for i in range(30)], without=["timestamp"]), [str(i) for i in range(30)]
    one, same, other = (like_pairs(data, texts, rng=rng) for rng in (0, 0, 1))
    assert one.equals(same) and not one.equals(other) and sorted([one.read[0], *one.text], key=int) == texts


def test_events_without_ratings_are_likes():
    assert len(like_pairs(likes(ROWS, without=["rating"]), list("abcd"))) == 5


# The loss

def test_embedding_is_that_of_the_encoder_and_has_slopes(tiny):
    model = deepcopy(load_model(find_model(tiny), "cpu", "float32"))
    ids = [[2, 3, 4], [5], [6, 7, 8, 9, 2]]
    found = embed(model, ids)
    assert np.allclose(found.detach().numpy(), encode_batch(model, ids), atol=1e-6)
    assert np.allclose(embed(model, ids, "bfloat16").detach().numpy(), found.detach().numpy(), atol=.05)
    found[0, 0].backward()
    assert model.embeddings.word_embeddings.weight.grad[2].abs().max() > 0


def test_the_loss_is_the_formula(tiny, pairs):
    model, batch = load_model(find_model(tiny), "cpu", "float32"), pairs[::7]
    words = pd.unique(pairs[["read", "text"]].to_numpy().ravel()).tolist()
    ids = dict(zip(words, load_tokenizer(find_model(tiny))(words)["input_ids"]))
    X = csr_matrix((np.ones(len(pairs)), (pairs.user, pairs.item)))
    with torch.no_grad():
        found = pair_loss(model, batch, ids, X, .2).item()
    read, text = (vectors(tiny, batch[side]).astype("float64") for side in ("read", "text"))
    share, losses = pairs.item.value_counts(normalize=True), []
    for i, (user, x) in enumerate(zip(batch.user, read)):
        liked = set(pairs.item[pairs.user == user])
        right = np.exp(x @ text[i] / .2)
        wrong = [np.exp(x @ y / .2) / ((len(batch) - 1) * share[j]) for j, y in zip(batch.item, text) if j not in liked]
        losses.append(-np.log(right / (right + sum(wrong))))
    assert found == pytest.approx(np.mean(losses), rel=1e-4)


# LoRA

def test_an_adapted_layer_is_the_formula_and_merging_keeps_it(tiny):
    model = deepcopy(load_model(find_model(tiny), "cpu", "float32"))
    plain = embed(model, [[2, 3, 4]]).detach()
    adapted = add_lora(model, 3)
    assert torch.equal(embed(adapted.eval(), [[2, 3, 4]]), plain)  # B is zero at the start
    layer = adapted.base_model.model.encoder.layer[1].attention.self.value
    W, bias, A, B = layer.base_layer.weight, layer.base_layer.bias, layer.lora_A["default"].weight, layer.lora_B["default"].weight
    assert {name.split(".")[-3] for name, w in adapted.named_parameters() if w.requires_grad} == {"lora_A", "lora_B"}
    assert A.shape == (3, 16) and B.shape == (16, 3) and sum(w.numel() for w in adapted.parameters() if w.requires_grad) == 2 * 2 * 96
    with torch.no_grad():
        B.normal_()
        x = torch.randn(5, 16)
        assert torch.allclose(layer(x), x @ W.T + bias + 2 * (x @ A.T) @ B.T, atol=1e-5)
        changed = embed(adapted, [[2, 3, 4]])
        merged = adapted.merge_and_unload()
        assert torch.allclose(embed(merged, [[2, 3, 4]]), changed, atol=1e-5) and not torch.allclose(changed, plain, atol=1e-3)
    assert type(merged).__name__ == "BertModel" and not [name for name, _ in merged.named_parameters() if "lora" in name]


def test_without_peft_the_error_says_what_to_install(tiny, learn, held, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(ImportError, match=r"lora: needs peft; pip install 'llmrec\[train\]'"):
        finetune(tmp_path / "new", learn, held, tiny, lora=2, **QUICK)
    assert not (tmp_path / "new").exists()


# Whole runs

@pytest.mark.parametrize("lora", [None, 2], ids=["all weights", "lora"])
@pytest.mark.parametrize("family", ["bert", "gpt"])
def test_training_finds_the_groups(family, lora, save, learn, held, tmp_path):  # noqa: F811
    start = save(FAMILIES[family]())
    history = finetune(tmp_path / "new", learn, held, str(start), lora=lora, n_epochs=4, **QUICK | dict(lr=.01 if lora is None else .05))
    assert history["held-out loss"].min() < history["held-out loss"][0] - .3 and history.index.tolist() == [0, 1, 2, 3, 4]
    assert np.isnan(history["training loss"][0]) and history["training loss"][1:].notna().all()
    before, after = vectors(start, held.text), vectors(tmp_path / "new", held.text)
    assert np.allclose(np.linalg.norm(after, axis=1), 1, atol=1e-5) and not np.allclose(before, after, atol=.01)


@pytest.mark.parametrize("lora", [None, 2], ids=["all weights", "lora"])
def test_the_same_seed_gives_the_same_files(lora, tiny, learn, held, tmp_path):
    untouched = load_model(find_model(tiny), "cpu", "float32").embeddings.word_embeddings.weight.clone()
    for name, rng in (("one", 5), ("two", np.random.default_rng(5)), ("other", 6)):
        finetune(tmp_path / name, learn, held, tiny, lora=lora, n_epochs=1, rng=rng, **QUICK)
        torch.rand(1)
    one, two, other = (find_model(tmp_path / name).sha256 for name in ("one", "two", "other"))
    assert one == two != other
    assert torch.equal(load_model(find_model(tiny), "cpu", "float32").embeddings.word_embeddings.weight, untouched)
    assert {path.suffix for path in (tmp_path / "one").iterdir()} == {".json", ".safetensors"}


@pytest.mark.parametrize("lora", [None, 2], ids=["all weights", "lora"])
def test_a_killed_run_ends_like_one_that_was_not(lora, tiny, learn, held, tmp_path, monkeypatch):
    run = dict(pairs=learn, held=held, model=tiny, lora=lora, **QUICK)
    straight = finetune(tmp_path / "straight", **run)
    write = llmrec.ranking.training.write_run

    def write_and_die(run):
        write(run)
        if len(run.history) == 3:
            raise KeyboardInterrupt
    monkeypatch.setattr(llmrec.ranking.training, "write_run", write_and_die)
    with pytest.raises(KeyboardInterrupt):
        finetune(tmp_path / "killed", **run, checkpoint=tmp_path / "run")
    assert not (tmp_path / "killed").exists()
    monkeypatch.setattr(llmrec.ranking.training, "write_run", write)
    torch.rand(1)
    resumed = finetune(tmp_path / "killed", **run, checkpoint=tmp_path / "run")
    assert resumed.equals(straight) and find_model(tmp_path / "killed").sha256 == find_model(tmp_path / "straight").sha256


def test_the_best_epoch_is_kept(tiny, learn, held, tmp_path):
    against = held.assign(read=held.read.to_numpy()[::-1])  # what is learned is wrong for them
    history = finetune(tmp_path / "new", learn, against, tiny, **QUICK)
    assert history["held-out loss"].idxmin() == 0
    assert np.array_equal(vectors(tmp_path / "new", held.text), vectors(tiny, held.text))


@pytest.mark.parametrize("change", [dict(lr=.02), dict(batch_size=8), dict(temperature=.1), dict(max_length=8), dict(rng=1), dict(lora=2)], ids=str)
def test_a_checkpoint_of_another_run_is_refused(change, tiny, learn, held, tmp_path):
    run = dict(pairs=learn, held=held, model=tiny, n_epochs=1, checkpoint=tmp_path / "run", **QUICK)
    finetune(tmp_path / "first", **run)
    with pytest.raises(ValueError, match="checkpoint: .* is of a run on other data or with other settings"):
        finetune(tmp_path / "second", **run | change)
    with pytest.raises(ValueError, match="checkpoint: .* is of a run on other data or with other settings"):
        finetune(tmp_path / "second", **run | dict(pairs=learn[1:]))


@pytest.mark.parametrize("data", [b"", b"no checkpoint", "cut"], ids=["empty", "text", "cut"])
def test_a_damaged_checkpoint_is_refused(data, tiny, learn, held, tmp_path):
    run = dict(pairs=learn, held=held, model=tiny, n_epochs=1, checkpoint=tmp_path / "run", **QUICK)
    finetune(tmp_path / "first", **run)
    (tmp_path / "run").write_bytes((tmp_path / "run").read_bytes()[:-9] if data == "cut" else data)
    with pytest.raises(ValueError, match="is not a whole checkpoint .*; delete it"):
        finetune(tmp_path / "second", **run)


def test_a_killed_save_leaves_nothing(tiny, tmp_path):
    class Dying:
        def save_pretrained(self, folder):
            raise KeyboardInterrupt
    model = load_model(find_model(tiny), "cpu", "float32")
    with pytest.raises(KeyboardInterrupt):
        save_encoder(tmp_path / "deep" / "new", model, Dying())
    assert not list((tmp_path / "deep").iterdir())
    save_encoder(tmp_path / "deep" / "new", model, load_tokenizer(find_model(tiny)))
    assert np.array_equal(vectors(tmp_path / "deep" / "new", ["toy story"]), vectors(tiny, ["toy story"]))


# Wrong calls

def test_pairs_need_a_training_part_and_texts(movielens):
    with pytest.raises(TypeError, match="train: got Split; give a Dataset"):
        like_pairs(temporal(movielens), ["a"] * movielens.n_items)
    with pytest.raises(TypeError, match="texts: got DataFrame; give a list of str"):
        like_pairs(likes(ROWS), pd.DataFrame({"text": ["ten", "twenty", "thirty", "forty"]}))
    with pytest.raises(TypeError, match=r"texts\[1\]: got None; give a str"):
        like_pairs(likes(ROWS), ["ten", None, "thirty", "forty"])


def test_pairs_need_a_text_for_each_item_and_a_sensible_count():
    with pytest.raises(ValueError, match="texts: got 1; give one for each of the 4 items"):
        like_pairs(likes(ROWS), ["ten"])
    with pytest.raises(ValueError, match="n_last: got 0; give a whole number of at least 1"):
        like_pairs(likes(ROWS), list("abcd"), n_last=0)


@pytest.mark.parametrize("wrong, message", [
    (dict(lr=0), "lr: got 0; give a number above 0"), (dict(temperature=-1), "temperature: got -1"), (dict(n_epochs=0), "n_epochs: got 0"),
    (dict(batch_size=1), "batch_size: got 1; give a whole number of at least 2"), (dict(max_length=1000), "max_length: got 1000; give a whole number from 1 to 64"), (dict(lora=0), "lora: got 0; give a whole number of at least 1"),
    (dict(dtype="int8"), "dtype: got 'int8'"), (dict(device="tpu"), "device: got 'tpu'"), (dict(lr=1e30), "lr: got 1e\\+30; steps of that length diverge"),
], ids=str)
def test_wrong_settings(wrong, message, tiny, learn, held, tmp_path):
    with pytest.raises(ValueError, match=message):
        finetune(tmp_path / "new", learn, held, tiny, **QUICK | wrong)
    assert not (tmp_path / "new").exists()


def test_wrong_data_and_a_folder_that_is_there(tiny, learn, held, tmp_path):
    with pytest.raises(ValueError, match="pairs: no column 'read'"):
        finetune(tmp_path / "new", learn.drop(columns="read"), held, tiny, **QUICK)
    with pytest.raises(ValueError, match="held: the table has no rows"):
        finetune(tmp_path / "new", learn, held[:0], tiny, **QUICK)
    with pytest.raises(ValueError, match="folder: .* is there already"):
        finetune(tmp_path, learn, held, tiny, **QUICK)


@pytest.mark.parametrize("family", ["t5", "t5 encoder alone"])
def test_half_of_an_encoder_decoder_is_refused(family, save, learn, held, tmp_path):  # noqa: F811
    with pytest.raises(ValueError, match="model: got .*, half of an encoder-decoder; give an encoder or a decoder"):
        finetune(tmp_path / "new", learn, held, str(save(FAMILIES[family]())), **QUICK)


@pytest.mark.parametrize("protocol", [temporal, item_cold])
def test_pairs_hold_nothing_of_what_is_kept_for_later(protocol, movielens):
    split = protocol(movielens)
    texts = [str(i) for i in range(movielens.n_items)]
    pairs = like_pairs(split.train, texts)
    known = split.train.likes()
    assert known[pairs.user, pairs.item].min() == 1 and known[pairs.user, pairs.read.astype(int)].min() == 1
    if protocol is item_cold:
        assert not (set(pairs.text) | set(pairs.read)) & {texts[i] for i in split.candidates}
