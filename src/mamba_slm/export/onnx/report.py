"""What rounding the weights changed: KL, agreement of the most likely token, and perplexity, against float32."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import mamba_slm
from mamba_slm.core.errors import DataError
from mamba_slm.export.compare import Comparison, compare
from mamba_slm.export.onnx.plan import WeightPlan
from mamba_slm.export.probes import random_sequences, text_sequences
from mamba_slm.export.source import Source
from mamba_slm.export.trace import OurRunner, Runner
from mamba_slm.model.onnx_contract import Weights

REPORT_FILE = "quantization.json"
REPORT_FORMAT_VERSION = 1
SEQUENCE_TOKENS = 256
NUM_SEQUENCES = 16
LARGE_KL = 0.05
"""Nats per token above which the report advises against the weights."""
EXPECTED: dict[Weights, str] = {
    "int8": "8 bits are near lossless at any size",
    "int4": "4 bits by rounding hurt small models: below a billion parameters expect worse text, and prefer int8",
}

KEPT = "the weights are the quantized model's own; all that changes are inputs of products, rounded to 8 bits"
KEPT_TABLES = "the weights are the quantized model's own, and products with them are not rounded"


@dataclass(frozen=True, kw_only=True)
class QuantizationReport:
    """The measurement, and what to make of it."""

    weights: Weights
    block_size: int
    text: str
    """Where the tokens came from."""
    num_tokens: int
    mean_kl: float
    """Nats per token, of the float32 model's predictions against the quantized ones."""
    argmax_agreement: float
    """Share of tokens with the same most likely next token."""
    perplexity_before: float
    perplexity_after: float
    perplexity_change: float
    """After / before - 1."""
    remark: str

    def __str__(self) -> str:
        return (
            f"KL {self.mean_kl:.4f} nats, argmax agreement {self.argmax_agreement:.4f}, perplexity "
            f"{self.perplexity_before:.2f} → {self.perplexity_after:.2f} ({self.perplexity_change:+.1%}) on "
            f"{self.num_tokens:,} tokens of {self.text}; {self.remark}"
        )

    def as_json(self) -> dict[str, Any]:
        """What `quantization.json` holds."""
        return {"format_version": REPORT_FORMAT_VERSION, **asdict(self)}


def report_sequences(source: Source, text_file: Path | None) -> tuple[list[list[int]], str]:
    """The tokens to measure on, and where they came from: the given text, else our own source code, else random ones.

    Raises:
        DataError: a text is given but cannot be read, is too short, or there is no tokenizer for it.
    """
    length = min(SEQUENCE_TOKENS, source.config.max_context_tokens)
    if source.tokenizer is None:
        if text_file is not None:
            raise DataError(f"{text_file} cannot be used: the model has no tokenizer", hint="leave --text out")
        return random_sequences(source.config.vocab_size, length, count=NUM_SEQUENCES), "random numbers"
    text, what = (own_source(), "mamba-slm's source code") if text_file is None else (read(text_file), str(text_file))
    sequences = text_sequences(source.tokenizer.encode, length, text=text, count=NUM_SEQUENCES)
    if not sequences:
        raise DataError(f"{what} has no text to measure on", hint="give a longer one with --text")
    return sequences, what


def read(path: Path) -> str:
    """The text of a file.

    Raises:
        DataError: it cannot be read.
    """
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read as text: {error}", hint="--text wants a UTF-8 file") from error


def own_source() -> str:
    """Real text that is always there: the code of this package."""
    files = sorted(Path(mamba_slm.__file__).parent.glob("*/*.py"))
    return "\n".join(file.read_text(encoding="utf-8") for file in files[:30])


def measure_quantization(
    source: Source, runner: Runner, *, plan: WeightPlan, sequences: Sequence[Sequence[int]], text: str
) -> QuantizationReport:
    """Compare the graph with the float32 model; of a quantized one with what its numbers stand for."""
    found: Comparison = compare(OurRunner(source), runner, sequences, tolerance=float("inf"))
    remark = EXPECTED[plan.weights]
    if plan.stored:
        remark = KEPT_TABLES if all(each.scheme.is_table for each in plan.stored.values()) else KEPT
    if found.mean_kl > LARGE_KL:
        remark += f"; a KL above {LARGE_KL} is a different model for its users, smaller blocks or int8 lower it"
    return QuantizationReport(
        weights=plan.weights,
        block_size=plan.block_size,
        text=text,
        num_tokens=found.num_tokens,
        mean_kl=found.mean_kl,
        argmax_agreement=found.argmax_agreement,
        perplexity_before=found.perplexity_a,
        perplexity_after=found.perplexity_b,
        perplexity_change=found.perplexity_b / found.perplexity_a - 1,
        remark=remark,
    )
