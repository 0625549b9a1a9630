"""Fast attention is the definition: grouped heads, every mask, linear biases, queries at the end of longer keys."""

import pytest
import torch

from conformance.probes import TensorSizes, poisoned_memory
from mamba_slm.core.errors import ShapeError
from mamba_slm.ops.attention import (
    alibi_bias,
    alibi_slopes,
    attention,
    attention_mask,
    attention_reference,
    document_starts,
)
from tolerances import assert_close, tolerance_of


def random_inputs(t, s, *, b=2, h=4, k=2, d=8, dtype=torch.float32):
    return [torch.randn(b, n, heads, d).to(dtype) for n, heads in ((t, h), (s, k), (s, k))]


def assert_same(inputs, *, first_key=None, mask=None, bias=None):
    results = []
    for function in (attention, attention_reference):
        leaves = [m.clone().requires_grad_() for m in inputs]
        y = function(*leaves, first_key=first_key, mask=mask, bias=bias)
        generator = torch.Generator().manual_seed(3)
        (y.float() * torch.randn(y.shape, generator=generator)).sum().backward()
        results.append((y, [leaf.grad for leaf in leaves]))
    (y, gradients), (y_ref, gradients_ref) = results
    tolerance = tolerance_of("attention", inputs[0].dtype)
    assert y.dtype == inputs[0].dtype
    assert_close(y, y_ref, tolerance.values)
    for name, a, b in zip("qkv", gradients, gradients_ref, strict=True):
        assert_close(a, b, tolerance.gradients, f"gradient of {name}")
    return y


def positions(n, *, start=0, b=2):
    return torch.arange(start, start + n).expand(b, -1)


HEADS = pytest.mark.parametrize(("h", "k"), [(1, 1), (4, 4), (4, 2), (6, 1), (6, 2)])


@HEADS
@pytest.mark.parametrize("t", [1, 2, 65])
def test_causal_attention_is_the_definition(t, h, k):
    assert_same(random_inputs(t, t, h=h, k=k))


@HEADS
@pytest.mark.parametrize(("t", "s"), [(1, 9), (4, 9), (8, 9)])
def test_fewer_queries_than_keys_are_the_last_positions(t, s, h, k):
    inputs = random_inputs(t, s, h=h, k=k)
    y = assert_same(inputs)
    q_all = torch.cat([torch.randn(2, s - t, h, 8), inputs[0]], dim=1)
    whole = attention_reference(q_all, *inputs[1:])
    assert_close(y, whole[:, -t:], tolerance_of("attention").values)


@pytest.mark.parametrize("t", [1, 40])
def test_bf16_stays_within_its_rounding(t):
    assert_same(random_inputs(t, t, dtype=torch.bfloat16))


def test_a_window_counts_the_token_itself():
    t, window = 12, 3
    inputs = random_inputs(t, t)
    mask = attention_mask(positions(t), positions(t), window=window)
    y = assert_same(inputs, mask=mask)
    for i in range(t):
        seen = slice(max(0, i - window + 1), i + 1)
        alone = attention_reference(inputs[0][:, i : i + 1], inputs[1][:, seen], inputs[2][:, seen])
        assert_close(y[:, i : i + 1], alone, tolerance_of("attention").values)


def test_a_window_holds_for_a_single_query_too():
    inputs = random_inputs(1, 12)
    mask = attention_mask(positions(1, start=11), positions(12), window=3)
    y = assert_same(inputs, mask=mask)
    alone = attention_reference(inputs[0], inputs[1][:, -3:], inputs[2][:, -3:])
    assert_close(y, alone, tolerance_of("attention").values)


@pytest.mark.parametrize("window", [0, 3])
def test_documents_do_not_see_each_other_not_even_in_the_gradient(window):
    lengths = (1, 5, 6)
    ids = torch.tensor([7, 8, 7]).repeat_interleave(torch.tensor(lengths)).expand(2, -1)
    steps = torch.cat([torch.arange(n) for n in lengths]).expand(2, -1)
    first_key, mask = document_starts(ids), attention_mask(steps, steps, window=window)
    inputs = random_inputs(12, 12)
    y = assert_same(inputs, first_key=first_key, mask=mask)
    start = 0
    for n in lengths:
        own = slice(start, start + n)
        own_mask = attention_mask(positions(n), positions(n), window=window)
        alone = attention_reference(*(m[:, own] for m in inputs), mask=own_mask)
        assert_close(y[:, own], alone, tolerance_of("attention").values)
        leaves = [m.clone().requires_grad_() for m in inputs]
        y_own = attention(*leaves, first_key=first_key, mask=mask)[:, own]
        (y_own * torch.randn(2, n, 4, 8)).sum().backward()
        for leaf in leaves:
            assert not leaf.grad[:, :start].any()
            assert not leaf.grad[:, start + n :].any()
        start += n


def test_a_window_is_an_interval_of_slots_too():
    t, window = 12, 3
    inputs = random_inputs(t, t)
    first_key = (torch.arange(t) - window + 1).clamp(min=0).expand(2, -1)
    mask = attention_mask(positions(t), positions(t), window=window)
    assert_close(
        assert_same(inputs, first_key=first_key),
        attention_reference(*inputs, mask=mask),
        tolerance_of("attention").values,
    )


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_is_seen_by_nobody_and_gives_no_nan(side):
    valid = torch.ones(2, 9, dtype=torch.bool)
    valid[1, slice(0, 4) if side == "left" else slice(5, 9)] = False
    steps = (valid.cumsum(dim=1) - 1).clamp(min=0)
    inputs = random_inputs(9, 9)
    y = assert_same(inputs, mask=attention_mask(steps, steps, key_valid=valid))
    assert y.isfinite().all()
    alone = attention_reference(*(m[1:, valid[1]] for m in inputs))
    assert_close(y[1:, valid[1]], alone, tolerance_of("attention").values)


