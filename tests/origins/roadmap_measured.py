"""Values that were measured here, from the files behind `docs/reference/benchmarks.md` and `crossover.md`."""

from __future__ import annotations

import json
from typing import Any

from mamba_slm.core.units import format_bytes
from origins.originals import REPOSITORY

RESULTS = REPOSITORY / "benchmarks" / "results"


def values() -> dict[str, str]:
    """Placeholders of roadmap.txt with what stands for them."""
    decoding = speeds("decoding", "decode", batch=1)[0]
    attention = {row["way"]: row for row in results("ops")["measurements"] if row["case"].startswith("attention")}
    ours, definition = attention["attention"], attention["scores and softmax (definition)"]
    training = speeds("transformers", "train")
    rates = [rate(cell, "ours") for cell in training]
    return {
        "hybrid_training": ratios(speeds("crossover", "train"), "attention"),
        "hybrid_prefill": ratios(speeds("crossover", "prefill"), "attention"),
        "hybrid_decoding": ratios(speeds("crossover", "decode"), "attention"),
        "beside_transformers": ratios(training, "granite"),
        "decoding_beside_transformers": f"{decoding['rows']['granite']['ours_times_as_fast']:.1f}",
        "training_rates": f"{min(rates):,.0f} to {max(rates):,.0f}",
        "decoding_fp32": f"{rate(decoding, 'ours'):.0f}",
        "decoding_onnx": f"{rate(decoding, 'onnx-fp32'):.0f}",
        "decoding_int8": f"{rate(decoding, 'ours-int8'):.0f}",
        "attention_memory": format_bytes(ours["peak_bytes"]),
        "scores_memory": format_bytes(definition["peak_bytes"]),
        "attention_times": f"{ours['times_as_fast']:.2f}",
    }


def results(name: str) -> Any:
    """A file of results."""
    return json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))


def speeds(name: str, task: str, *, batch: int = 1) -> list[dict[str, Any]]:
    """The cells of a task by length, with their rows by contender."""
    cells = [cell for cell in results(name)["cells"] if cell["task"] == task and cell["batch"] == batch]
    for cell in cells:
        cell["rows"] = {row["contender"]: row for row in cell["rows"]}
    return sorted(cells, key=lambda cell: cell["tokens"])


def ratios(cells: list[dict[str, Any]], other: str) -> str:
    """`0.99, 1.50 times at 512, 16,384 tokens`."""
    times = ", ".join(f"{cell['rows'][other]['ours_times_as_fast']:.2f}" for cell in cells)
    return f"{times} times at {'; '.join(format(cell['tokens'], ',') for cell in cells)} tokens"


def rate(cell: dict[str, Any], contender: str) -> float:
    """Tokens per second."""
    return cell["rows"][contender]["tokens_per_second"]
