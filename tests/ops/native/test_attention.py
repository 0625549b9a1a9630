"""The C++ attention is the definition: grouped heads, odd lengths, documents, windows, padding, pieces, both dtypes."""

import pytest
import torch

from conformance.probes import TensorSizes, poisoned_memory
from mamba_slm.core.processor import has_instructions
from mamba_slm.ops.attention import alibi_bias, alibi_slopes, attention, attention_reference, document_starts
from mamba_slm.ops.kernels import loaded_kernel
from mamba_slm.ops.native.attention import attention as native_attention
from mamba_slm.ops.native.attention import refuses, unsupported
from tolerances import assert_close, tolerance_of

pytestmark = [
    pytest.mark.usefixtures("native_kernels"),
    pytest.mark.skipif(unsupported() is not None, reason=str(unsupported())),
    pytest.mark.processor,
]
HAS_BF16 = has_instructions("avx512f", "avx512_bf16")

DTYPES = pytest.mark.parametrize(
    "dtype",
    [
        torch.float32,
        pytest.param(torch.bfloat16, marks=pytest.mark.skipif(not HAS_BF16, reason="needs AVX512-BF16")),
    ],
    ids=["fp32", "bf16"],
)


def random_inputs(t, s=None, *, b=2, h=4, k=2, d=32, dtype=torch.float32):
    torch.manual_seed(0)
    return [torch.randn(b, n, heads, d).to(dtype) for n, heads in ((t, h), (s or t, k), (s or t, k))]


def values_and_gradients(function, inputs, first_key):
    leaves = [m.clone().requires_grad_() for m in inputs]
    y = function(*leaves, first_key=first_key)
    grad = torch.randn(y.shape, generator=torch.Generator().manual_seed(3)).to(y.dtype)
    return y.detach(), torch.autograd.grad(y, leaves, grad)


def assert_same(inputs, first_key=None):
    tolerance = tolerance_of("attention", inputs[0].dtype)
    y, gradients = values_and_gradients(native_attention, inputs, first_key)
    expected, expected_gradients = values_and_gradients(attention_reference, inputs, first_key)
    assert y.dtype == inputs[0].dtype
    assert_close(y, expected, tolerance.values)
    for name, found, wanted in zip("qkv", gradients, expected_gradients, strict=True):
        assert found.dtype == inputs[0].dtype
        assert_close(found, wanted, tolerance.gradients, f"gradient of {name}")
    return y


def starts_of(lengths, rows=2):
    return document_starts(torch.arange(len(lengths)).repeat_interleave(torch.tensor(lengths)).expand(rows, -1))


@DTYPES
@pytest.mark.parametrize("t", [2, 5, 6, 64, 97, 301])
def test_causal_attention_is_the_definition(dtype, t):
    assert_same(random_inputs(t, dtype=dtype))


@DTYPES
@pytest.mark.parametrize(("h", "k"), [(1, 1), (3, 3), (6, 1), (8, 2), (10, 5)])
def test_heads_may_share_keys_in_any_ratio(dtype, h, k):
    assert_same(random_inputs(75, h=h, k=k, dtype=dtype))


@DTYPES
@pytest.mark.parametrize("d", [16, 48, 64, 80, 96, 128, 256])
def test_heads_may_have_any_multiple_of_16(dtype, d):
    assert_same(random_inputs(70, b=1, d=d, dtype=dtype))


@DTYPES
@pytest.mark.parametrize("lengths", [(1, 2, 1, 3, 60, 7, 26), (150, 150), (299, 1)], ids=str)
def test_documents_do_not_see_each_other_not_even_in_the_gradient(dtype, lengths):
    inputs, starts = random_inputs(sum(lengths), dtype=dtype), starts_of(lengths)
    y = assert_same(inputs, starts)
    begin = 0
    for n in lengths:
        own = slice(begin, begin + n)
        alone = attention_reference(*(m[:, own] for m in inputs))
        assert_close(y[:, own], alone, tolerance_of("attention", dtype).values)
        leaves = [m.clone().requires_grad_() for m in inputs]
        native_attention(*leaves, first_key=starts)[:, own].sum().backward()
        for leaf in leaves:
            assert leaf.grad is not None
            assert not leaf.grad[:, :begin].any()
            assert not leaf.grad[:, begin + n :].any()
        begin += n


@DTYPES
@pytest.mark.parametrize("window", [1, 20, 150])
def test_windows_are_intervals(dtype, window):
    assert_same(random_inputs(200, dtype=dtype), (torch.arange(200) - window + 1).clamp(min=0).expand(2, -1))


@DTYPES
def test_padding_on_the_left_is_not_seen_and_gives_no_nan(dtype):
    inputs = random_inputs(90, b=3, dtype=dtype)
    for tensor in inputs:
        tensor[1, :13] = tensor[2, :77] = 100
    first_key = torch.minimum(torch.arange(90), torch.tensor([0, 13, 77])[:, None])
    y, gradients = values_and_gradients(native_attention, inputs, first_key)
    assert all(m.isfinite().all() for m in (y, *gradients))
    for row, padding in enumerate((0, 13, 77)):
        alone = attention_reference(*(m[row : row + 1, padding:] for m in inputs))
        assert_close(y[row : row + 1, padding:], alone, tolerance_of("attention", dtype).values)


