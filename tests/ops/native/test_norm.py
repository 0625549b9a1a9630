"""The native norms are their definitions: values and gradients, in every pair of dtypes, on views and in groups."""

import functools

import pytest
import torch

from mamba_slm.ops.kernels import loaded_kernel
from mamba_slm.ops.norm import gated_rms_norm, gated_rms_norm_reference, rms_norm, rms_norm_reference
from tolerances import assert_close, tolerance_of

EPS = 1e-5
DTYPES = {
    "fp32": (torch.float32, torch.float32),
    "fp32 to bf16": (torch.float32, torch.bfloat16),
    "bf16": (torch.bfloat16, torch.bfloat16),
}
every_dtype = pytest.mark.parametrize(("given", "wanted"), DTYPES.values(), ids=DTYPES)


def assert_same(function, definition, inputs, wanted):
    """Values in the wanted dtype, and the gradients of all inputs in theirs."""
    ours, theirs = ([m.detach().clone().requires_grad_() for m in inputs] for _ in range(2))
    y, y_ref = function(*ours), definition(*theirs)
    assert y.dtype == y_ref.dtype == wanted
    grad = torch.randn(y.shape).to(wanted)
    y.backward(grad)
    y_ref.backward(grad)
    tolerance = tolerance_of("norm", torch.bfloat16 if torch.bfloat16 in (inputs[0].dtype, wanted) else torch.float32)
    assert_close(y, y_ref, tolerance.values)
    for i, (a, b) in enumerate(zip(ours, theirs, strict=True)):
        assert a.grad.dtype == b.grad.dtype
        assert_close(a.grad, b.grad, tolerance.gradients, f"gradient of input {i}")


@every_dtype
@pytest.mark.parametrize("shape", [(1, 16), (3, 5, 48), (67, 512)], ids=str)
def test_rms_norm_is_its_definition(native_kernels, shape, given, wanted):
    x, weight = 3 * torch.randn(shape).to(given), torch.randn(shape[-1])
    assert loaded_kernel("rms_norm", "cpu", x, weight, eps=EPS, dtype=wanted) is not None
    ours, theirs = (functools.partial(way, eps=EPS, dtype=wanted) for way in (rms_norm, rms_norm_reference))
    assert_same(ours, theirs, (x, weight), wanted)


@every_dtype
@pytest.mark.parametrize("num_groups", [1, 3])
def test_the_gated_norm_is_its_definition(native_kernels, num_groups, given, wanted):
    x, gate, weight = 3 * torch.randn(2, 37, 96).to(given), torch.randn(2, 37, 96).to(wanted), torch.randn(96)
    settings = {"eps": EPS, "num_groups": num_groups, "dtype": wanted}
    assert loaded_kernel("gated_rms_norm", "cpu", x, gate, weight, **settings) is not None
    ours, theirs = (functools.partial(way, **settings) for way in (gated_rms_norm, gated_rms_norm_reference))
    assert_same(ours, theirs, (x, gate, weight), wanted)


def test_slices_are_read_where_they_lie(native_kernels):
    projected, weight = torch.randn(2, 9, 100, requires_grad=True), torch.randn(48)
    x, gate = projected[..., 40:88], projected[..., 3:51]
    y = gated_rms_norm(x, gate, weight, eps=EPS)
    assert_close(y, gated_rms_norm_reference(x, gate, weight, eps=EPS), tolerance_of("norm").values)
    assert_close(rms_norm(x, weight, eps=EPS), rms_norm_reference(x, weight, eps=EPS), tolerance_of("norm").values)
    (found,) = torch.autograd.grad(y.square().sum(), projected)
    (expected,) = torch.autograd.grad(gated_rms_norm_reference(x, gate, weight, eps=EPS).square().sum(), projected)
    assert_close(found, expected, tolerance_of("norm").gradients)


def test_without_gradients_the_values_are_the_same(native_kernels):
    x, gate, weight = torch.randn(5, 32, requires_grad=True), torch.randn(5, 32), torch.randn(32)
    with torch.no_grad():
        plain, gated = rms_norm(x, weight, eps=EPS), gated_rms_norm(x, gate, weight, eps=EPS)
    assert not plain.requires_grad
    assert torch.equal(plain, rms_norm(x, weight, eps=EPS))
    assert torch.equal(gated, gated_rms_norm(x, gate, weight, eps=EPS))


def test_other_sizes_and_dtypes_go_through_pytorch(native_kernels):
    for x in (torch.randn(3, 24), torch.randn(3, 32).double(), torch.randn(0, 32)):
        weight = torch.ones(x.shape[-1])
        assert loaded_kernel("rms_norm", "cpu", x, weight, eps=EPS) is None
        assert rms_norm(x, weight, eps=EPS).shape == x.shape
