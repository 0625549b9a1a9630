"""The chunked cross-entropy is the plain one, without its memory."""

import math

import pytest
import torch

from conformance.probes import TensorSizes, poisoned_memory
from mamba_slm.core.errors import ShapeError
from mamba_slm.ops.loss import IGNORE_INDEX, add_product, cross_entropy, cross_entropy_reference, rows_at_once
from tolerances import assert_close, tolerance_of

M, D, V = 37, 8, 50


def random_inputs(m=M, *, ignored=0, dtype=torch.float32):
    hidden, weight, targets = torch.randn(m, D).to(dtype), torch.randn(V, D).to(dtype), torch.randint(0, V, (m,))
    targets[torch.randperm(m)[:ignored]] = IGNORE_INDEX
    return hidden, weight, targets


def loss_and_gradients(function, hidden, weight, targets, **settings):
    hidden, weight = hidden.clone().requires_grad_(), weight.clone().requires_grad_()
    loss = function(hidden, weight, targets, **settings)
    (loss * 0.37).backward()
    return loss.detach(), hidden.grad, weight.grad


def assert_same(inputs, **settings):
    ours = loss_and_gradients(cross_entropy, *inputs, **settings)
    theirs = loss_and_gradients(cross_entropy_reference, *inputs)
    tolerance = tolerance_of("loss", inputs[0].dtype)
    assert ours[0].dtype == torch.float32
    assert_close(ours[0], theirs[0], tolerance.values, "loss")
    assert ours[1].dtype == inputs[0].dtype
    assert_close(ours[1], theirs[1], tolerance.gradients, "gradient of hidden")
    assert_close(ours[2], theirs[2], tolerance.gradients, "gradient of weight")


@pytest.mark.parametrize("chunk_tokens", [1, 7, 36, 37, 38, 1024])
@pytest.mark.parametrize("ignored", [0, 5])
def test_values_and_gradients_are_those_of_the_definition(chunk_tokens, ignored):
    assert_same(random_inputs(ignored=ignored), chunk_tokens=chunk_tokens)


def test_one_token_is_enough():
    assert_same(random_inputs(1))


def test_where_nothing_counts_the_loss_and_all_gradients_are_zero():
    loss, grad_hidden, grad_weight = loss_and_gradients(cross_entropy, *random_inputs(ignored=M))
    assert loss == 0
    assert not grad_hidden.any()
    assert not grad_weight.any()


def test_ignored_tokens_have_exactly_no_gradient():
    hidden, weight, targets = random_inputs(ignored=9)
    _, gradient, _ = loss_and_gradients(cross_entropy, hidden, weight, targets, chunk_tokens=4)
    ignored = targets == IGNORE_INDEX
    assert not gradient[ignored].any()
    assert gradient[~ignored].any(dim=1).all()


def test_equal_logits_cost_the_logarithm_of_the_vocabulary():
    loss = cross_entropy(torch.zeros(5, D), torch.randn(V, D), torch.arange(5))
    assert loss.item() == pytest.approx(5 * math.log(V))


def test_large_logits_neither_overflow_nor_vanish():
    hidden, weight, targets = random_inputs()
    inputs = (hidden * 1000, weight * 10, targets)
    loss, *gradients = loss_and_gradients(cross_entropy, *inputs, chunk_tokens=8)
    assert_close(loss, cross_entropy_reference(*inputs), tolerance_of("loss").values)
    assert all(gradient.isfinite().all() for gradient in gradients)


def test_bf16_stays_within_its_rounding():
    assert_same(random_inputs(ignored=4, dtype=torch.bfloat16), chunk_tokens=8)


def test_under_bf16_autocast_the_loss_and_gradients_are_float32_and_close():
    inputs = random_inputs(ignored=4)
    expected = loss_and_gradients(cross_entropy_reference, *inputs)

    def under_autocast(*args, **settings):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return cross_entropy(*args, **settings)

    found = loss_and_gradients(under_autocast, *inputs, chunk_tokens=8)
    tolerance = tolerance_of("loss", torch.bfloat16)
    assert_close(found[0], expected[0], tolerance.values, "loss")
    for a, b in zip(found[1:], expected[1:], strict=True):
        assert a.dtype == torch.float32
        assert_close(a, b, tolerance.gradients)


