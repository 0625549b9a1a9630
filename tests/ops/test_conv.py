"""The fast convolution is the tap-by-tap sum: values, gradients, window, documents, sequences shorter than the taps."""

import pytest
import torch

from conformance.probes import poisoned_memory
from mamba_slm.core.errors import ShapeError
from mamba_slm.ops.conv import causal_conv, causal_conv_reference, causal_conv_step
from tolerances import assert_close, tolerance_of

CONVOLUTIONS = [causal_conv, causal_conv_reference]
NAMES = ("x", "weight", "bias", "window")


def random_inputs(t, *, b=2, c=6, taps=4, dtype=torch.float32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    sizes = ((b, t, c), (c, taps), (c,), (b, taps - 1, c))
    x, weight, bias, window = (torch.randn(size, generator=generator) for size in sizes)
    return x.to(dtype), weight, bias, window.to(dtype)


def outputs_and_gradients(convolution, inputs, *, with_window, document_ids=None):
    leaves = [m.detach().clone().requires_grad_() for m in inputs]
    x, weight, bias, window = leaves
    y = convolution(x, weight, bias, window=window if with_window else None, document_ids=document_ids)
    generator = torch.Generator().manual_seed(9)
    (y.float() * torch.randn(y.shape, generator=generator)).sum().backward()
    return y.detach(), [leaf.grad for leaf in (leaves if with_window else leaves[:3])]


def assert_same(inputs, **settings):
    y, gradients = outputs_and_gradients(causal_conv, inputs, **settings)
    y_ref, gradients_ref = outputs_and_gradients(causal_conv_reference, inputs, **settings)
    tolerance = tolerance_of("conv", inputs[0].dtype)
    assert y.dtype == inputs[0].dtype
    assert_close(y, y_ref, tolerance.values, "y")
    for name, gradient, gradient_ref in zip(NAMES, gradients, gradients_ref, strict=False):
        assert_close(gradient, gradient_ref, tolerance.gradients, f"gradient of {name}")


def ids_of(*lengths, b=2):
    row = torch.cat([torch.full((length,), 5 + i) for i, length in enumerate(lengths)])
    return row.expand(b, -1).contiguous()


DOCUMENTS = {
    "long": (9, 8),
    "of one token": (1, 1, 1, 1, 1),
    "shorter than the taps": (2, 1, 3, 2, 1),
    "ending with one token": (7, 1),
    "beginning with one token": (1, 7),
    "only one": (6,),
}


@pytest.mark.parametrize("with_window", [False, True], ids=["fresh", "window"])
@pytest.mark.parametrize("taps", [2, 3, 4])
@pytest.mark.parametrize("t", [1, 2, 3, 4, 17])
def test_values_and_gradients_are_those_of_the_definition(t, taps, with_window):
    assert_same(random_inputs(t, taps=taps), with_window=with_window)


@pytest.mark.parametrize("with_window", [False, True], ids=["fresh", "window"])
@pytest.mark.parametrize("lengths", DOCUMENTS.values(), ids=DOCUMENTS)
def test_taps_stop_at_document_boundaries(lengths, with_window):
    assert_same(random_inputs(sum(lengths)), with_window=with_window, document_ids=ids_of(*lengths))


def test_rows_of_a_batch_have_their_own_boundaries():
    ids = torch.tensor([[0, 0, 0, 1, 1, 1, 1, 1], [3, 4, 4, 4, 4, 4, 5, 6], [2] * 8])
    assert_same(random_inputs(8, b=3), with_window=False, document_ids=ids)


@pytest.mark.parametrize("convolution", CONVOLUTIONS)
@pytest.mark.parametrize("lengths", DOCUMENTS.values(), ids=DOCUMENTS)
def test_packed_documents_are_separate_documents(convolution, lengths):
    x, weight, bias, _ = random_inputs(sum(lengths))
    packed = convolution(x, weight, bias, document_ids=ids_of(*lengths))
    separate = torch.cat([causal_conv_reference(piece, weight, bias) for piece in x.split(lengths, dim=1)], dim=1)
    assert_close(packed, separate, tolerance_of("conv").values)


@pytest.mark.parametrize("convolution", CONVOLUTIONS)
@pytest.mark.parametrize("lengths", DOCUMENTS.values(), ids=DOCUMENTS)
def test_a_document_has_exactly_no_gradient_from_another(convolution, lengths):
    x, weight, bias, _ = random_inputs(sum(lengths))
    start = 0
    for length in lengths:
        leaf = x.clone().requires_grad_()
        y = convolution(leaf, weight, bias, document_ids=ids_of(*lengths))
        (y[:, start : start + length] * torch.randn(2, length, 6)).sum().backward()
        assert not leaf.grad[:, :start].any()
        assert not leaf.grad[:, start + length :].any()
        start += length


@pytest.mark.parametrize("convolution", CONVOLUTIONS)
def test_a_huge_value_does_not_reach_the_next_document(convolution):
    x, weight, bias, _ = random_inputs(8)
    x[:, 3] = 1e30
    y = convolution(x, weight, bias, document_ids=ids_of(4, 4))
    assert_close(y[:, 4:], causal_conv_reference(x[:, 4:], weight, bias), tolerance_of("conv").values)


@pytest.mark.parametrize("convolution", CONVOLUTIONS)
@pytest.mark.parametrize("cut", [1, 2, 3, 9])
def test_a_sequence_may_be_cut_anywhere(convolution, cut):
    x, weight, bias, window = random_inputs(10)
    whole = convolution(x, weight, bias, window=window)
    first = convolution(x[:, :cut], weight, bias, window=window)
    middle = torch.cat([window, x[:, :cut]], dim=1)[:, -3:]
    second = convolution(x[:, cut:], weight, bias, window=middle)
    assert_close(torch.cat([first, second], dim=1), whole, tolerance_of("conv").values)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_step_is_a_convolution_of_one_token(dtype):
    x, weight, bias, window = random_inputs(1, dtype=dtype)
    y = causal_conv_step(x[:, 0], weight, bias, window=window)
    assert y.dtype == dtype
    expected = causal_conv_reference(x, weight, bias, window=window)[:, 0]
    assert_close(y, expected, tolerance_of("conv", dtype).values)


@pytest.mark.parametrize("with_window", [False, True], ids=["fresh", "window"])
def test_bf16_inputs_lose_nothing_but_the_last_rounding(with_window):
    assert_same(random_inputs(33, dtype=torch.bfloat16), with_window=with_window, document_ids=ids_of(20, 13))


def test_autocast_does_not_touch_the_convolution():
    x, weight, bias, _ = random_inputs(20)
    plain = causal_conv(x, weight, bias)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(causal_conv(x, weight, bias), plain)


def test_the_input_may_be_a_view():
    wide = torch.randn(2, 20, 10)
    _, weight, bias, _ = random_inputs(20)
    view = wide[..., 2:8]
    assert not view.is_contiguous()
    expected = causal_conv_reference(view.contiguous(), weight, bias)
    assert_close(causal_conv(view, weight, bias), expected, tolerance_of("conv").values)


@pytest.mark.parametrize("t", [1, 2, 17])
def test_uninitialised_memory_is_never_read(t):
    with poisoned_memory():
        assert_same(random_inputs(t), with_window=True)
        assert_same(random_inputs(t), with_window=False, document_ids=ids_of(t // 2, t - t // 2))


@pytest.mark.parametrize("convolution", CONVOLUTIONS)
def test_disagreeing_shapes_are_named(convolution):
    x, weight, bias, _ = random_inputs(5)
    with pytest.raises(ShapeError, match=r"bias \[c\] has c=5, but x has c=6"):
        convolution(x, weight, bias[:5])
