"""The scan's kernels are the recurrence: values, gradients of every input, final state."""

import pytest
import torch

from mamba_slm.core.errors import SetupError, ShapeError
from mamba_slm.ops.ssd import ssd_scan
from mamba_slm.ops.ssd_reference import ssd_reference
from tolerances import assert_close, tolerance_of

NAMES = ("x", "dt", "A", "B", "C", "state")


def random_inputs(t, *, b=1, h=2, p=8, g=1, n=16, dtype=torch.float32, seed=0):
    """As models have them: some heads forget at once, some never."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(shape, generator=generator)

    steps = torch.exp(torch.empty(b, t, h).uniform_(-7, -1.5, generator=generator))
    decay_rates = -torch.empty(h).uniform_(0.5, 16, generator=generator)
    inputs = [normal(b, t, h, p), steps, decay_rates, normal(b, t, g, n), normal(b, t, g, n), normal(b, h, p, n)]
    return [m.to(dtype) if i in (0, 3, 4) else m for i, m in enumerate(inputs)]


def outputs_and_gradients(scan, inputs, *, document_ids=None, with_state=True, use="both"):
    """y, final state, and the gradient of every input of a random projection of them."""
    leaves = [m.detach().clone().requires_grad_() for m in inputs]
    x, dt, A, B, C, state = leaves
    y, end = scan(x, dt, A, B, C, state=state if with_state else None, document_ids=document_ids)
    generator = torch.Generator().manual_seed(99)
    total = 0
    if use != "end":
        total = total + (y.float() * torch.randn(y.shape, generator=generator).to(y.device)).sum()
    if use != "y":
        total = total + (end * torch.randn(end.shape, generator=generator).to(y.device)).sum()
    total.backward()
    return y.detach(), end.detach(), [leaf.grad for leaf in (leaves if with_state else leaves[:-1])]


def assert_same(device, inputs, *, document_ids=None, **settings):
    from mamba_slm.ops.triton.ssd import ssd_triton

    inputs = [m.to(device) for m in inputs]
    ids = None if document_ids is None else document_ids.to(device)
    y, end, gradients = outputs_and_gradients(ssd_triton, inputs, document_ids=ids, **settings)
    y_ref, end_ref, gradients_ref = outputs_and_gradients(ssd_reference, inputs, document_ids=ids, **settings)
    rounded = inputs[0].dtype == torch.bfloat16
    tolerance = tolerance_of("ssd with bfloat16 products" if rounded else "ssd", inputs[0].dtype)
    assert y.dtype == inputs[0].dtype
    assert end.dtype == torch.float32
    assert_close(y, y_ref, tolerance.values, "y")
    assert_close(end, end_ref, tolerance.values, "final state")
    for name, gradient, gradient_ref in zip(NAMES, gradients, gradients_ref, strict=False):
        if gradient_ref is None:
            assert gradient is None or not gradient.any(), f"gradient of {name} should be zero"
            continue
        assert_close(gradient, gradient_ref, tolerance.gradients, f"gradient of {name}")


def documents(*lengths):
    """[1 t] ids of documents of these lengths; neither sorted nor starting at 0, since only changes count."""
    ids = [7, 3, 3000, 1, 0, 12, 5, 9, 4, 2]
    return torch.cat([torch.full((length,), ids[i % len(ids)]) for i, length in enumerate(lengths)])[None]


@pytest.mark.parametrize("t", [1, 63, 64, 130])
def test_values_state_and_all_gradients_are_those_of_the_recurrence(device, t):
    assert_same(device, random_inputs(t))


@pytest.mark.parametrize("t", [1, 65])
def test_bf16_inputs_are_multiplied_as_they_are_and_summed_in_float32(device, t):
    assert_same(device, random_inputs(t, dtype=torch.bfloat16))


def test_without_an_initial_state_it_starts_from_zero(device):
    assert_same(device, random_inputs(65), with_state=False)


@pytest.mark.parametrize(("b", "g", "h"), [(1, 1, 1), (2, 1, 4), (1, 3, 6)])
def test_head_i_uses_group_i_divided_by_heads_per_group(device, b, g, h):
    assert_same(device, random_inputs(66, b=b, g=g, h=h))


@pytest.mark.parametrize(("p", "n"), [(1, 1), (5, 3), (64, 128), (72, 80)])
def test_heads_and_states_of_any_size_are_tiled(device, p, n):
    assert_same(device, random_inputs(20, h=1, p=p, n=n))


BOUNDARIES = {
    "inside a chunk": (30, 50),
    "at a chunk's edge": (64, 10),
    "around an edge, and of one token": (1, 1, 61, 2, 64, 1),
}


@pytest.mark.parametrize("lengths", BOUNDARIES.values(), ids=BOUNDARIES)
def test_document_boundaries_restart_the_state(device, lengths):
    assert_same(device, random_inputs(sum(lengths)), document_ids=documents(*lengths))


def test_rows_of_a_batch_have_their_own_boundaries(device):
    ids = torch.cat([documents(64, 16), documents(10, 60, 10)])
    assert_same(device, random_inputs(80, b=2), document_ids=ids)


def test_a_document_has_exactly_no_gradient_from_another(device):
    lengths = 30, 40, 20
    ids = documents(*lengths).to(device)
    x, dt, A, B, C, _ = (m.to(device).requires_grad_() for m in random_inputs(sum(lengths)))
    y, _ = ssd_scan(x, dt, A, B, C, document_ids=ids, chunk_size=64, backend="triton")
    own = slice(30, 70)
    y[:, own].square().sum().backward()
    for name, leaf in (("x", x), ("dt", dt), ("B", B), ("C", C)):
        assert not leaf.grad[:, :30].any() and not leaf.grad[:, 70:].any(), f"{name} of another document got gradient"
        assert leaf.grad[:, own].any()


@pytest.mark.parametrize("use", ["y", "end"])
def test_either_result_may_be_used_alone(device, use):
    assert_same(device, random_inputs(65), use=use)


@pytest.mark.parametrize("size", [0.0, 50.0])
def test_the_smallest_and_largest_steps_stay_finite(device, size):
    inputs = random_inputs(65)
    inputs[1] = torch.full_like(inputs[1], size)
    assert_same(device, inputs)


def test_padding_alone_keeps_the_state_to_the_bit(device):
    x, dt, A, B, C, state = (m.to(device) for m in random_inputs(65))
    _, end = ssd_scan(x, torch.zeros_like(dt), A, B, C, state=state, chunk_size=64, backend="triton")
    assert torch.equal(end, state)


def test_inputs_may_be_views_and_are_left_alone(device):
    t, h, p, g, n = 65, 2, 8, 2, 16
    wide = torch.randn(2, t, h * p + 2 * g * n, device=device)
    _, dt, A, *_ = (m.to(device) for m in random_inputs(t, b=2))
    x, B, C = wide.split([h * p, g * n, g * n], dim=-1)
    views = [x.unflatten(-1, (h, p)), dt, A, B.unflatten(-1, (g, n)), C.unflatten(-1, (g, n))]
    views.append(torch.randn(2, n, h, p, device=device).permute(0, 2, 3, 1))
    before = [m.clone() for m in views]
    y, end = ssd_scan(*views[:5], state=views[5], chunk_size=64, backend="triton")
    y_ref, end_ref = ssd_reference(*before[:5], state=before[5])
    assert_close(y, y_ref, tolerance_of("ssd").values)
    assert_close(end, end_ref, tolerance_of("ssd").values)
    for name, view, copy in zip(NAMES, views, before, strict=True):
        assert torch.equal(view, copy), f"{name} was changed"


def test_heads_too_wide_for_the_registers_are_scanned_in_pytorch(device):
    assert_same(device, random_inputs(20, h=1, p=136, n=8))


def test_many_heads_are_summed_in_parts(device):
    from mamba_slm.ops.triton import ssd

    before = ssd.PROGRAMS_WANTED
    results = []
    try:
        for ssd.PROGRAMS_WANTED in (1, 1000):
            results.append(outputs_and_gradients(ssd.ssd_triton, [m.to(device) for m in random_inputs(20, h=4)]))
    finally:
        ssd.PROGRAMS_WANTED = before
    for whole, parts in zip(results[0][2], results[1][2], strict=True):
        assert_close(parts, whole, tolerance_of("ssd").gradients)


def test_disagreeing_shapes_are_named(device):
    x, dt, A, B, C, _ = (m.to(device) for m in random_inputs(10))
    with pytest.raises(ShapeError, match=r"B \[b t g n\] has t=9, but x has t=10"):
        ssd_scan(x, dt, A, B[:, :9], C, chunk_size=64, backend="triton")


def test_on_a_cpu_without_the_interpreter_it_says_what_it_needs(device, monkeypatch):
    from mamba_slm.ops.triton import ssd

    monkeypatch.setattr(ssd, "INTERPRETED", False)
    x, dt, A, B, C, _ = random_inputs(10)
    with pytest.raises(SetupError, match="runs on GPUs, and x is on cpu"):
        ssd_scan(x, dt, A, B, C, chunk_size=64, backend="triton")


@pytest.mark.slow
@pytest.mark.parametrize("t", [200, 500])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
def test_long_rows_with_documents_and_the_sizes_of_a_model(device, t, dtype):
    ids = documents(t // 3, 1, 64, t - t // 3 - 65)
    assert_same(device, random_inputs(t, h=4, p=64, g=2, n=128, dtype=dtype), document_ids=ids)
    assert_same(device, random_inputs(t, h=4, p=64, g=2, n=128, dtype=dtype))
