"""Is the graph in the file the model that it was made of? Asked in ONNX Runtime, before anybody else sees the file.

A float32 graph must give the model's logits in every way of reading, and the same greedy text. A quantized one must
compute what its stored weights say: it is compared with the model whose matrices are replaced by the rounded ones, and
may differ by what rounding the inputs of its products to 8 bits costs. What rounding the weights costs is measured
afterwards (`report`). A model that was quantized before has those weights already: its graph is run a second time with
products in float32, and then it must give the model's logits like a float32 graph.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from mamba_slm.core.errors import CheckFailedError
from mamba_slm.export.compare import DRIFTS, LOGIT_TOLERANCE
from mamba_slm.export.onnx.caller import GraphCaller
from mamba_slm.export.onnx.plan import WeightPlan
from mamba_slm.export.onnx.quantize import quantize_matrix
from mamba_slm.export.onnx.readings import READINGS, Batch, Outputs, read_batch
from mamba_slm.export.onnx.runner import OnnxRunner
from mamba_slm.export.source import Source
from mamba_slm.export.trace import OurRunner
from mamba_slm.model.stack import LanguageModel

GREEDY_TOKENS = 64
TIE = 2 * LOGIT_TOLERANCE
"""Logits nearer than this may be ordered either way."""
QUANTIZED_LOGITS = 0.15
"""Largest root mean square error of a quantized graph's logits, in units of their own spread."""
QUANTIZED_DRIFTS = (0.25, 0.1)
"""As `compare.DRIFTS`, for naming the layer: the largest error of the residual stream over its largest value."""


@dataclass(frozen=True, kw_only=True)
class CheckResult:
    """What was measured of one graph."""

    readings: tuple[str, ...]
    """Ways of reading that were tried."""
    num_tokens: int
    """Tokens of the sequences."""
    max_logit_error: float
    """Largest absolute difference over all of them."""
    relative_error: float
    """Root mean square error of the logits over their spread, of the worst reading."""
    greedy_tokens: int
    """Tokens that the graph and the model chose alike; 0 where products round their inputs and it is not asked."""


def check_graph(
    runner: OnnxRunner, model: LanguageModel, plan: WeightPlan, sequences: Sequence[Sequence[int]]
) -> CheckResult:
    """Compare the graph with the model in every reading of `READINGS`.

    Raises:
        CheckFailedError: names the reading and the first layer that drifts.
    """
    is_exact = plan.weights == "fp32" or runner.in_float32
    is_given = plan.weights == "fp32" or bool(plan.stored)
    reference = OurRunner(Source(runner.folder, model if is_given else with_rounded_matrices(model, plan), None))
    expected = [reference.trace(tokens).logits.numpy() for tokens in sequences]
    worst = relative = 0.0
    for what, reading in READINGS.items():
        for batch in reading(sequences):
            rows = read_batch(runner.session, runner.config, batch)
            for number, (logits, *_) in zip(batch.sequences, rows, strict=True):
                wanted = expected[number][: len(logits)]
                error, spread = difference(logits, wanted)
                worst, relative = max(worst, error), max(relative, spread)
                if not (error <= LOGIT_TOLERANCE if is_exact else spread <= QUANTIZED_LOGITS):
                    fail(runner, reference, batch, sequences, what=what, error=error, is_exact=is_exact)
    return CheckResult(
        readings=tuple(READINGS),
        num_tokens=sum(map(len, sequences)),
        max_logit_error=worst,
        relative_error=relative,
        greedy_tokens=check_greedy(runner, reference, sequences[0]) if is_exact else 0,
    )


def difference(found: NDArray[np.float32], expected: NDArray[np.float32]) -> tuple[float, float]:
    """(largest absolute difference, root mean square over the spread of the expected); infinite for NaN."""
    if not np.isfinite(found).all():
        return math.inf, math.inf
    error = found.astype(np.float64) - expected
    spread = float((expected - expected.mean(axis=-1, keepdims=True)).std()) or 1.0
    return float(np.abs(error).max(initial=0.0)), float(np.sqrt(np.square(error).mean())) / spread


