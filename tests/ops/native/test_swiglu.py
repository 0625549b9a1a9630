import pytest
import torch

from mamba_slm.ops.kernels import loaded_kernel
from mamba_slm.ops.swiglu import swiglu, swiglu_reference
from tolerances import assert_close, tolerance_of


def values_and_gradient(function, x, grad):
    leaf = x.clone().requires_grad_()
    y = function(leaf)
    (found,) = torch.autograd.grad(y, leaf, grad)
    return y.detach(), found


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
@pytest.mark.parametrize("shape", [(1, 32), (3, 5, 96)], ids=str)
def test_values_and_gradients_are_the_definitions(native_kernels, dtype, shape):
    torch.manual_seed(0)
    x, grad = 4 * torch.randn(shape).to(dtype), torch.randn(*shape[:-1], shape[-1] // 2).to(dtype)
    assert loaded_kernel("swiglu", "cpu", x) is not None
    values, gradient = values_and_gradient(swiglu, x, grad)
    expected_values, expected_gradient = values_and_gradient(swiglu_reference, x, grad)
    assert_close(values, expected_values, tolerance_of("swiglu", dtype).values)
    assert_close(gradient, expected_gradient, tolerance_of("swiglu", dtype).gradients, "gradient")


def test_large_gates_neither_overflow_nor_lose_their_sign(native_kernels):
    gates = torch.tensor([-1e30, -100.0, -88.0, 0.0, 88.0, 100.0, 1e30, 1.0]).repeat(2)
    x = torch.cat([gates, torch.ones(16)])[None]
    assert_close(swiglu(x), swiglu_reference(x), tolerance_of("swiglu").values)


def test_a_view_of_other_memory_gives_the_same(native_kernels):
    x = torch.randn(64, 3).t()
    assert_close(swiglu(x[:, :32]), swiglu_reference(x[:, :32]), tolerance_of("swiglu").values)


@pytest.mark.parametrize(
    "x", [torch.ones(2, 30), torch.ones(2, 32, dtype=torch.float64), torch.ones(0, 32)], ids=["width", "dtype", "empty"]
)
def test_what_the_kernel_refuses_goes_through_pytorch(native_kernels, x):
    assert loaded_kernel("swiglu", "cpu", x) is None
    assert swiglu(x.clone()).shape == (x.shape[0], x.shape[1] // 2)
