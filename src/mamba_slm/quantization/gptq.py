"""GPTQ: codes of a matrix chosen one input after the other, each making up for the errors of those before it.

For outputs y = W x and codes of Ŵ it makes E |(W - Ŵ) x|^2 small instead of |W - Ŵ|^2. With U the upper Cholesky factor
of the inverse of H = E x x^T, rounding input j of a row with error e = (w_j - ŵ_j) / U_jj changes the weights of later
inputs k by -e U_jk, and the next input sees them. Source: Frantar et al., arXiv 2210.17323.

Letters: o outputs, i inputs, k blocks of a row, q inputs of a block.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mamba_slm.core.errors import CheckFailedError, ConfigError, ShapeError
from mamba_slm.ops.lowbit.blocks import QuantizedBlocks, blocks_of_codes, nearest_codes, scales_of, values_of
from mamba_slm.ops.lowbit.nested import nest
from mamba_slm.ops.lowbit.scheme import Scheme
from mamba_slm.quantization.scales import least_squares_scales

SLICE_WEIGHTS = 1 << 24
"""Weights of the rows that are worked on at once; rows do not depend on each other, so this bounds memory only."""
COLUMNS = 128
"""Inputs after which the rest of the row is brought up to date, where blocks have their scales beforehand."""


@dataclass(frozen=True, kw_only=True)
class GptqConfig:
    """How GPTQ works; the defaults are what proved best (docs/log.md)."""

    damp: float = 0.01
    """Added to the diagonal of the inputs' second moments, as a share of its mean: more trusts few tokens less."""

    act_order: bool = False
    """Round the inputs that vary most first. Scales are then chosen before, not from the weights as corrected."""

    fit_scales: bool = True
    """Choose scales by least squares, weighing each input by how much it matters; else to fit the largest weight."""

    def __post_init__(self) -> None:
        if not 0 < self.damp <= 1:
            raise ConfigError(f"damp must lie in (0, 1], got {self.damp}")


def gptq(weight: Tensor, moments: Tensor, scheme: Scheme, config: GptqConfig | None = None) -> QuantizedBlocks:
    """Codes and scales of a matrix, given the inputs' mean x x^T.

    Costs o i^2 multiplications, and i^3 for the Cholesky factor, which is computed in float64.

    Args:
        weight: [o i] floating point; it is not changed.
        moments: [i i], see `walk.second_moments`.
        scheme: `fitted` to the row here.

    Raises:
        ShapeError: no block divides a row, or `moments` has another size.
        CheckFailedError: the moments are not finite.
    """
    config = config or GptqConfig()
    i = weight.shape[1]
    fitted = scheme.fitted(i)
    if fitted is None:
        raise ShapeError(f"no block of 8 or more divides rows of {i} inputs", hint="leave this matrix in bfloat16")
    if moments.shape != (i, i):
        raise ShapeError(f"moments have shape {tuple(moments.shape)}, rows have {i} inputs")
    order = torch.arange(i, device=weight.device)
    if config.act_order:
        order = torch.argsort(moments.diagonal(), descending=True, stable=True).to(weight.device)
    factor = inverse_factor(moments[order][:, order], config.damp).to(weight.device)
    importance = torch.empty_like(factor.diagonal())
    importance[order] = factor.diagonal().square().reciprocal()
    rounding = Rounding(fitted, config, factor, order, importance)
    return rounding.of(weight)