def fail(
    runner: OnnxRunner,
    reference: OurRunner,
    batch: Batch,
    sequences: Sequence[Sequence[int]],
    *,
    what: str,
    error: float,
    is_exact: bool,
) -> None:
    """Raise CheckFailedError with the first point of the residual stream that is off in this batch."""
    rows = read_batch(runner.residual_session, runner.config, batch, also=runner.residual_outputs)
    points = [
        point
        for number, (_, *outputs) in zip(batch.sequences, rows, strict=True)
        for point in drifts(reference, sequences[number], outputs)
    ]
    candidates = (
        min((position, name) for position, name, drift in points if drift > allowed)[1]
        for allowed in (DRIFTS if is_exact else QUANTIZED_DRIFTS)
        if any(drift > allowed for *_, drift in points)
    )
    where = next(candidates, "logits")
    limit = f"{LOGIT_TOLERANCE:.0e}" if is_exact else f"{QUANTIZED_LOGITS:.0%} of their spread"
    raise CheckFailedError(
        f"{runner.description}, {what}: a logit is off by {error:.2e} (allowed {limit}); first layer that drifts: "
        f"{where}",
        hint="nothing was kept; please report this with the model's config.json",
    )


def drifts(reference: OurRunner, tokens: Sequence[int], points: Outputs) -> list[tuple[int, str, float]]:
    """Number and name of each point of the residual stream of one sequence, and its error over its largest value."""
    expected = reference.trace(tokens, residuals=True).residuals
    found = []
    for number, ((name, wanted), values) in enumerate(zip(expected, points, strict=True)):
        scale = float(wanted.abs().max()) or 1.0
        found.append((number, name, difference(values, wanted.numpy()[: len(values)])[0] / scale))
    return found


def check_greedy(runner: OnnxRunner, reference: OurRunner, prompt: Sequence[int]) -> int:
    """Continue a prompt by the most likely token on both sides; return how many tokens were compared.

    Raises:
        CheckFailedError: they choose differently, and not because of a tie.
    """
    model = reference.source.model
    prompt = list(prompt[: max(1, min(8, runner.max_tokens // 2))])
    count = min(GREEDY_TOKENS, runner.max_tokens - len(prompt))
    state, tokens = model.new_state(1), torch.tensor([prompt])
    expected: list[NDArray[np.float32]] = []
    for _ in range(count):  # all of it before the graph runs, so that two pools of threads do not take turns
        with torch.inference_mode():
            expected.append(model(tokens, state=state, last_only=True)[0, -1].numpy())
        tokens = torch.tensor([[int(expected[-1].argmax())]])

    caller, piece = GraphCaller(runner.session, runner.config), np.array([prompt], dtype=np.int64)
    for step, logits in enumerate(expected):
        token, chosen = int(logits.argmax()), int(caller.read(piece, keep=1)[0][0, -1].argmax())
        if token != chosen and not logits[token] - logits[chosen] <= TIE:
            raise CheckFailedError(
                f"{runner.description}: greedy text differs from the model's at token {step + 1} of {count}, "
                f"{chosen} instead of {token}",
                hint="nothing was kept; please report this with the model's config.json",
            )
        piece = np.array([[token]], dtype=np.int64)
    return count


def with_rounded_matrices(model: LanguageModel, plan: WeightPlan) -> LanguageModel:
    """A copy whose matrices have the values that the plan's numbers and scales stand for."""
    rounded = copy.deepcopy(model)
    matrices = {
        name: parameter
        for name, parameter in rounded.named_parameters()
        if parameter.dim() == 2 and not name.endswith("conv_weight") and name != "position_embedding.weight"
    }
    with torch.no_grad():
        for name, parameter in matrices.items():
            packed = quantize_matrix(parameter.numpy(), bits=plan.bits_of(name), block_size=plan.block_size_of(name))
            parameter.copy_(torch.from_numpy(packed.dequantized()))
    return rounded
