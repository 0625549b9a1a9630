"""The convolution's kernel is the convolution with SiLU: windows, documents, odd sizes, all gradients."""

import pytest
import torch

from mamba_slm.ops.conv import causal_conv_silu, causal_conv_silu_reference
from tolerances import assert_close, tolerance_of


def assert_same(device, *, b=1, t=40, c=10, taps=4, dtype=torch.float32, window=False, document_ids=None):
    from mamba_slm.ops.triton.conv import causal_conv_silu as kernel

    generator = torch.Generator().manual_seed(0)

    def normal(*shape):
        return torch.randn(shape, generator=generator).to(device)

    inputs = [normal(b, t, c).to(dtype), normal(c, taps), normal(c)]
    if window:
        inputs.append(normal(b, taps - 1, c).to(dtype))
    grad, ids = normal(b, t, c), None if document_ids is None else document_ids.to(device)
    results = []
    for function in (causal_conv_silu_reference, kernel):
        leaves = [m.clone().requires_grad_() for m in inputs]
        y = function(*leaves[:3], window=leaves[3] if window else None, document_ids=ids)
        y.backward(grad)
        results.append((y.detach(), [leaf.grad for leaf in leaves]))
    tolerance = tolerance_of("conv", dtype)
    assert results[1][0].dtype == torch.float32
    assert_close(results[1][0], results[0][0], tolerance_of("conv").values)
    for expected, found in zip(results[0][1], results[1][1], strict=True):
        assert found.dtype == expected.dtype
        assert_close(found, expected, tolerance.gradients)


@pytest.mark.parametrize(("t", "c"), [(1, 1), (31, 10), (66, 70)])
def test_values_and_gradients_are_those_of_the_definition(device, t, c):
    assert_same(device, t=t, c=c)


@pytest.mark.parametrize("taps", [1, 2, 5])
def test_any_number_of_taps_will_do(device, taps):
    assert_same(device, taps=taps, t=34)


@pytest.mark.parametrize("t", [1, 2, 40])
def test_a_window_stands_before_the_first_input(device, t):
    assert_same(device, t=t, window=True)


@pytest.mark.parametrize("window", [False, True], ids=["fresh", "continuing"])
def test_taps_do_not_reach_into_another_document(device, window):
    ids = torch.tensor([[5] * 2 + [1] * 30 + [2] + [3] * 7, [0] * 31 + [4] * 9])
    assert_same(device, b=2, document_ids=ids, window=window)


def test_a_document_has_exactly_no_gradient_from_another(device):
    from mamba_slm.ops.triton.conv import causal_conv_silu as kernel

    x = torch.randn(1, 40, 6, device=device, requires_grad=True)
    ids = (torch.arange(40, device=device) >= 33).long()[None]
    y = kernel(x, torch.randn(6, 4, device=device), torch.randn(6, device=device), document_ids=ids)
    y[:, 33:].square().sum().backward()
    assert not x.grad[:, :33].any() and x.grad[:, 33:].all()


def test_bf16_inputs_are_summed_in_float32(device):
    assert_same(device, dtype=torch.bfloat16, window=True)


def test_the_result_may_be_rounded_and_the_input_a_part_of_a_projection(device):
    from mamba_slm.ops.triton.conv import causal_conv_silu as kernel

    wide = torch.randn(2, 20, 50, device=device)
    x, weight, bias = wide[..., 7:37], torch.randn(30, 4, device=device), torch.randn(30, device=device)
    expected = causal_conv_silu_reference(x, weight, bias)
    assert_close(kernel(x, weight, bias), expected, tolerance_of("conv").values)
    rounded = kernel(x, weight, bias, dtype=torch.bfloat16)
    assert rounded.dtype == torch.bfloat16
    assert_close(rounded, expected.bfloat16(), tolerance_of("conv", torch.bfloat16).values)


def test_what_does_not_fit_is_refused_by_name(device):
    from mamba_slm.ops.triton.conv import refuses

    x, weight, bias = torch.ones(1, 2, 3), torch.ones(3, 9), torch.ones(3)
    assert "9 taps" in (refuses(x, weight, bias) or "")
    assert "float64" in (refuses(x.double(), weight[:, :4], bias) or "")
    assert refuses(x, weight[:, :4], bias) is None


def test_the_operation_takes_the_installed_kernel(device, installed):
    installed("conv")
    x = torch.randn(1, 3, 8, device=device, requires_grad=True)
    y = causal_conv_silu(x, torch.randn(8, 4, device=device), torch.randn(8, device=device))
    assert y.grad_fn.name() == "ConvSiLUFunctionBackward"
