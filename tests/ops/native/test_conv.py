"""The native convolution with SiLU is its definition: odd lengths, documents, windows, views, exact isolation."""

import pytest
import torch

from mamba_slm.ops.conv import causal_conv_silu, causal_conv_silu_reference
from mamba_slm.ops.kernels import loaded_kernel
from tolerances import assert_close, tolerance_of

every_dtype = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
NAMES = ("x", "weight", "bias")


def random_inputs(t, *, b=2, c=160, taps=4, dtype=torch.float32):
    return torch.randn(b, t, c).to(dtype), torch.randn(c, taps), torch.randn(c)


def ids_of(*lengths, b=2):
    row = torch.cat([torch.full((length,), 5 + i) for i, length in enumerate(lengths)])
    return row.expand(b, -1).contiguous()


def values_and_gradients(function, inputs, **settings):
    leaves = [m.detach().clone().requires_grad_() for m in inputs]
    y = function(*leaves, **settings)
    assert y.dtype == torch.float32
    y.backward(torch.randn(y.shape, generator=torch.Generator().manual_seed(1)))
    return y.detach(), [leaf.grad for leaf in leaves]


def assert_same(inputs, **settings):
    assert loaded_kernel("causal_conv_silu", "cpu", *inputs, **settings) is not None
    y, gradients = values_and_gradients(causal_conv_silu, inputs, **settings)
    y_ref, gradients_ref = values_and_gradients(causal_conv_silu_reference, inputs, **settings)
    assert_close(y, y_ref, tolerance_of("conv").values)
    tolerance = tolerance_of("conv", inputs[0].dtype).gradients
    for name, found, expected in zip(NAMES, gradients, gradients_ref, strict=True):
        assert found.dtype == expected.dtype
        assert_close(found, expected, tolerance, f"gradient of {name}")


@every_dtype
@pytest.mark.parametrize("taps", [2, 4])
@pytest.mark.parametrize("t", [1, 2, 3, 63, 64, 65, 67, 130])
def test_values_and_gradients_are_the_definitions(native_kernels, t, taps, dtype):
    assert_same(random_inputs(t, taps=taps, dtype=dtype))


@every_dtype
@pytest.mark.parametrize("lengths", [(64, 1, 1, 2, 62), (1, 1, 1), (63, 3, 70), (130,)], ids=str)
def test_documents_do_not_read_each_other(native_kernels, lengths, dtype):
    assert_same(random_inputs(sum(lengths), dtype=dtype), document_ids=ids_of(*lengths))


def test_the_gradient_with_respect_to_another_document_is_exactly_zero(native_kernels):
    x, weight, bias = (m.requires_grad_() for m in random_inputs(70))
    y = causal_conv_silu(x, weight, bias, document_ids=ids_of(62, 3, 5))
    (gradient,) = torch.autograd.grad(y[:, 62:65].square().sum(), x)
    assert not gradient[:, :62].any()
    assert not gradient[:, 65:].any()
    assert gradient[:, 62:65].all()


@every_dtype
@pytest.mark.parametrize("t", [1, 2, 70])
def test_a_window_comes_before_the_start(native_kernels, t, dtype):
    x, weight, bias = random_inputs(t, dtype=dtype)
    settings = {"window": torch.randn(2, 3, 160).to(dtype), "document_ids": ids_of(t)}
    with torch.no_grad():
        assert loaded_kernel("causal_conv_silu", "cpu", x, weight, bias, **settings) is not None
        found = causal_conv_silu(x, weight, bias, **settings)
        assert_close(found, causal_conv_silu_reference(x, weight, bias, **settings), tolerance_of("conv").values)
    assert loaded_kernel("causal_conv_silu", "cpu", x, weight, bias, **settings) is None  # it has no gradient


@every_dtype
def test_a_slice_of_the_projection_is_read_where_it_lies(native_kernels, dtype):
    projected, weight, bias = torch.randn(2, 70, 200).to(dtype).requires_grad_(), torch.randn(160, 4), torch.randn(160)
    found, expected = (
        torch.autograd.grad(function(projected[..., 7:167], weight, bias).square().sum(), projected)[0]
        for function in (causal_conv_silu, causal_conv_silu_reference)
    )
    assert_close(found, expected, tolerance_of("conv", dtype).gradients)


def test_other_widths_and_dtypes_go_through_pytorch(native_kernels):
    for x in (torch.randn(1, 5, 24), torch.randn(1, 5, 32).double(), torch.randn(1, 0, 32)):
        weight, bias = torch.randn(x.shape[2], 4), torch.randn(x.shape[2])
        assert loaded_kernel("causal_conv_silu", "cpu", x, weight, bias) is None
