"""RMSNorm and its gated form are their formulas, in float32 whatever the dtype of the input."""

import pytest
import torch

from conformance.probes import poisoned_memory
from mamba_slm.ops.norm import gated_rms_norm, gated_rms_norm_reference, rms_norm, rms_norm_reference
from tolerances import assert_close, tolerance_of

EPS = 1e-5
every_dtype = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])


def formula(x, weight):
    x = x.double()
    return x / torch.sqrt((x * x).mean(dim=-1, keepdim=True) + EPS) * weight.double()


def gated_formula(x, gate, weight, num_groups=1):
    gated = x.double() * gate.double() / (1 + torch.exp(-gate.double()))
    groups = [formula(part, torch.ones(())) for part in gated.chunk(num_groups, dim=-1)]
    return torch.cat(groups, dim=-1) * weight.double()


def assert_same(function, definition, inputs, dtype):
    """Values in the dtype of the first input, and the gradients of all."""
    ours, theirs = ([m.clone().requires_grad_() for m in inputs] for _ in range(2))
    y, y_ref = function(*ours), definition(*theirs)
    assert y.dtype == dtype
    weights = torch.randn(y.shape)
    (y.float() * weights).sum().backward()
    (y_ref * weights).sum().backward()
    tolerance = tolerance_of("norm", dtype)
    assert_close(y, y_ref, tolerance.values)
    for i, (a, b) in enumerate(zip(ours, theirs, strict=True)):
        assert_close(a.grad, b.grad, tolerance.gradients, f"gradient of input {i}")


@every_dtype
@pytest.mark.parametrize("norm", [rms_norm, rms_norm_reference])
@pytest.mark.parametrize("shape", [(3, 8), (2, 5, 48), (1, 1, 4)])
def test_rms_norm_is_its_formula(shape, norm, dtype):
    x, weight = torch.randn(shape).mul(3).to(dtype), torch.randn(shape[-1])
    assert_same(lambda *m: norm(*m, eps=EPS), formula, (x, weight), dtype)


@every_dtype
@pytest.mark.parametrize("norm", [gated_rms_norm, gated_rms_norm_reference])
@pytest.mark.parametrize("num_groups", [1, 2, 4])
def test_gated_norm_gates_first_and_norms_each_group(num_groups, norm, dtype):
    x, gate, weight = torch.randn(2, 7, 16).to(dtype), torch.randn(2, 7, 16).to(dtype), torch.randn(16)
    assert_same(
        lambda *m: norm(*m, eps=EPS, num_groups=num_groups),
        lambda *m: gated_formula(*m, num_groups=num_groups),
        (x, gate, weight),
        dtype,
    )


def test_the_gate_may_have_another_dtype():
    x, gate, weight = torch.randn(2, 7, 16), torch.randn(2, 7, 16).bfloat16(), torch.randn(16)
    y = gated_rms_norm(x, gate, weight, eps=EPS)
    assert y.dtype == torch.float32
    assert_close(y, gated_formula(x, gate, weight), tolerance_of("norm").values)


def test_the_weight_is_multiplied_before_the_result_is_rounded():
    x, weight = torch.randn(40, 64).bfloat16(), torch.randn(64)
    expected, early = formula(x, weight).bfloat16(), formula(x, torch.ones(64)).bfloat16() * weight.bfloat16()
    found = rms_norm(x, weight, eps=EPS)
    assert (found != expected).sum() <= 3  # which of two neighbours a sum of float32 comes to lie nearer to
    assert (found != early).float().mean() > 0.2


def test_zeros_stay_zeros_with_finite_gradients():
    x, weight = torch.zeros(2, 8, requires_grad=True), torch.ones(8)
    y = rms_norm(x, weight, eps=EPS)
    y.sum().backward()
    assert not y.any()
    assert x.grad is not None and x.grad.isfinite().all()


def test_a_view_is_no_exception():
    wide, weight = torch.randn(2, 5, 32), torch.randn(16)
    view, gate = wide[..., :16], wide[..., 16:]
    assert_close(rms_norm(view, weight, eps=EPS), formula(view, weight), tolerance_of("norm").values)
    expected = gated_formula(view, gate, weight)
    assert_close(gated_rms_norm(view, gate, weight, eps=EPS), expected, tolerance_of("norm").values)


def test_uninitialised_memory_is_never_read():
    with poisoned_memory():
        inputs = torch.randn(2, 7, 16), torch.randn(2, 7, 16), torch.randn(16)
        assert_same(lambda *m: gated_rms_norm(*m, eps=EPS), gated_formula, inputs, torch.float32)
        assert_same(lambda *m: rms_norm(*m, eps=EPS), formula, inputs[::2], torch.float32)


def test_only_the_inputs_that_need_a_gradient_get_one():
    x, gate, weight = torch.randn(2, 16), torch.randn(2, 16), torch.randn(16, requires_grad=True)
    gated_rms_norm(x, gate, weight, eps=EPS).sum().backward()
    other = weight.detach().clone().requires_grad_()
    gated_formula(x, gate, other).sum().backward()
    assert weight.grad is not None and other.grad is not None
    assert_close(weight.grad, other.grad, tolerance_of("norm").gradients)
    assert x.grad is None


@pytest.mark.parametrize("norm", [rms_norm, gated_rms_norm])
def test_autocast_does_not_touch_the_norms(norm):
    inputs = (torch.randn(2, 7, 16), torch.randn(2, 7, 16), torch.randn(16))
    inputs = inputs[::2] if norm is rms_norm else inputs
    expected = norm(*inputs, eps=EPS)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(norm(*inputs, eps=EPS), expected)