@pytest.mark.parametrize("frozen", ["hidden", "weight"])
def test_one_of_the_two_may_be_frozen(frozen):
    hidden, weight, targets = random_inputs()
    leaves = {"hidden": hidden.clone(), "weight": weight.clone()}
    trained = leaves[{"hidden": "weight", "weight": "hidden"}[frozen]].requires_grad_()
    cross_entropy(leaves["hidden"], leaves["weight"], targets, chunk_tokens=8).backward()
    _, *gradients = loss_and_gradients(cross_entropy_reference, hidden, weight, targets)
    expected = dict(zip(("hidden", "weight"), gradients, strict=True))
    name = "weight" if frozen == "hidden" else "hidden"
    assert_close(trained.grad * 0.37, expected[name], tolerance_of("loss").gradients)
    assert leaves[frozen].grad is None


@pytest.mark.parametrize("chunk_tokens", [16, 64])
def test_the_logits_of_all_tokens_never_exist(chunk_tokens):
    m, d, v = 256, 4, 512
    hidden, weight = torch.randn(m, d, requires_grad=True), torch.randn(v, d, requires_grad=True)
    with TensorSizes() as sizes:
        cross_entropy(hidden, weight, torch.randint(0, v, (m,)), chunk_tokens=chunk_tokens).backward()
    assert sizes.largest <= max(chunk_tokens * v, v * d)


def test_a_kept_graph_gives_the_same_gradients_again():
    hidden, weight, targets = random_inputs(ignored=3)
    weight.requires_grad_()
    loss = cross_entropy(hidden, weight, targets, chunk_tokens=8)
    first, second = (torch.autograd.grad(loss * 0.37, weight, retain_graph=keep)[0] for keep in (True, False))
    assert torch.equal(first, second)


@pytest.mark.parametrize("rows", [1, 3, 8, 100])
def test_the_rows_of_a_softmax_in_cache_do_not_change_the_result(monkeypatch, rows):
    monkeypatch.setattr("mamba_slm.ops.loss.rows_at_once", lambda vocab_size, device_type: rows)
    assert_same(random_inputs(ignored=3), chunk_tokens=8)


def test_fewer_rows_are_taken_together_the_larger_the_vocabulary():
    assert rows_at_once(50, "cpu") > rows_at_once(50_000, "cpu") >= rows_at_once(2**30, "cpu") == 1
    assert rows_at_once(2**30, "cuda") > 10**9


def test_products_of_many_rows_are_added_in_float32():
    total, left, right = torch.randn(2500, 4), torch.randn(2500, 6).bfloat16(), torch.randn(6, 4).bfloat16()
    expected = total + (left.double() @ right.double()).float()
    add_product(total, left, right)
    assert_close(total, expected, tolerance_of("loss", torch.bfloat16).gradients)


def test_without_gradients_only_the_logits_are_computed():
    hidden, weight = torch.randn(64, 8, requires_grad=True), torch.randn(100, 8, requires_grad=True)
    targets = torch.randint(0, 100, (64,))
    with TensorSizes() as sizes, torch.no_grad():
        cross_entropy(hidden, weight, targets, chunk_tokens=16)
    assert sizes.operations["mm.out"] == 4
    assert (100, 8) not in sizes.shapes


def test_a_frozen_head_has_no_gradient_in_memory():
    hidden, weight = torch.randn(64, 8, requires_grad=True), torch.randn(100, 8)
    with TensorSizes() as sizes:
        cross_entropy(hidden, weight, torch.randint(0, 100, (64,)), chunk_tokens=16).backward()
    assert (100, 8) not in sizes.shapes and hidden.grad is not None


def test_uninitialised_memory_is_never_read():
    with poisoned_memory():
        assert_same(random_inputs(ignored=3), chunk_tokens=8)


def test_gradients_add_up_over_calls():
    hidden, weight, targets = random_inputs()
    weight.requires_grad_()
    for part in (slice(0, 20), slice(20, M)):
        cross_entropy(hidden[part], weight, targets[part]).backward()
    whole = weight.detach().clone().requires_grad_()
    cross_entropy_reference(hidden, whole, targets).backward()
    assert_close(weight.grad, whole.grad, tolerance_of("loss").gradients)


def test_disagreeing_shapes_are_named():
    hidden, weight, targets = random_inputs()
    with pytest.raises(ShapeError, match="targets \\[m\\] has m=36, but hidden has m=37"):
        cross_entropy(hidden, weight, targets[1:])
