"""The native softmax of the loss is the definition: any vocabulary, extreme logits, gradients in place."""

import pytest
import torch

from mamba_slm.ops.kernels import loaded_kernel, without_kernels
from mamba_slm.ops.loss import add_product, cross_entropy, cross_entropy_reference, token_losses, token_losses_reference
from tolerances import assert_close, tolerance_of

every_dtype = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])


def results(function, logits, targets, needs_grad=True):
    gradient, losses = logits.clone(), torch.empty(len(logits), 1)
    function(gradient, targets, losses, needs_grad)
    return losses, gradient


@every_dtype
@pytest.mark.parametrize("v", [1, 15, 16, 17, 1003])
def test_losses_and_gradients_are_the_definitions(native_kernels, v, dtype):
    logits, targets = 9 * torch.randn(13, v).to(dtype), torch.randint(0, v, (13, 1))
    assert loaded_kernel("token_losses", "cpu", logits, targets, torch.empty(13, 1), True) is not None
    losses, gradient = results(token_losses, logits, targets)
    expected_losses, expected_gradient = results(token_losses_reference, logits, targets)
    assert_close(losses, expected_losses, tolerance_of("loss").values, "losses")
    assert_close(gradient, expected_gradient, tolerance_of("loss", dtype).gradients, "gradients")


def test_without_gradients_the_logits_stay_as_they_are(native_kernels):
    logits, targets = torch.randn(5, 33), torch.randint(0, 33, (5, 1))
    losses, after = results(token_losses, logits, targets, needs_grad=False)
    assert torch.equal(after, logits)
    assert torch.equal(losses, results(token_losses, logits, targets)[0])


def test_extreme_logits_neither_overflow_nor_hide_a_broken_one(native_kernels):
    logits, targets = torch.zeros(4, 20), torch.zeros(4, 1, dtype=torch.int64)
    logits[0, 0], logits[1, 3], logits[2, 5] = 1e30, 1e30, -torch.inf
    losses, gradient = results(token_losses, logits, targets)
    expected_losses, expected_gradient = results(token_losses_reference, logits, targets)
    assert_close(losses, expected_losses, tolerance_of("loss").values)
    assert_close(gradient, expected_gradient, tolerance_of("loss").gradients)
    logits[3, 7] = torch.nan
    assert results(token_losses, logits, targets)[0][3].isnan()


@pytest.mark.parametrize("overwrite", [False, True])
def test_products_are_summed_to_the_same_bits(native_kernels, overwrite):
    total, left, right = torch.randn(2500, 16), torch.randn(2500, 6).bfloat16(), torch.randn(6, 16).bfloat16()
    expected = (0 if overwrite else total) + (left @ right).float()
    assert loaded_kernel("accumulate", "cpu", total, left @ right, overwrite=overwrite) is not None
    add_product(total, left, right, overwrite=overwrite)
    assert torch.equal(total, expected)


@every_dtype
def test_the_whole_loss_is_the_definition_with_rows_left_out(native_kernels, dtype):
    hidden, weight, targets = torch.randn(37, 16).to(dtype), torch.randn(50, 16).to(dtype), torch.randint(0, 50, (37,))
    targets[::5] = -100
    found, expected = [], []
    for function, into in ((cross_entropy, found), (cross_entropy_reference, expected)):
        h, w = hidden.clone().requires_grad_(), weight.clone().requires_grad_()
        loss = function(h, w, targets)
        into.extend([loss.detach(), *torch.autograd.grad(loss, (h, w))])
    tolerance = tolerance_of("loss", dtype)
    assert_close(found[0], expected[0], tolerance.values)
    for a, b in zip(found[1:], expected[1:], strict=True):
        assert_close(a, b, tolerance.gradients)
    with without_kernels():
        assert loaded_kernel("token_losses", "cpu", hidden, targets, targets, True) is None
