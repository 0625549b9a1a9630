"""The native scan is the recurrence: values, gradients of every input, final state; steep decays; exact isolation."""

import pytest
import torch

from mamba_slm.ops.kernels import loaded_kernel
from mamba_slm.ops.native.scan import ssd_native
from mamba_slm.ops.ssd import ssd_scan, ssd_scan_with_skip
from mamba_slm.ops.ssd_reference import ssd_reference
from tolerances import assert_close, tolerance_of

NAMES = ("x", "dt", "A", "B", "C", "state")


def random_inputs(t, *, b=2, h=4, p=16, g=2, n=32, steepest=16.0, largest_step=0.2):
    steps = torch.exp(torch.empty(b, t, h).uniform_(-7, torch.tensor(largest_step).log().item()))
    rates = -torch.empty(h).uniform_(0.5, steepest)
    shapes = ((b, t, h, p), (b, t, g, n), (b, t, g, n), (b, h, p, n))
    x, B, C, state = (torch.randn(shape) for shape in shapes)
    return [x, steps, rates, B, C, state]


def documents(*lengths, b=2):
    row = torch.cat([torch.full((length,), number % 3) for number, length in enumerate(lengths)])
    return row.expand(b, -1).contiguous()


def outputs_and_gradients(scan, inputs, *, ids=None, with_state=True, use="both"):
    leaves = [m.detach().clone().requires_grad_() for m in inputs]
    y, end = scan(*leaves[:5], state=leaves[5] if with_state else None, document_ids=ids, chunk_size=64)
    generator = torch.Generator().manual_seed(99)
    total = torch.zeros(())
    if use != "end":
        total = total + (y * torch.randn(y.shape, generator=generator)).sum()
    if use != "y":
        total = total + (end * torch.randn(end.shape, generator=generator)).sum()
    total.backward()
    return y.detach(), end.detach(), [leaf.grad for leaf in (leaves if with_state else leaves[:5])]


def assert_same(inputs, row="ssd", **settings):
    y, end, gradients = outputs_and_gradients(ssd_native, inputs, **settings)
    y_ref, end_ref, gradients_ref = outputs_and_gradients(ssd_reference, inputs, **settings)
    tolerance = tolerance_of(row)
    assert_close(y, y_ref, tolerance.values, "y")
    assert_close(end, end_ref, tolerance.values, "final state")
    for name, gradient, expected in zip(NAMES, gradients, gradients_ref, strict=False):
        if expected is None or not expected.any():
            assert gradient is None or not gradient.any(), f"gradient of {name} should be zero"
        else:
            assert_close(gradient, expected, tolerance.gradients, f"gradient of {name}")


@pytest.mark.parametrize("t", [1, 63, 64, 65, 200])
def test_values_state_and_all_gradients_are_those_of_the_recurrence(native_kernels, t):
    assert_same(random_inputs(t))


@pytest.mark.parametrize("use", ["y", "end"])
def test_either_result_alone_has_gradients(native_kernels, use):
    assert_same(random_inputs(70), use=use)


@pytest.mark.parametrize(("h", "g", "p", "n"), [(1, 1, 64, 128), (3, 1, 48, 16), (6, 3, 32, 80), (4, 4, 16, 48)])
def test_any_number_of_heads_and_groups(native_kernels, h, g, p, n):
    assert_same(random_inputs(67, b=1, h=h, g=g, p=p, n=n), with_state=False)


@pytest.mark.parametrize("lengths", [(20, 1, 2, 50, 65), (64, 64, 10), (1, 1, 126), (63, 1, 1)], ids=str)
def test_the_state_begins_again_with_every_document(native_kernels, lengths):
    assert_same(random_inputs(sum(lengths)), ids=documents(*lengths))


def test_heads_may_forget_everything_in_one_step(native_kernels):
    assert_same(random_inputs(70, steepest=300.0, largest_step=3.0), row="ssd after a large step")