@DTYPES
def test_first_keys_may_go_back_and_forth(dtype):
    slots = torch.arange(211)
    assert_same(random_inputs(211, dtype=dtype), torch.minimum(slots, slots * 37 % 101).expand(2, -1))


@DTYPES
@pytest.mark.parametrize(("t", "s"), [(2, 9), (7, 300), (130, 257)])
@pytest.mark.parametrize("limited", [False, True], ids=["all", "limited"])
def test_fewer_queries_than_keys_are_the_last_positions(dtype, t, s, limited):
    inputs = random_inputs(t, s, dtype=dtype)
    first_key = (torch.arange(s - t, s) * 2 // 3).expand(2, -1) if limited else None
    y = assert_same(inputs, first_key)
    q_all = torch.cat([torch.randn(2, s - t, 4, 32).to(dtype), inputs[0]], dim=1)
    first_all = None if first_key is None else torch.cat([torch.zeros(2, s - t, dtype=torch.int64), first_key], dim=1)
    whole = attention_reference(q_all, *inputs[1:], first_key=first_all)
    assert_close(y, whole[:, -t:], tolerance_of("attention", dtype).values)


@DTYPES
def test_views_of_a_fused_projection_and_of_a_cache_are_read_where_they_are(dtype):
    fused = torch.randn(2, 50, 8 * 32).to(dtype)
    q, k, v = (m.unflatten(-1, (-1, 32)) for m in fused.split([128, 64, 64], dim=-1))
    assert_same([q, k, v])
    cache = torch.randn(2, 2, 2, 99, 32).to(dtype)
    assert_same([q, *(m[:, :, :70].transpose(1, 2) for m in cache)])
    assert_same([m.transpose(1, 3).contiguous().transpose(1, 3) for m in (q, k, v)])


@DTYPES
@pytest.mark.parametrize("threads", [1, 3, 5])
def test_every_number_of_threads_gives_the_definition_and_always_the_same(dtype, threads):
    inputs, before = random_inputs(300, b=1, h=2, k=1, dtype=dtype), torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        assert_same(inputs)
        first, second = (values_and_gradients(native_attention, inputs, None) for _ in range(2))
    finally:
        torch.set_num_threads(before)
    for a, b in zip((first[0], *first[1]), (second[0], *second[1]), strict=True):
        assert torch.equal(a, b)


def test_the_softmax_is_stable_for_large_scores():
    q, k, v = random_inputs(40)
    y, gradients = values_and_gradients(native_attention, (q * 10, k * 10, v), None)
    assert_close(y, attention_reference(q * 10, k * 10, v), tolerance_of("attention").values)
    assert all(m.isfinite().all() for m in gradients)


def test_nothing_that_grows_with_the_square_of_the_length_is_made():
    t = 4096
    inputs = [m.requires_grad_() for m in random_inputs(t, b=1, h=2, k=1, d=16)]
    with TensorSizes() as sizes:
        attention(*inputs, first_key=torch.zeros(1, t, dtype=torch.int64)).sum().backward()
    assert sizes.largest <= 2 * 16 * t


def test_uninitialised_memory_is_never_read():
    with poisoned_memory():
        assert_same(random_inputs(7))
        assert_same(random_inputs(3, 7), torch.tensor([[1, 5, 0], [4, 5, 6]]))


@DTYPES
def test_attention_takes_the_kernel_with_and_without_gradients(dtype):
    inputs = random_inputs(67, dtype=dtype)
    assert loaded_kernel("attention", "cpu", *inputs) is native_attention
    with torch.no_grad():
        y = attention(*inputs)
    assert torch.equal(y, assert_same(inputs))


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"h": 3}, "shapes"),
        ({"d": 24}, "multiple of 16"),
        ({"d": 272}, "up to 256"),
        ({"dtype": torch.float64}, "q is torch.float64"),
        ({"t": 1}, "1 queries and 1 keys"),
        ({"t": 1, "s": 900}, "1 queries and 900 keys"),
        ({"t": 31}, "31 queries and 31 keys"),
        ({"t": 9, "s": 8}, "shapes"),
        ({"t": 0, "s": 8}, "multiple of 16"),
    ],
    ids=lambda value: value if isinstance(value, str) else "-".join(value),
)
def test_refusals_say_why(changed, reason):
    assert reason in refuses(*random_inputs(**{"t": 8, **changed}))


def test_masks_and_biases_go_through_pytorch():
    inputs = random_inputs(20)
    mask = torch.ones(2, 1, 20, 20, dtype=torch.bool)
    positions = torch.arange(20).expand(2, -1)
    bias = alibi_bias(positions, positions, alibi_slopes(4))
    for terms in ({"mask": mask}, {"bias": bias}, {"mask": mask, "bias": bias}):
        assert loaded_kernel("attention", "cpu", *inputs, **terms) is None
        y, expected = attention(*inputs, **terms), attention_reference(*inputs, **terms)
        assert_close(y, expected, tolerance_of("attention").values)
