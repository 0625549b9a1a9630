"""Every scan backend is the naive recurrence: values, gradients of every input, final state."""

import pytest
import torch

from conformance.probes import TensorSizes, poisoned_memory
from mamba_slm.core import registry
from mamba_slm.core.errors import ShapeError, UnknownNameError
from mamba_slm.ops.ssd import SSD_BACKENDS, automatic_ssd_backend, ssd_scan, ssd_step, ssd_step_reference
from mamba_slm.ops.ssd_reference import ssd_reference
from tolerances import assert_close, tolerance_of

FAST = sorted(set(SSD_BACKENDS) - {"reference"})
LENGTHS = [1, 63, 64, 65, 500]
NAMES = ("x", "dt", "A", "B", "C", "state")
every_backend = pytest.mark.parametrize("backend", FAST)


def random_inputs(t, *, b=2, h=4, p=8, g=2, n=16, dtype=torch.float32, seed=0):
    """x, dt, A, B, C and an initial state in the ranges that models have: some heads forget at once, some never."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(shape, generator=generator)

    steps = torch.exp(torch.empty(b, t, h).uniform_(-7, -1.5, generator=generator))
    decay_rates = -torch.empty(h).uniform_(0.5, 16, generator=generator)
    inputs = [normal(b, t, h, p), steps, decay_rates, normal(b, t, g, n), normal(b, t, g, n), normal(b, h, p, n)]
    return [m.to(dtype) if i in (0, 3, 4) else m for i, m in enumerate(inputs)]


def outputs_and_gradients(scan, inputs, *, document_ids=None, chunk_size=64, with_state=True, use="both"):
    """y, final state, and the gradient of every input of a random projection of them."""
    leaves = [m.detach().clone().requires_grad_() for m in inputs]
    x, dt, A, B, C, state = leaves
    y, end = scan(x, dt, A, B, C, state=state if with_state else None, document_ids=document_ids, chunk_size=chunk_size)
    generator = torch.Generator().manual_seed(99)
    total = 0
    if use != "end":
        total = total + (y.float() * torch.randn(y.shape, generator=generator)).sum()
    if use != "y":
        total = total + (end * torch.randn(end.shape, generator=generator)).sum()
    total.backward()
    return y.detach(), end.detach(), [leaf.grad for leaf in (leaves if with_state else leaves[:-1])]


def assert_same(backend, inputs, **settings):
    """Compare a backend with the reference in everything it returns."""
    scan = registry.load("SSD backend", backend, SSD_BACKENDS)
    settings_of_reference = {name: value for name, value in settings.items() if name != "chunk_size"}
    y, end, gradients = outputs_and_gradients(scan, inputs, **settings)
    y_ref, end_ref, gradients_ref = outputs_and_gradients(ssd_reference, inputs, **settings_of_reference)
    tolerance = tolerance_of("ssd", inputs[0].dtype)
    assert y.dtype == inputs[0].dtype
    assert end.dtype == torch.float32
    assert_close(y, y_ref, tolerance.values, "y")
    assert_close(end, end_ref, tolerance.values, "final state")
    for name, gradient, gradient_ref in zip(NAMES, gradients, gradients_ref, strict=False):
        if gradient_ref is None:
            assert gradient is None or not gradient.any(), f"gradient of {name} should be zero"
            continue
        assert gradient is not None, f"no gradient of {name}"
        assert_close(gradient, gradient_ref, tolerance.gradients, f"gradient of {name}")


def documents(*lengths, b=2):
    """[b t] ids of documents of these lengths; neither sorted nor starting at 0, since only changes count."""
    ids = [7, 3, 3000, 1, 0, 12, 5, 9, 4, 2]
    row = torch.cat([torch.full((length,), ids[i % len(ids)]) for i, length in enumerate(lengths)])
    return row.expand(b, -1).contiguous()


@every_backend
@pytest.mark.parametrize("t", LENGTHS)
def test_values_state_and_all_gradients_are_those_of_the_recurrence(backend, t):
    assert_same(backend, random_inputs(t))


@every_backend
@pytest.mark.parametrize("t", [1, 65])
def test_without_an_initial_state_it_starts_from_zero(backend, t):
    assert_same(backend, random_inputs(t), with_state=False)


@every_backend
@pytest.mark.parametrize(("g", "h"), [(1, 1), (1, 4), (2, 6), (3, 6), (4, 4)])
def test_head_i_uses_group_i_divided_by_heads_per_group(backend, g, h):
    assert_same(backend, random_inputs(70, g=g, h=h))


@every_backend
@pytest.mark.parametrize("chunk_size", [1, 16, 48, 64, 256])
def test_the_chunk_size_does_not_change_the_function(backend, chunk_size):
    assert_same(backend, random_inputs(130), chunk_size=chunk_size)


@every_backend
@pytest.mark.parametrize(("b", "p", "n"), [(1, 1, 1), (3, 1, 16), (1, 5, 3)])
def test_odd_sizes_are_no_exception(backend, b, p, n):
    assert_same(backend, random_inputs(67, b=b, p=p, n=n))


@every_backend
@pytest.mark.parametrize("t", [1, 65, 200])
def test_bf16_inputs_lose_nothing_but_the_last_rounding(backend, t):
    assert_same(backend, random_inputs(t, dtype=torch.bfloat16))


@every_backend
def test_autocast_does_not_touch_the_scan(backend):
    inputs = random_inputs(100)
    scan = registry.load("SSD backend", backend, SSD_BACKENDS)

    def scan_under_autocast(*args, **settings):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return scan(*args, **settings)

    plain = outputs_and_gradients(scan, inputs)
    cast = outputs_and_gradients(scan_under_autocast, inputs)
    assert torch.equal(plain[0], cast[0])
    assert torch.equal(plain[1], cast[1])
    for name, a, b in zip(NAMES, plain[2], cast[2], strict=True):
        assert torch.equal(a, b), name


BOUNDARIES = {
    "inside a chunk": (30, 70),
    "at a chunk's edge": (64, 64, 10),
    "one before and one after an edge": (63, 2, 64, 1),
    "documents of one token": (1, 1, 1, 60, 1, 1, 1, 66, 1),
    "documents over several chunks": (200, 100),
}


@every_backend
@pytest.mark.parametrize("lengths", BOUNDARIES.values(), ids=BOUNDARIES)
@pytest.mark.parametrize("with_state", [True, False], ids=["continuing", "fresh"])
def test_document_boundaries_restart_the_state(backend, lengths, with_state):
    inputs = random_inputs(sum(lengths))
    assert_same(backend, inputs, document_ids=documents(*lengths), with_state=with_state)


@every_backend
def test_rows_of_a_batch_have_their_own_boundaries(backend):
    ids = torch.stack([documents(64, 36, b=1)[0], documents(10, 80, 10, b=1)[0], documents(100, b=1)[0]])
    assert_same(backend, random_inputs(100, b=3), document_ids=ids)


@pytest.mark.parametrize("backend", SSD_BACKENDS)
@pytest.mark.parametrize("lengths", BOUNDARIES.values(), ids=BOUNDARIES)
def test_packed_documents_are_separate_documents(backend, lengths):
    x, dt, A, B, C, _ = random_inputs(sum(lengths))
    packed, end = ssd_scan(x, dt, A, B, C, document_ids=documents(*lengths), chunk_size=64, backend=backend)
    pieces = [m.split(lengths, dim=1) for m in (x, dt, B, C)]
    separate = [ssd_reference(xi, dti, A, Bi, Ci) for xi, dti, Bi, Ci in zip(*pieces, strict=True)]
    allowed = tolerance_of("ssd").values
    assert_close(packed, torch.cat([y for y, _ in separate], dim=1), allowed)
    assert_close(end, separate[-1][1], allowed)


@pytest.mark.parametrize("backend", SSD_BACKENDS)
@pytest.mark.parametrize("lengths", BOUNDARIES.values(), ids=BOUNDARIES)
def test_a_document_has_exactly_no_gradient_from_another(backend, lengths):
    inputs = random_inputs(sum(lengths))
    ids = documents(*lengths)
    start = 0
    for length in lengths:
        x, dt, A, B, C, _ = (m.clone().requires_grad_() for m in inputs)
        y, _ = ssd_scan(x, dt, A, B, C, document_ids=ids, chunk_size=64, backend=backend)
        generator = torch.Generator().manual_seed(1)
        own = slice(start, start + length)
        (y[:, own] * torch.randn(y[:, own].shape, generator=generator)).sum().backward()
        for name, leaf in (("x", x), ("dt", dt), ("B", B), ("C", C)):
            outside = torch.cat([leaf.grad[:, :start], leaf.grad[:, start + length :]], dim=1)
            assert not outside.any(), f"{name} of another document got gradient {outside.abs().max():.1e}"
            assert leaf.grad[:, own].any() or (name == "dt" and length == 1), name
        start += length


@every_backend
@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("padding", [1, 40, 64])
def test_positions_with_dt_zero_change_nothing(backend, side, padding):
    x, dt, A, B, C, state = random_inputs(90)
    noise = random_inputs(padding, seed=5)
    order = (lambda a, b: [b, a]) if side == "left" else (lambda a, b: [a, b])
    xp, Bp, Cp = (torch.cat(order(m, noise[i]), dim=1) for m, i in ((x, 0), (B, 3), (C, 4)))
    dtp = torch.cat(order(dt, torch.zeros_like(noise[1])), dim=1)
    y, end = ssd_scan(xp, dtp, A, Bp, Cp, state=state, chunk_size=64, backend=backend)
    y_ref, end_ref = ssd_reference(x, dt, A, B, C, state=state)
    y = y[:, padding:] if side == "left" else y[:, :-padding]
    assert_close(y, y_ref, tolerance_of("ssd").values)
    assert_close(end, end_ref, tolerance_of("ssd").values)


@every_backend
def test_a_chunk_of_nothing_but_padding_keeps_the_state_to_the_bit(backend):
    x, dt, A, B, C, state = random_inputs(64)
    _, end = ssd_scan(x, torch.zeros_like(dt), A, B, C, state=state, chunk_size=64, backend=backend)
    assert torch.equal(end, state)


@every_backend
def test_gradients_are_right_where_positions_are_padding(backend):
    inputs = random_inputs(130)
    inputs[1] = inputs[1] * (torch.arange(130) % 70 < 60)[None, :, None]
    assert_same(backend, inputs)


@pytest.mark.parametrize("backend", SSD_BACKENDS)
@pytest.mark.parametrize("cut", [1, 63, 64, 65])
def test_a_sequence_may_be_cut_anywhere(backend, cut):
    x, dt, A, B, C, state = random_inputs(130)
    settings = {"chunk_size": 64, "backend": backend}
    whole, end = ssd_scan(x, dt, A, B, C, state=state, **settings)
    first, middle = ssd_scan(x[:, :cut], dt[:, :cut], A, B[:, :cut], C[:, :cut], state=state, **settings)
    second, last = ssd_scan(x[:, cut:], dt[:, cut:], A, B[:, cut:], C[:, cut:], state=middle, **settings)
    assert_close(torch.cat([first, second], dim=1), whole, tolerance_of("ssd").values)
    assert_close(last, end, tolerance_of("ssd").values)


@every_backend
@pytest.mark.parametrize("use", ["y", "end"])
def test_either_result_may_be_used_alone(backend, use):
    assert_same(backend, random_inputs(100), use=use)


@every_backend
@pytest.mark.parametrize("wanted", range(6), ids=NAMES)
def test_one_input_alone_may_need_a_gradient(backend, wanted):
    inputs = random_inputs(70)
    gradients = []
    for name in (backend, "reference"):
        leaves = [m.clone().requires_grad_(i == wanted) for i, m in enumerate(inputs)]
        y, end = ssd_scan(*leaves[:5], state=leaves[5], chunk_size=64, backend=name)
        (y.square().sum() + end.square().sum()).backward()
        gradients.append(leaves[wanted].grad)
    assert_close(*gradients, tolerance_of("ssd").gradients)


@every_backend
def test_inputs_may_be_views_and_are_left_alone(backend):
    t, h, p, g, n = 100, 4, 8, 2, 16
    wide = torch.randn(2, t, h * p + 2 * g * n)
    _, dt, A, *_ = random_inputs(t)
    x, B, C = wide.split([h * p, g * n, g * n], dim=-1)
    views = [x.unflatten(-1, (h, p)), dt, A, B.unflatten(-1, (g, n)), C.unflatten(-1, (g, n))]
    views.append(torch.randn(2, n, h, p).permute(0, 2, 3, 1))
    assert not views[0].is_contiguous()
    before = [m.clone() for m in views]
    y, end = ssd_scan(*views[:5], state=views[5], chunk_size=64, backend=backend)
    y_ref, end_ref = ssd_reference(*before[:5], state=before[5])
    assert_close(y, y_ref, tolerance_of("ssd").values)
    assert_close(end, end_ref, tolerance_of("ssd").values)
    for name, view, copy in zip(NAMES, views, before, strict=True):
        assert torch.equal(view, copy), f"{name} was changed"


@every_backend
def test_without_gradients_the_values_are_the_same(backend):
    inputs = random_inputs(100)
    y, end, _ = outputs_and_gradients(registry.load("SSD backend", backend, SSD_BACKENDS), inputs)
    with torch.no_grad():
        y_no_grad, end_no_grad = ssd_scan(*inputs[:5], state=inputs[5], chunk_size=64, backend=backend)
    assert_close(y_no_grad, y, tolerance_of("ssd").values)
    assert_close(end_no_grad, end, tolerance_of("ssd").values)


@every_backend
@pytest.mark.parametrize("size", [0.0, 50.0])
def test_the_smallest_and_largest_steps_stay_finite(backend, size):
    inputs = random_inputs(130)
    inputs[1] = torch.full_like(inputs[1], size)
    assert_same(backend, inputs)


@every_backend
def test_a_head_that_forgets_everything_does_not_disturb_later_tokens(backend):
    inputs = random_inputs(130)
    inputs[1][:, 40] = 30.0  # decay exp(-480): the running sum in the chunk is large from here on
    scan = registry.load("SSD backend", backend, SSD_BACKENDS)
    y, end, _ = outputs_and_gradients(scan, inputs)
    y_ref, end_ref, _ = outputs_and_gradients(ssd_reference, inputs)
    assert_close(y[:, 41:], y_ref[:, 41:], tolerance_of("ssd after a large step").values)
    assert_close(end, end_ref, tolerance_of("ssd after a large step").values)


@every_backend
@pytest.mark.parametrize("t", [1, 65])
def test_uninitialised_memory_is_never_read(backend, t):
    ids = documents(t // 2, t - t // 2) if t > 1 else None
    with poisoned_memory():
        assert_same(backend, random_inputs(t), document_ids=ids)
        assert_same(backend, random_inputs(t))


@every_backend
def test_memory_grows_linearly_with_the_length(backend):
    largest = {}
    b, h, g, p, n, q = 1, 4, 1, 16, 16, 32
    for t in (256, 512):
        inputs = [m.requires_grad_() for m in random_inputs(t, b=b, h=h, g=g, p=p, n=n)]
        with TensorSizes() as sizes:
            y, end = ssd_scan(*inputs[:5], state=inputs[5], chunk_size=q, backend=backend)
            (y.sum() + end.sum()).backward()
        largest[t] = sizes.largest
    assert largest[512] <= 2 * largest[256]
    assert largest[512] <= b * 512 * h * max(q, p, n) * 2
    assert largest[512] < b * 512 * q * h * n


def test_the_automatic_backend_is_one_of_the_table_and_says_why():
    x, dt, A, B, C, state = random_inputs(70)
    for device_type in ("cpu", "cuda", "mps"):
        name, reason = automatic_ssd_backend(device_type)
        assert name in FAST
        assert reason
    chosen, _ = automatic_ssd_backend("cpu")
    automatic = ssd_scan(x, dt, A, B, C, state=state, chunk_size=64)
    named = ssd_scan(x, dt, A, B, C, state=state, chunk_size=64, backend=chosen)
    assert all(torch.equal(a, b) for a, b in zip(automatic, named, strict=True))


def test_disagreeing_shapes_are_named():
    x, dt, A, B, C, _ = random_inputs(10)
    for backend in SSD_BACKENDS:
        with pytest.raises(ShapeError, match=r"B \[b t g n\] has t=9, but x has t=10"):
            ssd_scan(x, dt, A, B[:, :9], C, chunk_size=64, backend=backend)


def test_an_unknown_backend_suggests_the_nearest():
    x, dt, A, B, C, _ = random_inputs(2)
    with pytest.raises(UnknownNameError, match="did you mean 'chunked'"):
        ssd_scan(x, dt, A, B, C, chunk_size=64, backend="chunkd")


@pytest.mark.parametrize(("g", "h"), [(1, 4), (2, 6), (4, 4)])
def test_a_step_is_a_scan_of_one_token(g, h):
    x, dt, A, B, C, state = random_inputs(20, g=g, h=h)
    whole, end = ssd_reference(x, dt, A, B, C, state=state)
    outputs = []
    for i in range(20):
        before = state.clone()
        y, new_state = ssd_step(x[:, i], dt[:, i], A, B[:, i], C[:, i], state=state)
        assert torch.equal(state, before), "the given state was changed"
        state = new_state
        outputs.append(y)
    assert_close(torch.stack(outputs, dim=1), whole, tolerance_of("ssd").values)
    assert_close(state, end, tolerance_of("ssd").values)


def test_a_step_has_the_gradients_of_the_scan():
    inputs = random_inputs(1)

    def step(x, dt, A, B, C, *, state, document_ids, chunk_size):
        y, end = ssd_step(x[:, 0], dt[:, 0], A, B[:, 0], C[:, 0], state=state)
        return y[:, None], end

    ours, theirs = outputs_and_gradients(step, inputs), outputs_and_gradients(ssd_reference, inputs)
    for name, a, b in zip(NAMES, ours[2], theirs[2], strict=True):
        assert_close(a, b, tolerance_of("ssd").gradients, name)


def test_a_step_with_dt_zero_keeps_the_state_to_the_bit():
    x, dt, A, B, C, state = random_inputs(1)
    _, after = ssd_step(x[:, 0], torch.zeros_like(dt[:, 0]), A, B[:, 0], C[:, 0], state=state)
    assert torch.equal(after, state)


def test_a_step_of_bf16_inputs_keeps_a_float32_state():
    x, dt, A, B, C, state = random_inputs(1, dtype=torch.bfloat16)
    y, after = ssd_step(x[:, 0], dt[:, 0], A, B[:, 0], C[:, 0], state=state)
    y_ref, after_ref = ssd_reference(x, dt, A, B, C, state=state)
    assert y.dtype == torch.bfloat16
    assert after.dtype == torch.float32
    assert_close(y, y_ref[:, 0], tolerance_of("ssd", torch.bfloat16).values)
    assert_close(after, after_ref, tolerance_of("ssd").values)


@pytest.mark.parametrize(("g", "h"), [(1, 4), (2, 6), (4, 4)])
@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("in_place", [False, True])
def test_the_fast_step_is_the_step_and_overwrites_only_what_it_may(g, h, rows, in_place):
    x, dt, A, B, C, state = random_inputs(1, b=rows, g=g, h=h)
    x, dt, B, C, state = x[:, 0], dt[:, 0], B[:, 0], C[:, 0], state.detach()
    before = state.clone()
    expected, end = ssd_step_reference(x, dt, A, B, C, state=state)
    with torch.no_grad():
        y, new = ssd_step(x, dt, A, B, C, state=state, in_place=in_place)
    assert_close(y, expected, tolerance_of("ssd").values)
    assert_close(new, end, tolerance_of("ssd").values)
    assert (new is state) is in_place
    assert torch.equal(state, before) is not in_place
    wanted = before.clone().requires_grad_()  # a state that a backward pass will read
    with torch.no_grad():
        ssd_step(x, dt, A, B, C, state=wanted, in_place=True)
    assert torch.equal(wanted, before)