def test_no_mask_is_built_where_causality_says_it_all():
    assert attention_mask(positions(5), positions(5)) is None
    assert attention_mask(positions(3, start=6), positions(9)) is None
    with TensorSizes() as sizes, torch.no_grad():
        attention(*random_inputs(32, 32))
        attention(*random_inputs(1, 32))
    assert "arange.start" not in sizes.operations and "arange.default" not in sizes.operations


@pytest.mark.parametrize(("t", "s"), [(1, 7), (4, 7), (7, 7)])
@pytest.mark.parametrize("masked", [False, True])
def test_linear_biases_are_added_under_the_mask(t, s, masked):
    bias = alibi_bias(positions(t, start=s - t), positions(s), alibi_slopes(4))
    mask = attention_mask(positions(t, start=s - t), positions(s), window=3) if masked else None
    assert_same(random_inputs(t, s), mask=mask, bias=bias)


@pytest.mark.parametrize(
    ("heads", "expected"),
    [
        (8, [2**-1, 2**-2, 2**-3, 2**-4, 2**-5, 2**-6, 2**-7, 2**-8]),
        (4, [2**-2, 2**-4, 2**-6, 2**-8]),
        (1, [2**-8]),
        (6, [2**-2, 2**-4, 2**-6, 2**-8, 2**-1, 2**-3]),
    ],
)
def test_slopes_are_those_of_the_paper(heads, expected):
    assert torch.equal(alibi_slopes(heads), torch.tensor(expected))


def test_the_bias_is_minus_the_distance():
    bias = alibi_bias(torch.tensor([[2, 5]]), torch.tensor([[0, 2, 5]]), torch.tensor([0.5]))
    assert torch.equal(bias[0, 0, 1], torch.tensor([-2.5, -1.5, 0.0]))


@pytest.mark.parametrize(("t", "s"), [(2, 9), (9, 30), (17, 17), (33, 70)])
@pytest.mark.parametrize("terms", ["none", "first key", "mask", "bias", "all"])
def test_queries_go_in_blocks_where_their_mask_would_be_large(monkeypatch, t, s, terms):
    monkeypatch.setattr("mamba_slm.ops.attention.MASK_ELEMENTS", 64)
    first_key = torch.randint(0, s - t + 1, (2, t)) if terms in ("first key", "all") else None
    valid = torch.arange(s).expand(2, s) > 2
    mask = (
        attention_mask(positions(t, start=s - t), positions(s), key_valid=valid) if terms in ("mask", "all") else None
    )
    bias = None
    if terms in ("bias", "all"):
        bias = alibi_bias(positions(t, start=s - t), positions(s), alibi_slopes(4))
    inputs = random_inputs(t, s)
    assert_same(inputs, first_key=first_key, mask=mask, bias=bias)
    if terms == "first key":
        with torch.no_grad(), TensorSizes() as sizes:
            attention(*inputs, first_key=first_key)
        masks = [shape for shape in sizes.shapes if len(shape) == 4 and shape[1] == 1]
        assert all(shape[-1] * shape[-2] <= max(64, s) for shape in masks)


def test_keys_and_values_are_not_expanded_to_all_heads():
    inputs = random_inputs(32, 32, h=8, k=1, d=16)
    with TensorSizes() as sizes, torch.no_grad():
        attention(*inputs)
    assert all("repeat" not in name for name in sizes.operations)


def test_the_softmax_is_stable_for_large_scores():
    q, k, v = (m.requires_grad_() for m in random_inputs(6, 6))
    y = attention(q * 100, k * 100, v)
    assert_close(y, attention_reference(q * 100, k * 100, v), tolerance_of("attention").values)
    y.sum().backward()
    assert all(m.grad.isfinite().all() for m in (q, k, v))


def test_uninitialised_memory_is_never_read():
    with poisoned_memory():
        assert_same(random_inputs(7, 7))
        assert_same(random_inputs(3, 7))


def test_disagreeing_shapes_are_named():
    q, k, v = random_inputs(4, 4)
    with pytest.raises(ShapeError, match="has k=1, but k has k=2"):
        attention_reference(q, k, v[:, :, :1])


@HEADS
@pytest.mark.parametrize("masked", [False, True])
@torch.no_grad()
def test_decoding_in_bf16_is_the_definition_too(h, k, masked):
    q, keys, values = random_inputs(1, 37, h=h, k=k, dtype=torch.bfloat16)
    mask = None
    if masked:
        mask = attention_mask(
            positions(1, start=36), positions(37), key_valid=torch.arange(37).expand(2, -1) > 5, window=20
        )
    y = attention(q, keys, values, mask=mask)
    assert y.dtype == torch.bfloat16 and y.shape == q.shape
    expected = attention_reference(q, keys, values, mask=mask)
    assert_close(y, expected, tolerance_of("attention", torch.bfloat16).values)
    assert masked is not torch.equal(y, attention(q, keys, values))
