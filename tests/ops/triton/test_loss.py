"""The softmax's kernel gives every token's loss, and the gradient in the place of the logits."""

import pytest
import torch

from mamba_slm.ops.loss import cross_entropy, cross_entropy_reference, token_losses_reference
from tolerances import assert_close, tolerance_of


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize(("rows", "vocabulary"), [(1, 1), (3, 100), (2, 9000)])
@pytest.mark.parametrize("needs_grad", [True, False])
def test_losses_and_gradients_are_those_of_the_definition(device, dtype, rows, vocabulary, needs_grad):
    from mamba_slm.ops.triton.loss import token_losses as kernel

    logits = (6 * torch.randn(rows, vocabulary, device=device)).to(dtype)
    targets = torch.randint(vocabulary, (rows, 1), device=device)
    results = []
    for function in (token_losses_reference, kernel):
        gradient, losses = logits.clone(), torch.empty(rows, 1, device=device)
        function(gradient, targets, losses, needs_grad)
        results.append((losses, gradient))
    tolerance = tolerance_of("loss", dtype)
    assert_close(results[1][0], results[0][0], tolerance_of("loss").values)
    assert_close(results[1][1], results[0][1], tolerance.gradients)
    assert needs_grad or torch.equal(results[1][1], logits)


def test_logits_far_apart_stay_finite(device):
    from mamba_slm.ops.triton.loss import token_losses as kernel

    logits = torch.full((2, 10), -1e4, device=device)
    logits[:, 3] = 1e4
    losses = torch.empty(2, 1, device=device)
    kernel(logits, torch.tensor([[3], [4]], device=device), losses, True)
    assert losses.flatten().tolist() == [0.0, 2e4]
    assert logits[0].tolist() == [0.0] * 10
    assert logits[1].tolist() == [0.0, 0.0, 0.0, 1.0, -1.0, *[0.0] * 5]


def test_the_head_takes_the_installed_kernel_for_every_chunk(device, installed):
    installed("loss")
    hidden, weight = torch.randn(7, 8, device=device), torch.randn(50, 8, device=device)
    targets = torch.tensor([1, 2, -100, 4, 5, 49, 0], device=device)
    results = []
    for function in (cross_entropy_reference, lambda *args: cross_entropy(*args, chunk_tokens=3)):
        leaves = [hidden.clone().requires_grad_(), weight.clone().requires_grad_()]
        loss = function(*leaves, targets)
        loss.backward()
        results.append([loss.detach(), *(leaf.grad for leaf in leaves)])
    for expected, found in zip(*results, strict=True):
        assert_close(found, expected, tolerance_of("loss").gradients)
