"""The scan that models call: one signature, several backends, and the single step of decoding.

Letters: b batch, h heads, p head dim, g groups, n state.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mamba_slm.core.registry import load
from mamba_slm.ops.kernels import installed_kernels, loaded_kernel

SSD_BACKENDS = {
    "reference": "mamba_slm.ops.ssd_reference:ssd_reference",
    "chunked": "mamba_slm.ops.ssd_chunked:ssd_chunked",
    "recompute": "mamba_slm.ops.ssd_recompute:ssd_recompute",
}
"""On every device."""
GPU_SSD_BACKENDS = {"triton": ":".join(("mamba_slm.ops.triton.ssd", "ssd_triton"))}
"""On GPUs only. In two parts, so that `model/hf_bundle.py` leaves it out of its file, which has no Triton."""
AUTOMATIC = "auto"


def automatic_ssd_backend(device_type: str, *, compiled: bool = False) -> tuple[str, str]:
    """The backend for a kind of device, and why it was chosen.

    >>> automatic_ssd_backend("cpu")[0], automatic_ssd_backend("cpu", compiled=True)[0]
    ('recompute', 'chunked')
    """
    if compiled:
        return "chunked", "torch.compile differentiates and fuses it"
    if device_type == "cpu":
        return "recompute", "the fastest on CPUs, with the least memory"
    if ("ssd_scan", device_type) in installed_kernels():
        return "triton", "its kernels passed their self-test on this GPU"
    return "chunked", f"all heads in one product, as {device_type} likes it"


def scan_dtype(dtype: torch.dtype, device_type: str, backend: str = AUTOMATIC) -> torch.dtype:
    """What x, B and C are best handed to the scan as: float32, or bfloat16 where kernels multiply that as it is.

    Args:
        dtype: that of the projection which they come from.
    """
    if backend == AUTOMATIC:
        backend, _ = automatic_ssd_backend(device_type, compiled=torch.compiler.is_compiling())
    return dtype if dtype == torch.bfloat16 and backend in GPU_SSD_BACKENDS else torch.float32


def ssd_scan(
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    *,
    state: Tensor | None = None,
    document_ids: Tensor | None = None,
    chunk_size: int,
    backend: str = AUTOMATIC,
) -> tuple[Tensor, Tensor]:
    """Run the scan on a named backend, or "auto"; see `ssd_reference` for the arguments and the definition.

    Raises:
        UnknownNameError: no such backend.
        SetupError: the backend is one for GPUs, and x is not on one.
    """
    if backend == AUTOMATIC:
        settings = {"state": state, "document_ids": document_ids, "chunk_size": chunk_size}
        if (run := loaded_kernel("ssd_scan", x.device.type, x, dt, A, B, C, **settings)) is not None:
            return run(x, dt, A, B, C, **settings)
        backend, _ = automatic_ssd_backend(x.device.type, compiled=torch.compiler.is_compiling())
    scan = load("SSD backend", backend, SSD_BACKENDS | GPU_SSD_BACKENDS)
    return scan(x, dt, A, B, C, state=state, document_ids=document_ids, chunk_size=chunk_size)


def ssd_scan_with_skip(
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor,
    *,
    state: Tensor | None = None,
    document_ids: Tensor | None = None,
    chunk_size: int,
    backend: str = AUTOMATIC,
) -> tuple[Tensor, Tensor]:
    """`ssd_scan` with D x, D [h] in float32, added to its y [b t h p]."""
    settings = {"state": state, "document_ids": document_ids, "chunk_size": chunk_size}
    if backend == AUTOMATIC:
        run = loaded_kernel("ssd_scan_with_skip", x.device.type, x, dt, A, B, C, D, **settings)
        if run is not None:
            return run(x, dt, A, B, C, D, **settings)
    y, last = ssd_scan(x, dt, A, B, C, **settings, backend=backend)
    if torch.is_grad_enabled() or torch.compiler.is_compiling():
        return torch.addcmul(y, D[:, None], x), last
    return y.addcmul_(D[:, None], x), last


def ssd_step_reference(
    x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, *, state: Tensor
) -> tuple[Tensor, Tensor]:
    """Advance the recurrence by one token: the definition.

    Args:
        x: [b h p]; dt: [b h] after softplus, 0 where the row is padding; A: [h]; B, C: [b g n].
        state: [b h p n] float32.

    Returns:
        y [b h p] in the dtype of x, and the new float32 state. The given state is not changed.
    """
    heads_per_group = x.shape[1] // B.shape[1]
    B, C = (m.float().repeat_interleave(heads_per_group, dim=1) if m.shape[1] > 1 else m.float() for m in (B, C))
    dt = dt.float()
    decay = torch.exp(dt * A.float())[..., None, None]
    new_state = torch.addcmul(decay * state, (x.float() * dt[..., None])[..., None], B[:, :, None, :])
    y = torch.matmul(new_state, C[..., None]).squeeze(-1)
    return y.to(x.dtype), new_state


def ssd_step(
    x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, *, state: Tensor, in_place: bool = False
) -> tuple[Tensor, Tensor]:
    """`ssd_step_reference` in one pass over the state for the decay, one for the input and one for the output.

    Args:
        in_place: overwrite `state`, and return it, unless a backward pass may still want it.
    """
    if torch.is_grad_enabled() or torch.compiler.is_compiling():
        return ssd_step_reference(x, dt, A, B, C, state=state)
    (b, h, p), (g, n) = x.shape, B.shape[1:]
    dt = dt.float()
    decay = torch.exp(dt * A.float())[..., None, None]
    overwritten = in_place and state.is_contiguous() and not state.requires_grad
    new = state.mul_(decay) if overwritten else (state * decay).contiguous()
    grouped = new.view(b * g, h // g * p, n)  # a group's heads share B and C: one outer product, one product
    inputs = (x.float() * dt[..., None]).reshape(b * g, -1, 1)
    grouped.baddbmm_(inputs, B.float().reshape(b * g, 1, n))
    y = torch.bmm(grouped, C.float().reshape(b * g, n, 1)).view(b, h, p)
    return y.to(x.dtype), new