@dataclass(frozen=True)
class Rounding:
    """What all rows of a matrix share."""

    scheme: Scheme
    config: GptqConfig
    factor: Tensor
    """[i i] float32: U, for the inputs in the order in which they are rounded."""
    order: Tensor
    """[i] int64."""
    importance: Tensor
    """[i] 1 / U_jj^2 of each input, in the order of the row: how much its rounding error costs."""

    @property
    def has_scales_beforehand(self) -> bool:
        """Whether scales come from the weights as they are, not from those that make up for earlier inputs."""
        return self.config.act_order or self.scheme.double or self.scheme.block_size == 0

    def scales_of(self, weight: Tensor, importance: Tensor) -> tuple[Tensor, Tensor | None]:
        """Scales and zero points of whole blocks [r n] float32."""
        if self.config.fit_scales:
            return least_squares_scales(weight, self.scheme, importance)
        return scales_of(weight, self.scheme)

    def of(self, weight: Tensor) -> QuantizedBlocks:
        """The whole matrix [o i], some rows at a time."""
        step = max(1, SLICE_WEIGHTS // weight.shape[1])
        slices = weight.detach().split(step)
        scales, zeros, nested = None, None, None
        if self.has_scales_beforehand:
            parts = [self.scales_of(rows.float(), self.importance) for rows in slices]
            scales, zeros = joined(parts)
            if self.scheme.double:
                nested = nest(scales)
                scales = nested.values()
        codes, found = [], []
        for number, rows in enumerate(slices):
            own = [None if each is None else each[number * step :][: len(rows)] for each in (scales, zeros)]
            chosen, *used = self.of_rows(rows.float(), own[0], own[1])
            codes.append(chosen)
            found.append((used[0], used[1]))
        scales, zeros = joined(found)
        return blocks_of_codes(torch.cat(codes), scales, zeros, self.scheme, nested=nested)

    def of_rows(
        self, weight: Tensor, scales: Tensor | None, zeros: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Codes [r i], scales [r k] and zero points of rows [r i] float32; scales that are given stay."""
        r, i = weight.shape
        q = self.scheme.block_size or i
        inputs = weight.T[self.order].contiguous()  # [i r], so that one input of all rows lies together
        codes = torch.empty(i, r, dtype=torch.uint8, device=weight.device)
        step, found = (q, []) if scales is None else (COLUMNS, [])
        for start in range(0, i, step):
            end = min(start + step, i)
            factor, piece = self.factor[start:end, start:end], inputs[start:end]
            errors = torch.empty_like(piece)
            if scales is None:
                found.append(self.scales_of(piece.T.contiguous(), self.importance[start:end]))
            for j in range(end - start):
                place = int(self.order[start + j])
                if scales is None:
                    scale, zero = found[-1]
                else:
                    block = slice(place // q, place // q + 1)
                    scale, zero = scales[:, block], None if zeros is None else zeros[:, block]
                chosen = nearest_codes(piece[j][:, None], scale, zero, self.scheme)
                codes[place] = chosen[:, 0]
                values = values_of(chosen, scale, zero, self.scheme)[:, 0]
                errors[j] = (piece[j] - values) / factor[j, j]
                piece[j + 1 :].addr_(factor[j, j + 1 :], errors[j], alpha=-1)
            inputs[end:].addmm_(self.factor[start:end, end:].T, errors, alpha=-1)
        if scales is None:
            scales, zeros = joined(found, dim=1)
        return codes.T.contiguous(), scales, zeros


def joined(parts: list[tuple[Tensor, Tensor | None]], dim: int = 0) -> tuple[Tensor, Tensor | None]:
    """Scales and zero points of all parts."""
    zeros = [zero for _, zero in parts if zero is not None]
    return torch.cat([scale for scale, _ in parts], dim=dim), torch.cat(zeros, dim=dim) if zeros else None


def inverse_factor(moments: Tensor, damp: float) -> Tensor:
    """U upper triangular with U^T U = (moments + damping)^-1, [i i] float32.

    Raises:
        CheckFailedError: the moments are not finite.
    """
    damped = moments.double()
    if not bool(damped.isfinite().all()):
        raise CheckFailedError(
            "the activations on the calibration text are not finite",
            hint="the model's weights are damaged or diverged in training; try an earlier checkpoint",
        )
    diagonal = damped.diagonal()
    mean = float(diagonal.mean()) or 1.0  # inputs that are always zero say nothing: then this rounds to the nearest
    damped = damped + damp * mean * torch.eye(len(damped), dtype=torch.float64, device=damped.device)
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(damped))
    return torch.linalg.cholesky(inverse, upper=True).float()