def test_a_step_of_zero_changes_nothing(native_kernels):
    inputs = random_inputs(70)
    inputs[1][:, 60:] = 0
    end = ssd_native(*inputs[:5], state=inputs[5])[1]
    whole = [m[:, :60] if m.dim() > 2 else m for m in inputs[:5]]
    assert_close(end, ssd_native(*whole, state=inputs[5])[1], tolerance_of("ssd").values)


def test_the_gradient_with_respect_to_another_document_is_exactly_zero(native_kernels):
    inputs = [m.requires_grad_() for m in random_inputs(140)]
    y, _ = ssd_native(*inputs[:5], state=inputs[5], document_ids=documents(30, 50, 60))
    gradients = torch.autograd.grad(y[:, 30:80].square().sum(), inputs)
    for name, gradient in zip(NAMES, gradients, strict=True):
        if name in ("x", "dt", "B", "C"):
            assert not gradient[:, :30].any(), name
            assert not gradient[:, 80:].any(), name
            assert gradient[:, 31:79].any(), name
    assert not gradients[5].any()


def test_what_another_document_says_changes_nothing_to_the_bit(native_kernels):
    inputs, ids = random_inputs(140), documents(70, 70)
    y, end = ssd_native(*inputs[:5], document_ids=ids)
    others = [torch.cat([10 * m[:, :70], m[:, 70:]], dim=1) if m.dim() > 2 else m for m in inputs[:5]]
    y_beside, end_beside = ssd_native(*others, document_ids=ids)
    assert torch.equal(y[:, 70:], y_beside[:, 70:])
    assert torch.equal(end, end_beside)


def test_slices_of_one_tensor_are_read_where_they_lie(native_kernels):
    convolved = torch.randn(2, 70, 4 * 16 + 2 * 2 * 32, requires_grad=True)
    _, dt, A, *_ = random_inputs(70)

    def total(scan):
        x, B, C = convolved.split([64, 64, 64], dim=-1)
        y, _ = scan(x.unflatten(-1, (4, 16)), dt, A, B.unflatten(-1, (2, 32)), C.unflatten(-1, (2, 32)))
        return torch.autograd.grad(y.square().sum(), convolved)[0]

    assert_close(total(ssd_native), total(ssd_reference), tolerance_of("ssd").gradients)


def test_the_automatic_backend_takes_it_and_others_do_not(native_kernels):
    inputs = random_inputs(70)
    settings = {"state": None, "document_ids": None, "chunk_size": 64}
    assert loaded_kernel("ssd_scan", "cpu", *inputs[:5], **settings) is not None
    y, _ = ssd_scan(*inputs[:5], chunk_size=64)
    assert torch.equal(y, ssd_native(*inputs[:5])[0])
    assert not torch.equal(y, ssd_scan(*inputs[:5], chunk_size=64, backend="chunked")[0])


def test_what_passes_the_scan_is_added_with_its_gradients(native_kernels):
    *inputs, _ = random_inputs(70)
    x, dt, A, B, C, D = leaves = [m.requires_grad_() for m in (*inputs, torch.randn(4))]
    assert loaded_kernel("ssd_scan_with_skip", "cpu", *leaves, chunk_size=64) is not None
    y, _ = ssd_scan_with_skip(x, dt, A, B, C, D, chunk_size=64)
    expected = ssd_reference(x, dt, A, B, C)[0] + D[:, None] * x
    assert_close(y, expected, tolerance_of("ssd").values)
    grad = torch.randn(y.shape)
    pairs = zip(torch.autograd.grad(y, leaves, grad), torch.autograd.grad(expected, leaves, grad), strict=True)
    for found, right in pairs:
        assert_close(found, right, tolerance_of("ssd").gradients)


def test_other_sizes_and_dtypes_are_refused(native_kernels):
    for changes in ({"p": 8}, {"n": 24}, {"p": 80}):
        inputs = random_inputs(5, **changes)
        assert loaded_kernel("ssd_scan", "cpu", *inputs[:5], chunk_size=64) is None
    halves = [m.bfloat16() for m in random_inputs(5)]
    assert loaded_kernel("ssd_scan", "cpu", *halves[:5], chunk_size=64) is None
