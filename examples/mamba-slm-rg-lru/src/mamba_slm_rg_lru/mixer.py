"""The recurrence itself.

    gate, x, r, i = in_proj(u)                         four parts of the inner size
    x = convolution(x)                                 causal, depthwise
    a = exp(-c softplus(A_log) sigmoid(r)),  c = 8     how much of the state stays
    h = a h + √(1 - a²) (sigmoid(i) x)                 the state
    y = out_proj(gelu(gate) h)

Source: De et al., Griffin, arXiv:2402.19427, section 2.4, with one matrix for all four inputs in place of
block-diagonal gates. Padding changes nothing: there a is 1 and the input 0.

Letters: b batch, t time, d width, i inner size, w taps - 1.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mamba_slm.model.config import ModelConfig
from mamba_slm.model.context import CallContext
from mamba_slm.model.plugin_mixer import PluginMixer
from mamba_slm.model.projection import Projection, product_dtype
from mamba_slm.model.state import PluginState
from mamba_slm.ops.conv import causal_conv_silu
from mamba_slm_rg_lru.description import Settings, inner_size

SHARPNESS = 8.0
"""The paper's c."""
SLOWEST, FASTEST = 0.9, 0.999
"""Range of a at the start, for an open gate."""


class RealGatedRecurrence(PluginMixer):
    """One R sublayer."""

    kept_float32 = ("A_log", "conv_weight", "conv_bias")

    def __init__(self, config: ModelConfig, settings: Settings):
        super().__init__(config, settings)
        self.inner = inner_size(config, settings)
        self.in_proj = Projection(config.hidden_size, 4 * self.inner)
        self.conv_weight = nn.Parameter(torch.empty(self.inner, settings.conv_kernel))
        self.conv_bias = nn.Parameter(torch.empty(self.inner))
        self.A_log = nn.Parameter(torch.empty(self.inner))
        self.out_proj = Projection(self.inner, config.hidden_size)

    def initialize(self, generator: torch.Generator | None, *, residual_scale: float) -> None:
        """Projections as mamba-slm has them; a² uniform between the squares of the two ends."""
        for projection, scale in ((self.in_proj, 1.0), (self.out_proj, residual_scale)):
            bound = scale / math.sqrt(projection.in_features)
            projection.weight.uniform_(-bound, bound, generator=generator)
        bound = 1 / math.sqrt(self.conv_weight.shape[1])
        self.conv_weight.uniform_(-bound, bound, generator=generator)
        self.conv_bias.zero_()
        squares = torch.empty_like(self.A_log).uniform_(SLOWEST**2, FASTEST**2, generator=generator)
        rate = -0.5 * squares.log() / SHARPNESS  # softplus(A_log) for this decay
        self.A_log.copy_(rate + torch.log(-torch.expm1(-rate)))

    def forward(self, u: Tensor, context: CallContext, state: PluginState | None) -> Tensor:
        """[b t d] to [b t d]; float32 between the two projections."""
        u = u.to(product_dtype(self.in_proj.weight))
        mask = None if context.padding_mask is None else context.padding_mask[..., None]
        if mask is not None:
            u = u * mask
        gate, raw, decay_gate, input_gate = self.in_proj(u).split(self.inner, dim=-1)
        window = None if state is None else state.tensors["window"]
        x = causal_conv_silu(
            raw,
            self.conv_weight,
            self.conv_bias,
            window=window,
            document_ids=context.document_ids,
            dtype=torch.float32,
        )
        log_a = -SHARPNESS * F.softplus(self.A_log.float()) * torch.sigmoid(decay_gate.float())
        driven = torch.sqrt(-torch.expm1(2 * log_a)) * torch.sigmoid(input_gate.float()) * x
        if mask is not None:
            log_a, driven = log_a * mask, driven * mask
        before = None if state is None else state.tensors["hidden"]
        h = linear_recurrence(log_a, driven, before, context.document_ids)
        if state is not None:
            assert window is not None
            state.tensors = {"window": last_inputs(raw, context.padding_mask, window), "hidden": h[:, -1]}
        return self.out_proj((F.gelu(gate.float()) * h).to(u.dtype))


def linear_recurrence(log_a: Tensor, driven: Tensor, before: Tensor | None, document_ids: Tensor | None) -> Tensor:
    """h[t] = exp(log_a[t]) h[t-1] + driven[t], one step after the other.

    Args:
        log_a, driven: [b t i]; before: [b i] or None for zeros.
        document_ids: [b t] or None; h is zero before the first token of a document.
    """
    a = log_a.exp()
    if document_ids is not None:
        starts = F.pad(document_ids[:, 1:] != document_ids[:, :-1], (1, 0))
        a = a.masked_fill(starts[..., None], 0.0)
    h = torch.zeros_like(driven[:, 0]) if before is None else before
    steps = []
    for keep, new in zip(a.unbind(dim=1), driven.unbind(dim=1), strict=True):
        h = torch.addcmul(new, keep, h)
        steps.append(h)
    return torch.stack(steps, dim=1)


def last_inputs(raw: Tensor, padding_mask: Tensor | None, window: Tensor) -> Tensor:
    """The last w real inputs [b w i] of each row, older ones from the window before."""
    w = window.shape[1]
    inputs = torch.cat([window, raw.to(window.dtype)], dim=1)
    if padding_mask is None:
        return inputs[:, inputs.shape[1] - w :]
    numbers = torch.arange(1, raw.shape[1] + 1, device=raw.device)
    end = (padding_mask.long() * numbers).amax(dim=1)  # one past the last real input
    index = end[:, None] + torch.arange(w, device=raw.device)
    return inputs.gather(1, index[..., None].expand(-1, -1, inputs.shape[2]))
