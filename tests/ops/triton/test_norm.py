"""The kernels of both norms are the norms, whatever lies between their rows."""

import functools

import pytest
import torch

from mamba_slm.ops.norm import gated_rms_norm, gated_rms_norm_reference, rms_norm, rms_norm_reference
from tolerances import assert_close, tolerance_of

DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])


def assert_same(definition, kernel, dtype, *inputs):
    results = []
    for function in (definition, kernel):
        leaves = [m.detach().clone().requires_grad_() for m in inputs]
        y = function(*leaves)
        generator = torch.Generator().manual_seed(1)
        y.backward(torch.randn(y.shape, generator=generator).to(y.device, y.dtype))
        results.append((y.detach(), [leaf.grad for leaf in leaves]))
    tolerance = tolerance_of("norm", dtype)
    assert results[0][0].dtype == results[1][0].dtype
    assert_close(results[1][0], results[0][0], tolerance.values)
    for expected, found in zip(results[0][1], results[1][1], strict=True):
        assert found.dtype == expected.dtype
        assert_close(found, expected, tolerance.gradients)


@DTYPES
@pytest.mark.parametrize("shape", [(1, 3), (2, 3, 40), (5, 1100)], ids=str)
def test_the_norm_is_the_definition(device, dtype, shape):
    from mamba_slm.ops.triton.norm import rms_norm as kernel

    x, weight = torch.randn(shape, device=device).to(dtype), torch.rand(shape[-1], device=device)
    definition = functools.partial(rms_norm_reference, eps=1e-5)
    assert_same(definition, functools.partial(kernel, eps=1e-5), dtype, x, weight)


@DTYPES
@pytest.mark.parametrize(("channels", "groups"), [(40, 1), (40, 2), (60, 3)])
def test_the_gated_norm_is_the_definition_in_every_group(device, dtype, channels, groups):
    from mamba_slm.ops.triton.norm import gated_rms_norm as kernel

    x, gate = (torch.randn(2, 3, channels, device=device).to(dtype) for _ in range(2))
    weight = torch.rand(channels, device=device)
    settings = {"eps": 1e-5, "num_groups": groups}
    definition = functools.partial(gated_rms_norm_reference, **settings)
    assert_same(definition, functools.partial(kernel, **settings), dtype, x, gate, weight)


def test_the_result_may_be_narrower_than_the_input(device):
    from mamba_slm.ops.triton.norm import gated_rms_norm as gated
    from mamba_slm.ops.triton.norm import rms_norm as plain

    x, weight = torch.randn(4, 24, device=device), torch.rand(24, device=device)
    gate = torch.randn(4, 24, device=device).bfloat16()
    to = torch.bfloat16
    allowed = tolerance_of("norm", to).values
    y = plain(x, weight, eps=1e-5, dtype=to)
    assert y.dtype == to
    assert_close(y, rms_norm_reference(x, weight, eps=1e-5).to(to), allowed)
    y = gated(x, gate, weight, eps=1e-5, dtype=to)
    assert y.dtype == to
    assert_close(y, gated_rms_norm_reference(x, gate, weight, eps=1e-5).to(to), allowed)


def test_a_gate_may_be_a_part_of_a_wider_projection(device):
    from mamba_slm.ops.triton.norm import gated_rms_norm as kernel

    wide, weight = torch.randn(2, 3, 100, device=device), torch.rand(40, device=device)
    gate, x = wide[..., :40], wide[..., 50:90]
    expected = gated_rms_norm_reference(x, gate, weight, eps=1e-5)
    assert_close(kernel(x, gate, weight, eps=1e-5), expected, tolerance_of("norm").values)


def test_many_rows_are_shared_by_the_programs_of_the_backward_pass(device, monkeypatch):
    from mamba_slm.ops.triton import norm

    monkeypatch.setattr(norm, "BACKWARD_PROGRAMS", 3)
    x, weight = torch.randn(10, 8, device=device), torch.rand(8, device=device)
    definition = functools.partial(rms_norm_reference, eps=1e-5)
    assert_same(definition, functools.partial(norm.rms_norm, eps=1e-5), torch.float32, x, weight)


def test_what_does_not_fit_is_refused_by_name(device):
    from mamba_slm.ops.triton import norm

    x, weight = torch.ones(2, norm.LARGEST_GROUP + 1), torch.ones(norm.LARGEST_GROUP + 1)
    assert "is larger than" in (norm.refuses_norm(x, weight, eps=1e-5) or "")
    assert "float64" in (norm.refuses_norm(x[:, :8].double(), weight[:8], eps=1e-5) or "")
    assert "gate is empty" in (norm.refuses_gated(x[:, :8], x[:0, :8], weight[:8], eps=1e-5) or "")


def test_both_operations_take_the_installed_kernels(device, installed):
    installed("norm")
    x, weight = torch.randn(3, 8, device=device, requires_grad=True), torch.rand(8, device=device)
    for y in (rms_norm(x, weight, eps=1e-5), gated_rms_norm(x, x, weight, eps=1e-5)):
        assert y.grad_fn.name() == "NormFunctionBackward"
