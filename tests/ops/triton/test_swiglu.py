"""The gate's kernel is the gate."""

import pytest
import torch

from mamba_slm.ops.swiglu import swiglu, swiglu_reference
from tolerances import assert_close, tolerance_of


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("shape", [(1, 2), (2, 5, 46), (3, 2200)], ids=str)
def test_values_and_gradients_are_those_of_the_definition(device, dtype, shape):
    from mamba_slm.ops.triton.swiglu import swiglu as kernel

    x = torch.randn(shape, device=device).to(dtype)
    grad = torch.randn(*shape[:-1], shape[-1] // 2, device=device).to(dtype)
    results = []
    for function in (swiglu_reference, kernel):
        leaf = x.clone().requires_grad_()
        y = function(leaf)
        y.backward(grad)
        results.append((y.detach(), leaf.grad))
    tolerance = tolerance_of("swiglu", dtype)
    assert results[1][0].dtype == dtype
    assert_close(results[1][0], results[0][0], tolerance.values)
    assert_close(results[1][1], results[0][1], tolerance.gradients)


def test_the_largest_and_smallest_gates_stay_finite(device):
    from mamba_slm.ops.triton.swiglu import swiglu as kernel

    x = torch.tensor([[-1e4, 1e4, -3e38, 3.0, 2.0, 0.0]], device=device)
    assert_close(kernel(x), swiglu_reference(x), tolerance_of("swiglu").values)


def test_the_operation_takes_the_installed_kernel(device, installed):
    installed("swiglu")
    x = torch.randn(3, 8, device=device, requires_grad=True)
    assert swiglu(x).grad_fn.name() == "SwiGLUFunctionBackward"
    assert swiglu(x.double()).grad_fn.name() != "SwiGLUFunctionBackward"
