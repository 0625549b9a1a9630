"""The Mamba-2 mixer.

Letters: b batch, t time, d width, i inner size, h heads, p head dim, g groups, n state, c = i + 2gn, w taps - 1.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mamba_slm.core.errors import UsageError
from mamba_slm.model.config import ModelConfig
from mamba_slm.model.context import CallContext
from mamba_slm.model.kept_float32 import KeptFloat32
from mamba_slm.model.projection import Projection, product_dtype
from mamba_slm.model.state import MambaHistory, MambaState
from mamba_slm.ops.conv import causal_conv_silu, causal_conv_step
from mamba_slm.ops.norm import gated_rms_norm
from mamba_slm.ops.ssd import AUTOMATIC, scan_dtype, ssd_scan_with_skip, ssd_step


class GatedRMSNorm(KeptFloat32):
    """The norm between scan and output projection; a module so that its weight has the name that other runtimes use."""

    kept_float32 = ("weight",)

    def __init__(self, size: int, *, eps: float, num_groups: int):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps, self.num_groups = eps, num_groups

    def forward(self, x: Tensor, gate: Tensor) -> Tensor:
        """[... c] in the dtype of the gate."""
        return gated_rms_norm(x, gate, self.weight, eps=self.eps, num_groups=self.num_groups, dtype=gate.dtype)


class Mamba2(KeptFloat32):
    """in_proj → convolution and SiLU over x, B, C → scan → gated norm → out_proj.

    `A_log`, `D`, `dt_bias` and the convolution are float32 whatever the rest is, and so is all that happens between the
    two projections. Padding is an exact no-op: inputs and convolved values are zeroed and dt is 0 there.
    """

    kept_float32 = ("A_log", "D", "dt_bias", "conv_weight", "conv_bias")

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.config = config
        self.scan_backend = AUTOMATIC
        self.in_proj = Projection(config.hidden_size, config.in_proj_size)
        self.conv_weight = nn.Parameter(torch.empty(config.conv_size, config.conv_kernel))
        self.conv_bias = nn.Parameter(torch.empty(config.conv_size))
        self.A_log = nn.Parameter(torch.empty(config.num_ssm_heads))
        self.D = nn.Parameter(torch.empty(config.num_ssm_heads))
        self.dt_bias = nn.Parameter(torch.empty(config.num_ssm_heads))
        self.norm = GatedRMSNorm(config.inner_size, eps=config.norm_eps, num_groups=config.num_groups)
        self.out_proj = Projection(config.inner_size, config.hidden_size)

    def forward(self, u: Tensor, context: CallContext, state: MambaState | None) -> Tensor:
        """[b t d] to [b t d], or [b 1 d] with `last_only`; advances `state` if there is one."""
        c, u = self.config, u.to(product_dtype(self.in_proj.weight))
        mask = None if context.padding_mask is None else context.padding_mask[..., None]
        if mask is not None:
            u = u * mask
        z, xBC, dt = self.in_proj(u).split([c.inner_size, c.conv_size, c.num_ssm_heads], dim=-1)
        if state is not None and state.history is not None:
            state.history.inputs.append((xBC, dt, mask))
        if state is not None and u.shape[1] == 1 and mask is None:
            y = self.step(xBC[:, 0], dt[:, 0], state)[:, None]
        else:
            y = self.scan(xBC, dt, mask, context.document_ids, state)
        if context.last_only:
            y, z = y[:, -1:], z[:, -1:]
        return self.out_proj(self.norm(y, z))

    def scan(
        self, xBC: Tensor, dt: Tensor, mask: Tensor | None, document_ids: Tensor | None, state: MambaState | None
    ) -> Tensor:
        """Convolution and scan of a whole sequence: [b t c], [b t h] to float32 [b t i]."""
        window = None if state is None else state.window
        x, B, C, dt = self.scan_inputs(xBC, dt, mask, document_ids, window)
        y, ssm = self.ssd(x, dt, B, C, document_ids, None if state is None else state.ssm)
        if state is not None:
            state.ssm = ssm
            state.window = last_real_inputs(xBC, mask, state.window)
        return y.flatten(2)

    def scan_and_keep(
        self, xBC: Tensor, dt: Tensor, state: MambaState, cuts: Sequence[int]
    ) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
        """`scan` of one row without padding, and windows [w c] and SSM states [h p n] after so many of its tokens.

        Args:
            cuts: ascending, less than t. The scan stops there, so that nothing is computed twice.
        """
        x, B, C, inputs_dt = self.scan_inputs(xBC, dt, None, None, state.window)
        parts: list[Tensor] = []
        kept: list[tuple[Tensor, Tensor]] = []
        start, window = 0, state.window
        for end in (*cuts, xBC.shape[1]):
            of = (slice(None), slice(start, end))
            y, state.ssm = self.ssd(x[of], inputs_dt[of], B[of], C[of], None, state.ssm)
            state.window = last_real_inputs(xBC[:, :end], None, window)
            parts.append(y)
            kept.append((state.window[0], state.ssm[0]))
            start = end
        return (parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)).flatten(2), kept[:-1]

    def scan_inputs(
        self, xBC: Tensor, dt: Tensor, mask: Tensor | None, document_ids: Tensor | None, window: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """What the scan reads: x [b t h p], B and C [b t g n] behind the convolution, and dt [b t h] in float32."""
        convolved = causal_conv_silu(
            xBC,
            self.conv_weight,
            self.conv_bias,
            window=window,
            document_ids=document_ids,
            dtype=scan_dtype(xBC.dtype, xBC.device.type, self.scan_backend),
        )
        dt = F.softplus(dt.float() + self.dt_bias.float())
        if mask is not None:
            convolved, dt = convolved * mask, dt * mask
        return *self.split_convolved(convolved), dt

    def ssd(
        self, x: Tensor, dt: Tensor, B: Tensor, C: Tensor, document_ids: Tensor | None, ssm: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """The scan alone, from an SSM state on: y [b t h p] and the state after it."""
        return ssd_scan_with_skip(
            x,
            dt,
            -torch.exp(self.A_log.float()),
            B,
            C,
            self.D.float(),
            state=ssm,
            document_ids=document_ids,
            chunk_size=self.config.chunk_size,
            backend=self.scan_backend,
        )

    def step(self, xBC: Tensor, dt: Tensor, state: MambaState) -> Tensor:
        """One token: [b c], [b h] to float32 [b i]. Overwrites the SSM state, unless a history still needs it."""
        raw = xBC.float()
        convolved = F.silu(causal_conv_step(raw, self.conv_weight, self.conv_bias, window=state.window))
        x, B, C = self.split_convolved(convolved)
        dt = F.softplus(dt.float() + self.dt_bias.float())
        A = -torch.exp(self.A_log.float())
        y, state.ssm = ssd_step(x, dt, A, B, C, state=state.ssm, in_place=state.history is None)
        state.window = torch.cat([state.window[:, 1:], raw[:, None].to(state.window.dtype)], dim=1)
        return torch.addcmul(y, self.D.float()[:, None], x).flatten(1)

    def undo(self, state: MambaState, num_tokens: int, *, forget: bool = True) -> None:
        """Go back by the last `num_tokens` (padding included) of those in the state's history.

        With `forget` the history starts anew there; without, one may go back further later.

        The tokens that stay are read again from what the projection made of them, so this costs a convolution and a
        short scan, and the state differs from the one at that time in its last bits at most.

        Raises:
            UsageError: there is no history, or it holds fewer tokens.
        """
        history = state.history
        have = 0 if history is None else sum(dt.shape[1] for _, dt, _ in history.inputs)
        if history is None or num_tokens > have:
            raise UsageError(f"cannot go back {num_tokens} tokens: the state's history holds {have}")
        inputs = history.inputs
        if num_tokens:
            state.window, state.ssm, state.history, inputs = history.window, history.ssm, None, []
            if num_tokens < have:
                xBC = torch.cat([xBC for xBC, _, _ in history.inputs], dim=1)[:, :-num_tokens]
                dt = torch.cat([dt for _, dt, _ in history.inputs], dim=1)[:, :-num_tokens]
                mask = None
                if any(mask is not None for _, _, mask in history.inputs):
                    masks = [
                        torch.ones_like(dt[..., :1], dtype=torch.bool) if mask is None else mask
                        for _, dt, mask in history.inputs
                    ]
                    mask = torch.cat(masks, dim=1)[:, :-num_tokens]
                self.scan(xBC, dt, mask, None, state)
                inputs = [(xBC, dt, mask)]
        if forget:
            state.history = MambaHistory(window=state.window, ssm=state.ssm)
        else:
            state.history = MambaHistory(window=history.window, ssm=history.ssm, inputs=inputs)

    def split_convolved(self, convolved: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """[... c] to x [... h p], B and C [... g n]."""
        c = self.config
        x, B, C = convolved.split([c.inner_size, c.num_groups * c.state_size, c.num_groups * c.state_size], dim=-1)
        grouped = (c.num_groups, c.state_size)
        return x.unflatten(-1, (c.num_ssm_heads, c.ssm_head_dim)), B.unflatten(-1, grouped), C.unflatten(-1, grouped)


def last_real_inputs(raw: Tensor, mask: Tensor | None, window: Tensor) -> Tensor:
    """The next convolution window: the last w real inputs of each row, looking back into the old window if needed.

    Args:
        raw: [b t c]; mask: [b t 1] or None; window: [b w c].
    """
    w, t = window.shape[1], raw.shape[1]
    if mask is None:
        return torch.cat([window[:, min(t, w) :], raw[:, max(t - w, 0) :].to(window.dtype)], dim=1)
    inputs = torch.cat([window, raw.to(window.dtype)], dim=1)
    numbers = torch.arange(1, t + 1, device=raw.device)
    end = (mask[..., 0].long() * numbers).amax(dim=1)  # [b] one past the last real input; 0 if the row is all padding
    index = end[:, None] + torch.arange(w, device=raw.device)
    return inputs.gather(1, index[..., None].expand(-1, -1, inputs.shape[2]))
