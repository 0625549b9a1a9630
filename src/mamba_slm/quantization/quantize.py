"""All matrices of a model by a plan and a method.

Methods: `nearest` rounds each block alone; `hqq` fits its scales to the weights; `gptq` lets calibration text decide,
from the first sublayer to the last, so that each makes up for what those before it have lost. `qat` is `nearest` for
weights that were trained to be rounded so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from mamba_slm.core.errors import UsageError
from mamba_slm.model.matrices import EMBEDDING, HEAD, matrix_names
from mamba_slm.model.quantization import Quantization
from mamba_slm.model.stack import LanguageModel
from mamba_slm.ops.lowbit.blocks import QuantizedBlocks, dequantize, quantize_nearest
from mamba_slm.ops.lowbit.scheme import Scheme
from mamba_slm.quantization.gptq import GptqConfig, gptq
from mamba_slm.quantization.replacing import matrix_of, replaced
from mamba_slm.quantization.scales import with_fitted_scales, with_hqq_scales
from mamba_slm.quantization.walk import Walk, second_moments

Matrices = Mapping[str, QuantizedBlocks | Tensor]
"""By name, in the order of the model; a tensor is a matrix that stays in bfloat16."""
Progress = Callable[[int, int, str], None]
"""(matrices done, all matrices, the name of the one to come)."""
SECOND = ("out_proj", "o_proj", "down_proj")
"""Projections that read what others of their sublayer made."""


def quantize_model(
    model: LanguageModel,
    plan: Quantization,
    *,
    calibration: Sequence[Tensor] = (),
    gptq_config: GptqConfig | None = None,
    progress: Progress = lambda done, total, name: None,
) -> dict[str, QuantizedBlocks | Tensor]:
    """Quantize every matrix that the plan names; the model is as before afterwards.

    Beyond the model and the result, `gptq` needs memory for the residual stream of the calibration tokens (4 bytes
    times their number times the width), the moments of one sublayer's inputs, and one sublayer's matrices once more.

    Args:
        model: floating point.
        calibration: rows of tokens [t] int64, for `gptq` only.
        progress: called before each matrix and at the end.

    Raises:
        UsageError: `gptq` without calibration.
        ConfigError: a weight is not finite.
    """
    plan = plan.for_model(model.config)
    done = Done(plan, matrix_names(model.config), progress)
    if plan.method == "gptq":
        if not calibration:
            raise UsageError("gptq needs text to calibrate with", hint="give it with --calibration FILE")
        with torch.no_grad():
            quantize_along(model, done, calibration, gptq_config or GptqConfig())
    else:
        of = with_hqq_scales if plan.method == "hqq" else quantize_nearest
        for name in done.names:
            done.take(name, matrix_of(model, name), of)
    done.progress(len(done.names), len(done.names), "")
    return {name: done.matrices[name] for name in done.names}


class Done:
    """What is quantized so far."""

    def __init__(self, plan: Quantization, names: Sequence[str], progress: Progress):
        self.plan, self.names, self.progress = plan, names, progress
        self.matrices: dict[str, QuantizedBlocks | Tensor] = {}

    def take(self, name: str, weight: Tensor, of: Callable[[Tensor, Scheme], QuantizedBlocks]) -> None:
        """Quantize one matrix with a function, or leave it in bfloat16 where the plan or its rows want that."""
        self.progress(len(self.matrices), len(self.names), name)
        scheme = self.scheme_of(name, weight)
        self.matrices[name] = weight.detach().to(torch.bfloat16) if scheme is None else of(weight.detach(), scheme)

    def scheme_of(self, name: str, weight: Tensor) -> Scheme | None:
        """The scheme of a matrix, fitted to its rows; None: bfloat16."""
        scheme = self.plan.scheme_of(name)
        return None if scheme is None else scheme.fitted(weight.shape[1])

    def values_of(self, name: str) -> Tensor:
        """What a matrix that is done stands for, float32."""
        found = self.matrices[name]
        return dequantize(found) if isinstance(found, QuantizedBlocks) else found.float()


def quantize_along(model: LanguageModel, done: Done, rows: Sequence[Tensor], config: GptqConfig) -> None:
    """GPTQ from the embedding to the head, each matrix for inputs that come from those quantized before it.

    An embedding alone has no inputs, so its scales are fitted to its weights. One that is the head as well is quantized
    for what the head of the original reads: on a model of 10.6M parameters that cost a quarter of the KL of rounding it
    to the nearest, although its rows then lie a third further from the original's.
    """
    embedding = matrix_of(model, EMBEDDING)
    if model.lm_head is None and done.scheme_of(EMBEDDING, embedding) is not None:
        at_head = moments_at_head(model, rows)
        done.take(EMBEDDING, embedding, lambda weight, scheme: gptq(weight, at_head, scheme, config))
    else:
        done.take(EMBEDDING, embedding, with_fitted_scales)
    with replaced(model, {EMBEDDING: done.values_of(EMBEDDING)}):
        walk = Walk(model, rows)
    for index in range(len(model.sublayers)):
        prefix = f"sublayers.{index}.mixer."
        names = [name.removeprefix(prefix) for name in done.names if name.startswith(prefix)]
        stages = [[name for name in names if name not in SECOND], [name for name in names if name in SECOND]]
        values: dict[str, Tensor] = {}
        for stage in stages:
            with replaced(model, values):
                quantize_stage(model, done, walk, prefix, stage, config)
            values |= {prefix + name: done.values_of(prefix + name) for name in stage}
        with replaced(model, values):
            walk.step()
    if HEAD in done.names:
        weight = matrix_of(model, HEAD)
        moments = second_moments(walk.final()) if done.scheme_of(HEAD, weight) else None
        done.take(HEAD, weight, lambda weight, scheme: gptq(weight, required(moments), scheme, config))


def moments_at_head(model: LanguageModel, rows: Sequence[Tensor]) -> Tensor:
    """Of what the head reads while no matrix is quantized: [d d]."""
    walk = Walk(model, rows)
    for _ in model.sublayers:
        walk.step()
    return second_moments(walk.final())


def quantize_stage(
    model: LanguageModel, done: Done, walk: Walk, prefix: str, names: Sequence[str], config: GptqConfig
) -> None:
    """Projections of the next sublayer that read the same."""
    weights = {name: matrix_of(model, prefix + name) for name in names}
    is_wanted = any(done.scheme_of(prefix + name, weight) is not None for name, weight in weights.items())
    moments = second_moments(walk.inputs_of(names[0])) if is_wanted else None
    for name, weight in weights.items():
        done.take(prefix + name, weight, lambda weight, scheme: gptq(weight, required(moments), scheme, config))


def required(moments: Tensor | None) -> Tensor:
    """They are measured wherever a matrix is quantized."""
    assert moments is not None
    return moments
