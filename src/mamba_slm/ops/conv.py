"""Causal depthwise convolution over time: the definition, the fast version, and the window that decoding keeps.

Letters: b batch, t time, c channels, k taps.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

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

    Taps across a document boundary are few, so their contribution is computed apart and taken back; the gradients are
    two more such convolutions instead of the slow general ones.
    """
    check_shapes(x=(x, "b t c"), weight=(weight, "c k"), bias=(bias, "c"))
    with torch.autocast(x.device.type, enabled=False):
        padded = with_window(x.float(), None if window is None else window.float(), weight.shape[1])
        return DepthwiseConv.apply(padded, weight.float(), bias.float(), document_ids).to(x.dtype)


def causal_conv_step(x: Tensor, weight: Tensor, bias: Tensor, *, window: Tensor) -> Tensor:
    """One token: x [b c] and the k-1 inputs before it, window [b k-1 c], to y [b c] in the dtype of x."""
    inputs = torch.cat([window.float(), x[:, None].float()], dim=1)
    return (torch.einsum("bkc,ck->bc", inputs, weight.float()) + bias.float()).to(x.dtype)


def with_window(x: Tensor, window: Tensor | None, taps: int) -> Tensor:
    """Put the k-1 earlier inputs (zeros for None) before x: [b t c] to [b k-1+t c]."""
    if window is None:
        return F.pad(x, (0, 0, taps - 1, 0))
    return torch.cat([window.to(x.dtype), x], dim=1)


def depthwise(padded: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """[b k-1+t c] and [c k] to [b t c]. The transposed view is channels-last memory, the layout of the fast kernels."""
    image = padded.transpose(1, 2).unsqueeze(2)  # [b c 1 t]
    return F.conv2d(image, weight[:, None, None, :], bias, groups=weight.shape[0]).squeeze(2).transpose(1, 2)


def taps_across_documents(document_ids: Tensor, back: int) -> tuple[Tensor, Tensor]:
    """Row and position of every output whose tap `back` steps earlier lies in another document."""
    rows, positions = (document_ids[:, back:] != document_ids[:, :-back]).nonzero(as_tuple=True)
    return rows, positions + back


class DepthwiseConv(torch.autograd.Function):
    """Convolution and its gradients; saves its inputs only."""

    @staticmethod
    def forward(ctx, padded: Tensor, weight: Tensor, bias: Tensor, document_ids: Tensor | None) -> Tensor:  # type: ignore[override]
        ctx.save_for_backward(padded, weight)
        ctx.document_ids = document_ids
        y = depthwise(padded, weight, bias)
        taps = weight.shape[1]
        if document_ids is not None:
            for back in range(1, min(taps, y.shape[1])):
                rows, positions = taps_across_documents(document_ids, back)
                crossing = weight[:, taps - 1 - back] * padded[rows, positions + taps - 1 - back]
                y[rows, positions] = y[rows, positions] - crossing
        return y

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None, None]:  # type: ignore[override]
        padded, weight = ctx.saved_tensors
        taps, t = weight.shape[1], grad.shape[1]
        grad = grad.contiguous()
        grad_padded = depthwise(F.pad(grad, (0, 0, taps - 1, taps - 1)), weight.flip(1), None)
        columns = [(padded[:, i : i + t] * grad).sum(dim=(0, 1)) for i in range(taps)]
        if ctx.document_ids is not None:
            for back in range(1, min(taps, t)):
                rows, positions = taps_across_documents(ctx.document_ids, back)
                source, column = positions + taps - 1 - back, taps - 1 - back
                at_boundary = grad[rows, positions]
                columns[column] = columns[column] - (padded[rows, source] * at_boundary).sum(dim=0)
                grad_padded.index_put_((rows, source), -weight[:, column] * at_boundary, accumulate=True)
        return grad_padded, torch.stack(columns, dim=1), grad.sum(dim=(0, 1)), None
