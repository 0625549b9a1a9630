"""The formulas of one decoding step, cut into regions that repeat from layer to layer.

A region is a string of letters; neighbours are compiled together:

    q  norm, query, key and value of an attention sublayer, rotated
    o  the rest of it: output projection and residual
    M  a Mamba-2 sublayer; advances its state in place
    -  a SwiGLU sublayer
    h  final norm and head

Between `q` and `o` stands attention over the cache, which grows and is not compiled. A pattern such as `*-M-M-` becomes
q, o-, M-, M-, h: four kinds, whatever the depth of the model.

Everything is float32 except matrices, keys and values, and convolution windows, which keep the dtype they are stored
in: a row times a matrix costs the reading of the matrix, so arithmetic in float32 costs nothing.

Letters: d width, i inner size, c convolution channels, w taps - 1, h heads, p head dim, g groups, n state, o outputs.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mamba_slm.model.attention import Attention
from mamba_slm.model.config import ModelConfig
from mamba_slm.model.mamba2 import Mamba2
from mamba_slm.model.stack import LanguageModel, Sublayer
from mamba_slm.model.swiglu import SwiGLU
from mamba_slm.ops.conv import causal_conv_step
from mamba_slm.ops.norm import gated_rms_norm_reference, rms_norm_reference
from mamba_slm.ops.rope import apply_rope


def regions_of(pattern: str) -> list[str]:
    """The regions of a pattern in order.

    >>> regions_of("*-M-M-")
    ['q', 'o-', 'M-', 'M-', 'h']
    """
    return re.findall(r"q|[oM]?-+|[oM]|h", pattern.replace("*", "qo") + "h")


def row_product(x: Tensor, weight: Tensor) -> Tensor:
    """x [1 i] float32 times weight [o i] transposed, as a sum that the compiler turns into one pass over the matrix."""
    return (x * weight.float()).sum(dim=-1)[None]


class Region(nn.Module):
    """The formula of one region. `forward(h [1 d], *tensors)`; the tensors of each letter follow one another.

    | letter | tensors |
    |---|---|
    | q | cos, sin [1 1 p] where positions are rotary; norm; q, k, v projections |
    | o | attended [1 h*p]; output projection |
    | M | window [1 w c], ssm [1 h p n] (both overwritten); norm; in_proj; convolution weight and bias; dt_bias; A = -exp(A_log); D; gated norm; out_proj |
    | - | norm; gate_up_proj; down_proj |
    | h | norm; head |

    Returns q [1 h p], k and v [1 kv p] for `q`; logits [1 v] for `h`; else h [1 d].
    """  # noqa: E501

    def __init__(self, letters: str, config: ModelConfig):
        super().__init__()
        self.letters, self.config = letters, config

    def forward(self, h: Tensor, *tensors: Tensor) -> Tensor | tuple[Tensor, Tensor, Tensor]:
        remaining = iter(tensors)
        for letter in self.letters:
            if letter == "q":
                return self.query(h, remaining)
            if letter == "h":
                norm, weight = next(remaining), next(remaining)
                return row_product(rms_norm_reference(h, norm, eps=self.config.norm_eps), weight)
            h = h + {"o": self.attended, "M": self.mamba, "-": self.feed_forward}[letter](h, remaining)
        return h

    def query(self, h: Tensor, tensors: Iterator[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        rotary = (next(tensors), next(tensors)) if self.config.position == "rope" else None
        u = rms_norm_reference(h, next(tensors), eps=self.config.norm_eps)
        q, k, v = (row_product(u, next(tensors)).unflatten(1, (-1, self.config.head_dim)) for _ in range(3))
        if rotary is not None:
            q, k = (apply_rope(m[:, None], *rotary)[:, 0] for m in (q, k))
        return q, k, v

    def attended(self, h: Tensor, tensors: Iterator[Tensor]) -> Tensor:
        return row_product(next(tensors), next(tensors))

    def feed_forward(self, h: Tensor, tensors: Iterator[Tensor]) -> Tensor:
        u = rms_norm_reference(h, next(tensors), eps=self.config.norm_eps)
        gate, up = row_product(u, next(tensors)).chunk(2, dim=-1)
        return row_product(F.silu(gate) * up, next(tensors))

    def mamba(self, h: Tensor, tensors: Iterator[Tensor]) -> Tensor:
        c = self.config
        window, ssm, norm, in_proj, conv_weight, conv_bias, dt_bias, A, D, gated_norm, out_proj = (
            next(tensors) for _ in range(11)
        )
        u = rms_norm_reference(h, norm, eps=c.norm_eps)
        z, raw, dt = row_product(u, in_proj).split([c.inner_size, c.conv_size, c.num_ssm_heads], dim=-1)
        convolved = F.silu(causal_conv_step(raw, conv_weight, conv_bias, window=window))
        x, B, C = convolved.split([c.inner_size, c.num_groups * c.state_size, c.num_groups * c.state_size], dim=-1)
        x = x.view(1, c.num_ssm_heads, c.ssm_head_dim)
        B, C = (m.view(1, c.num_groups, 1, 1, c.state_size) for m in (B, C))
        dt = F.softplus(dt + dt_bias)
        decay, step = torch.exp(dt * A)[..., None, None], (x * dt[..., None])[..., None]
        grouped = (1, c.num_groups, -1, c.ssm_head_dim, c.state_size)
        new = (decay * ssm).view(grouped) + step.view(*grouped[:-1], 1) * B  # [1 g h/g p n]
        y = (new * C).sum(dim=-1).view_as(x) + D[:, None] * x
        ssm.copy_(new.view_as(ssm))
        window.copy_(torch.cat([window[:, 1:], raw[:, None].to(window.dtype)], dim=1))
        gated = gated_rms_norm_reference(y.flatten(1), z, gated_norm, eps=c.norm_eps, num_groups=c.num_groups)
        return row_product(gated, out_proj)


def weights_of(model: LanguageModel) -> list[list[Tensor]]:
    """The weights of each region of `regions_of(model.config.pattern)`, in the order that `Region` reads them.

    Nothing is copied but A, so weights that change later change here too, and A does not.
    """
    sublayers: Iterator[nn.Module] = iter(model.sublayers)
    found: list[list[Tensor]] = []
    sublayer: Sublayer | None = None
    for letters in regions_of(model.config.pattern):
        weights: list[Tensor] = []
        for letter in letters:
            if letter == "h":
                weights += [model.final_norm.weight, model.head_weight]
                continue
            if letter != "o":  # which belongs to the same sublayer as the q before it
                sublayer = next(sublayers)  # type: ignore[assignment]
            assert sublayer is not None
            weights += sublayer_weights(letter, sublayer)
        found.append([weight.detach() for weight in weights])
    return found


def sublayer_weights(letter: str, sublayer: Sublayer) -> list[Tensor]:
    """The weights that one letter reads from its sublayer."""
    mixer = sublayer.mixer
    match mixer:
        case Attention() if letter == "o":
            return [mixer.o_proj.weight]
        case Attention():
            return [sublayer.norm.weight, mixer.q_proj.weight, mixer.k_proj.weight, mixer.v_proj.weight]
        case Mamba2():
            A = -torch.exp(mixer.A_log.detach().float())
            convolution = [mixer.conv_weight, mixer.conv_bias]
            scan = [mixer.dt_bias, A, mixer.D]
            return [sublayer.norm.weight, mixer.in_proj.weight, *convolution, *scan, mixer.norm.weight,
                    mixer.out_proj.weight]  # fmt: skip
        case SwiGLU():
            return [sublayer.norm.weight, mixer.gate_up_proj.weight, mixer.down_proj.weight]
    raise TypeError(f"no compiled formula for {type(mixer).__name__}")
