"""Every pooling against a loop and sentence-transformers, and every layer against what transformers gives."""
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from transformers import AlbertConfig, AlbertModel

from llmrec.language.models import find_model, load_model
from llmrec.language.pooling import POOLINGS, hidden_states
from tests.test_models import FAMILIES, TINY, save  # noqa: F401 (a fixture)


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
