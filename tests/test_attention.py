"""Attention: against torch and a plain loop, what masks promise, what is refused, and a layer of a language model."""
import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch.nn.functional import scaled_dot_product_attention

from llmrec.language.attention import attend


def draw(seed, *shapes):
    """Random tensors in float64, far enough from 0 that weights are uneven."""
    rng = np.random.default_rng(seed)
    return [torch.from_numpy(rng.normal(0, 2, shape)) for shape in shapes]


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 6), st.integers(1, 6), st.integers(1, 5), st.integers(1, 5), st.booleans(), st.integers(0, 2**31))
def test_it_is_the_attention_of_torch(m, n, d, d_v, masked, seed):
    Q, K, V = draw(seed, (2, 3, m, d), (2, 3, n, d), (2, 3, n, d_v))
    allowed = torch.from_numpy(np.random.default_rng(seed).random((2, 1, m, n)) < .5) if masked else None
    if masked:
        allowed[..., 0] |= ~allowed.any(-1)
    answers, weights = attend(Q, K, V, allowed)
    assert torch.allclose(answers, scaled_dot_product_attention(Q, K, V, attn_mask=allowed))
    assert answers.shape == (2, 3, m, d_v) and weights.shape == (2, 3, m, n)
    assert torch.allclose(weights.sum(-1), torch.ones(2, 3, m, dtype=weights.dtype)) and (weights >= 0).all()
    assert not masked or not weights[~allowed.expand_as(weights)].any()


def test_three_words_by_hand():
    x = torch.tensor([[1., 1], [2, 0], [0, 1]], dtype=torch.float64)
    e = np.exp(-1 / np.sqrt(2))  # of the third score less the others
    share, rest = 1 / (2 + e), e / (2 + e)
    answers, weights = attend(x, x, x)
    assert np.allclose(weights[0], [share, share, rest]) and np.allclose(answers[0], [3 * share, share + rest])


def test_a_query_of_zeros_takes_the_plain_mean():
    K, V = draw(0, (4, 3), (4, 2))
    assert torch.allclose(attend(torch.zeros(1, 3, dtype=torch.float64), K, V)[0][0], V.mean(0))


def test_order_of_what_is_looked_at_does_not_matter():
    Q, K, V = draw(1, (3, 4), (5, 4), (5, 2))
    other = torch.tensor([3, 0, 4, 1, 2])
    answers, weights = attend(Q, K, V)
    again, weights_again = attend(Q, K[other], V[other])
    assert torch.allclose(answers, again) and torch.allclose(weights[:, other], weights_again)


def test_causal_answers_know_nothing_of_later_words():
    x, = draw(2, (6, 4))
    causal, changed = torch.ones(6, 6, dtype=torch.bool).tril(), x.clone()
    changed[4] += 5
    before, after = (attend(rows, rows, rows, causal)[0] for rows in (x, changed))
    assert torch.equal(before[:4], after[:4]) and not torch.allclose(before[4:], after[4:])
    assert torch.allclose(before[0], x[0])


def test_no_mask_is_a_mask_that_allows_everything():
    Q, K, V = draw(3, (2, 3), (4, 3), (4, 3))
    for a, b in zip(attend(Q, K, V), attend(Q, K, V, torch.ones(2, 4, dtype=torch.bool))):
        assert torch.equal(a, b)


def test_large_scores_stay_finite():
    x = torch.tensor([[1e4, 0], [0, 1e4]])
    answers, weights = attend(x, x, x)
    assert torch.equal(weights, torch.eye(2)) and torch.equal(answers, x)


def test_gradients_pass_and_stop_at_the_mask():
    Q, K, V = (part.requires_grad_() for part in draw(4, (3, 2), (3, 2), (3, 2)))
    attend(Q, K, V, torch.ones(3, 3, dtype=torch.bool).tril())[0][:2].sum().backward()
    assert torch.isfinite(Q.grad).all() and V.grad[:2].abs().sum() > 0
    assert not V.grad[2].any() and not K.grad[2].any()


X = torch.ones(3, 2)


@pytest.mark.parametrize("args, error, words", [
    ((X, torch.ones(3, 4), X), ValueError, r"Q and K must have vectors of the same length.*\(3, 2\), K \(3, 4\)"),
    ((X, X, torch.ones(4, 2)), ValueError, r"K and V must have as many rows.*V \(4, 2\)"),
    ((X, X, X, torch.ones(3, 3)), TypeError, "allowed must be a tensor of bool.*float32"),
    ((X, X, X, torch.ones(3, 2, dtype=torch.bool)), ValueError, r"allowed must have a row for each query.*\(3, 3\); got \(3, 2\)"),
    ((X, X, X, torch.ones(3, 3, dtype=torch.bool).tril(-1)), ValueError, "allowed has a row without any True"),
])
def test_what_does_not_fit_is_refused(args, error, words):
    with pytest.raises(error, match=words):
        attend(*args)


def test_a_layer_of_bert_looks_where_attend_says():
    """A tiny BERT with random weights: each head's weights and their mix, from the layer's own queries, keys and values."""
    from transformers import BertConfig, BertModel
    torch.manual_seed(0)
    config = BertConfig(vocab_size=20, hidden_size=12, num_hidden_layers=1, num_attention_heads=3, intermediate_size=8, attn_implementation="eager")
    bert, ids = BertModel(config).eval(), torch.tensor([[1, 5, 7, 2]])
    own, state = bert.encoder.layer[0].attention.self, {}
    own.register_forward_hook(lambda module, args, output: state.update(x=args[0], mixed=output[0]))
    with torch.no_grad():
        expected = bert(input_ids=ids, output_attentions=True).attentions[0]
        heads = lambda part: part(state["x"]).view(1, 4, 3, 4).transpose(1, 2)
        answers, weights = attend(*map(heads, (own.query, own.key, own.value)))
    assert torch.allclose(weights, expected, atol=1e-6)
    assert torch.allclose(answers.transpose(1, 2).reshape(1, 4, 12), state["mixed"].reshape(1, 4, 12), atol=1e-6)
