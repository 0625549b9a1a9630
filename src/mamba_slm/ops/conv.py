"""Causal depthwise convolution over time: the definition, the fast version, and the window that decoding keeps.

Letters: b batch, t time, c channels, k taps.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from mamba_slm.ops.kernels import loaded_kernel
from mamba_slm.ops.shapes import check_shapes


def causal_conv_reference(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    *,
    window: Tensor | None = None,
    document_ids: Tensor | None = None,
) -> Tensor:
    """Sum the last k inputs of each channel, tap by tap.

        y[t] = bias + Σ_i weight[:, k-1-i] * x[t-i],   i = 0 … k-1

    Args:
        x: [b t c] inputs.
        weight: [c k]; the last column multiplies the newest input.
        bias: [c].
        window: [b k-1 c] inputs before x[0], oldest first; None means zeros. Its inputs belong to the document of x[0].
        document_ids: [b t]; taps that reach into another document are dropped.

    Returns:
        y [b t c] in the dtype of x.

    Raises:
        ShapeError: two arguments disagree about one of the letters.
    """
    size = check_shapes(x=(x, "b t c"), weight=(weight, "c k"), bias=(bias, "c"))
    t, taps = size["t"], size["k"]
    padded = with_window(x, window, taps)
    y = bias.float().expand(x.shape)
    for back in range(taps):
        shifted = padded[:, taps - 1 - back : taps - 1 - back + t].float()
        if document_ids is not None and back:
            ids_before = torch.cat([document_ids[:, :1].expand(-1, back), document_ids[:, : max(t - back, 0)]], dim=1)
            shifted = shifted * (ids_before[:, :t] == document_ids)[..., None]
        y = y + weight[:, taps - 1 - back].float() * shifted
    return y.to(x.dtype)


def causal_conv(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    *,
    window: Tensor | None = None,
    document_ids: Tensor | None = None,
) -> Tensor:
    """`causal_conv_reference` as one depthwise convolution over channels-last memory, in float32.

    Outputs next to a document boundary are few and computed apart; the gradients are two more such convolutions instead
    of the slow general ones. Under torch.compile it is the definition, which the compiler fuses.
    """
    if torch.compiler.is_compiling():
        return causal_conv_reference(x, weight, bias, window=window, document_ids=document_ids)
    check_shapes(x=(x, "b t c"), weight=(weight, "c k"), bias=(bias, "c"))
    with torch.autocast(x.device.type, enabled=False):
        padded = with_window(x.float(), None if window is None else window.float(), weight.shape[1])
        return DepthwiseConv.apply(padded, weight.float(), bias.float(), document_ids).to(x.dtype)


def causal_conv_silu_reference(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    *,
    window: Tensor | None = None,
    document_ids: Tensor | None = None,
) -> Tensor:
    """silu of `causal_conv_reference`, in float32 whatever the dtype of x: the definition."""
    return F.silu(causal_conv_reference(x.float(), weight, bias, window=window, document_ids=document_ids))


def causal_conv_silu(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    *,
    window: Tensor | None = None,
    document_ids: Tensor | None = None,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """`causal_conv_silu_reference` by `causal_conv`, or by a kernel that reads x where it lies; rounded to `dtype`."""
    settings = {"window": window, "document_ids": document_ids}
    kernel = loaded_kernel("causal_conv_silu", x.device.type, x, weight, bias, dtype=dtype, **settings)
    if kernel is not None:
        return kernel(x, weight, bias, dtype=dtype, **settings)
    overwrite = not (torch.is_grad_enabled() or torch.compiler.is_compiling())  # then no backward pass reads it
    return F.silu(causal_conv(x.float(), weight, bias, **settings), inplace=overwrite).to(dtype)


def causal_conv_step(x: Tensor, weight: Tensor, bias: Tensor, *, window: Tensor) -> Tensor:
    """One token: x [b c] and the k-1 inputs before it, window [b k-1 c], to y [b c] in the dtype of x."""
    inputs = torch.cat([window.float(), x[:, None].float()], dim=1)
    return ((inputs * weight.float().t()).sum(dim=1) + bias.float()).to(x.dtype)


def with_window(x: Tensor, window: Tensor | None, taps: int) -> Tensor:
    """Put the k-1 earlier inputs (zeros for None) before x: [b t c] to [b k-1+t c]."""
    if window is None:
        return F.pad(x, (0, 0, taps - 1, 0))
    return torch.cat([window.to(x.dtype), x], dim=1)


def depthwise(padded: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """[b k-1+t c] and [c k] to [b t c]. The transposed view is channels-last memory, the layout of the fast kernels."""
    image = padded.transpose(1, 2).unsqueeze(2)  # [b c 1 t]
    return F.conv2d(image, weight[:, None, None, :], bias, groups=weight.shape[0]).squeeze(2).transpose(1, 2)


class DepthwiseConv(torch.autograd.Function):
    """Convolution and its gradients; saves its inputs only.

    Outputs and gradients next to a document boundary are computed apart and put in place. Taking the contribution of
    the other document back would leave rounding errors of it, also in its gradient.
    """

    @staticmethod
    def forward(ctx, padded: Tensor, weight: Tensor, bias: Tensor, document_ids: Tensor | None) -> Tensor:  # type: ignore[override]
        taps = weight.shape[1]
        ids = None if document_ids is None else ids_of_inputs(document_ids, taps)
        ctx.save_for_backward(padded, weight)
        ctx.ids = ids
        y = depthwise(padded, weight, bias)
        if ids is not None:
            rows, positions, columns, own = outputs_at_boundaries(ids, taps)
            inputs = padded[rows[:, None], positions[:, None] + columns].masked_fill(~own[..., None], 0)
            y[rows, positions] = torch.einsum("mkc,ck->mc", inputs, weight) + bias
        return y

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None, None]:  # type: ignore[override]
        padded, weight = ctx.saved_tensors
        taps, t = weight.shape[1], grad.shape[1]
        grad = grad.contiguous()
        grad_padded = depthwise(F.pad(grad, (0, 0, taps - 1, taps - 1)), weight.flip(1), None)
        grad_weight = torch.stack([(padded[:, i : i + t] * grad).sum(dim=(0, 1)) for i in range(taps)], dim=1)
        if ctx.ids is not None:
            rows, positions, columns, own = outputs_at_boundaries(ctx.ids, taps)
            foreign = padded[rows[:, None], positions[:, None] + columns].masked_fill(own[..., None], 0)
            grad_weight -= torch.einsum("mkc,mc->ck", foreign, grad[rows, positions])
            rows, sources, columns, own = inputs_at_boundaries(ctx.ids, taps)
            readers = grad[rows[:, None], (sources[:, None] - columns).clamp(0, t - 1)].masked_fill(~own[..., None], 0)
            grad_padded[rows, sources] = torch.einsum("mkc,ck->mc", readers, weight)
        return grad_padded, grad_weight, grad.sum(dim=(0, 1)), None


def ids_of_inputs(document_ids: Tensor, taps: int) -> Tensor:
    """Document of every input of the convolution, the window included: [b t] to [b k-1+t]."""
    return torch.cat([document_ids[:, :1].expand(-1, taps - 1), document_ids], dim=1)


def outputs_at_boundaries(ids: Tensor, taps: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Row and position [m] of every output that would read another document, all columns [k], and which it may read.

    Output i reads input i + column through that column of the weight.
    """
    own = ids.unfold(1, taps, 1) == ids[:, taps - 1 :, None]  # [b t k]
    rows, positions = (~own.all(dim=2)).nonzero(as_tuple=True)
    return rows, positions, torch.arange(taps, device=ids.device), own[rows, positions]


def inputs_at_boundaries(ids: Tensor, taps: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Row and index [m] of every input that another document would read, all columns [k], and which ones read it.

    Input j is read through a column by output j - column, whose own input is j - column + k - 1.
    """
    none = torch.iinfo(ids.dtype).min  # an id that no document has, behind the end
    ahead = F.pad(ids, (0, taps - 1), value=none).unfold(1, taps, 1)  # [b k-1+t k]: ids of inputs j … j + k - 1
    own = (ahead == ids[..., None]).flip(2)  # by column
    columns = torch.arange(taps, device=ids.device)
    own &= torch.arange(ids.shape[1], device=ids.device)[:, None] >= columns
    rows, sources = ((ahead != ids[..., None]) & (ahead != none)).any(dim=2).nonzero(as_tuple=True)
    return rows, sources, columns, own[rows, sources]
