"""The whole run: cell after cell, contenders in turns, results complete after every cell."""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mamba_slm.core.errors import CheckFailedError
from mamba_slm.evaluation.bench.cells import (
    GRANITE,
    LLAMA,
    OURS,
    BenchSettings,
    Cell,
    cells,
    contenders_of,
    engine_work_per_token,
    engines_of,
    llama_of_equal_size,
    tokens_per_round,
    work_per_token,
)
from mamba_slm.evaluation.bench.processes import BusyElsewhere, Worker
from mamba_slm.evaluation.bench.worker import RATE, Job
from mamba_slm.model.config import ModelConfig

FORMAT_VERSION = 1
AGREEMENT_LIMITS = {"fp32": 1e-3, "bf16": 0.1}
"""Largest relative difference between ours and GraniteMoeHybrid; other functions differ by 1 and more. In bf16 some
percent are rounding: transformers rounds A_log and dt_bias, too. tests/conformance holds the exact tolerances."""
ENGINE_LIMITS = {
    "onnx-fp32": 1e-3,
    "onnx-int8": 0.2,
    "onnx-int4": 0.7,
    "llama.cpp-q8_0": 0.2,
    "llama.cpp-q4_0": 0.7,
}
"""The same for engines: what rounding weights to 8 and 4 bits explains on random weights, which it hurts most."""
ASSUMED_FLOPS_PER_SECOND, ASSUMED_BYTES_PER_SECOND, START_SECONDS = 5e10, 5e9, 12.0
"""Of a contender, and to start and load those of a cell: a first guess, until cells have been measured."""


def measure_all(
    model: str,
    config: ModelConfig,
    settings: BenchSettings,
    *,
    about: dict[str, Any],
    exported: Mapping[str, Path] | None = None,
    say: Callable[[str], None],
    save: Callable[[dict[str, Any]], None],
) -> dict[str, Any]:
    """Measure every cell.

    Args:
        model: a preset or a model folder, with its `config`.
        exported: what each of `settings.engines` runs.
        about: what else to store: command, versions, hardware.
        say: a line of progress.
        save: called with the results so far after every cell.

    Raises:
        CheckFailedError: GraniteMoeHybrid and ours are not the same function.
    """
    planned = list(cells(settings, config))
    results: dict[str, Any] = {
        "format_version": FORMAT_VERSION,
        "created": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        **about,
        "model": model,
        "config": asdict(config),
        "settings": asdict(settings),
        "load_average": round(os.getloadavg()[0], 2),
        "contenders": {},
        "cells": [],
    }
    pace = Pace(config, settings)
    for number, cell in enumerate(planned, start=1):
        left = sum(map(pace.expected_seconds, planned[number - 1 :]))
        say(f"{number}/{len(planned)} {cell}: {pace.expected(cell)}, everything {pace.in_words(left)}")
        started = time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            measured = measure_cell(model, config, settings, cell, Path(folder), results["contenders"], exported or {})
        measured["cell_seconds"] = time.monotonic() - started
        pace.learn(cell, measured["cell_seconds"])
        results["cells"].append(measured)
        save(results)
        say(f"  {in_one_line(measured)}")
    return results


def measure_cell(
    model: str,
    config: ModelConfig,
    settings: BenchSettings,
    cell: Cell,
    folder: Path,
    contenders: dict[str, Any],
    exported: Mapping[str, Path],
) -> dict[str, Any]:
    """Start the contenders, see that they compute the same, time them in turns; adds their facts to `contenders`."""
    engines = engines_of(settings, cell)
    names = [*contenders_of(settings, cell), RATE]
    with ExitStack() as stack:
        workers = {
            name: stack.enter_context(
                closing(
                    Worker(
                        Job(
                            contender=name,
                            model=model,
                            cell=cell,
                            threads=settings.threads,
                            decode_tokens=settings.decode_tokens,
                            seed=settings.seed,
                            logits_file=str(folder / f"{name}.npy"),
                            compiled=settings.compiled and name == OURS and cell.task == "decode",
                            exported=str(exported[name]) if name in engines else None,
                        )
                    )
                )
            )
            for name in names
        }
        facts = {name: worker.ready() for name, worker in workers.items()}
        for name in names[:-1]:
            contenders.setdefault(name, {key: facts[name][key] for key in ("parameters", "settings")})
        elsewhere = BusyElsewhere(worker.process.pid for worker in workers.values())
        started = time.monotonic()
        proofs = {name: worker.ask("prove") for name, worker in workers.items()}
        warm_up_seconds = time.monotonic() - started
        agreement = agreement_of(cell, proofs, folder) if GRANITE in names else None
        differences = {name: engine_difference(cell, name, folder) for name in engines}
        rounds = settings.rounds
        if warm_up_seconds > settings.long_round_seconds:
            rounds = min(rounds, settings.long_round_rounds)
        answers = [{name: worker.ask("round") for name, worker in workers.items()} for _ in range(rounds)]
        busy = elsewhere.cores()
        peaks = {name: workers[name].ask("memory")["peak_bytes"] for name in names[:-1]}
    rates = [answer[RATE]["rate"] for answer in answers]
    seconds = {name: [answer[name]["seconds"] for answer in answers] for name in names[:-1]}
    return {
        **asdict(cell),
        "rounds": rounds,
        "warm_up_seconds": warm_up_seconds,
        "busy_elsewhere_cores": None if busy is None else round(busy, 3),
        "agreement": agreement,
        "machine_rate": {"unit": facts[RATE]["unit"], "median": statistics.median(rates), "by_round": rates},
        "engines_relative_difference": differences,
        "rows": [
            row_of(
                name,
                cell,
                seconds,
                rates,
                work=engine_work_per_token(
                    config,
                    cell,
                    name,
                    weight_bytes=facts[name]["weight_bytes"],
                    decode_tokens=settings.decode_tokens,
                )
                if name in engines
                else work_per_token(
                    llama_of_equal_size(config) if name == LLAMA else config,
                    cell,
                    decode_tokens=settings.decode_tokens,
                ),
                tokens=tokens_per_round(cell, decode_tokens=settings.decode_tokens),
                memory={
                    "loaded_bytes": facts[name]["loaded_bytes"],
                    "peak_bytes": peaks[name],
                    "peak_is_reset": facts[name]["peak_is_reset"],
                },
            )
            for name in names[:-1]
        ],
    }


def row_of(
    name: str,
    cell: Cell,
    seconds: dict[str, list[float]],
    rates: Sequence[float],
    *,
    work: float,
    tokens: int,
    memory: dict[str, Any],
) -> dict[str, Any]:
    """The results of one contender; ratios are medians over the rounds, so that a slow moment counts on both sides."""
    own = seconds[name]
    return {
        "contender": name,
        "tokens_per_second": tokens / statistics.median(own),
        "seconds_by_round": own,
        "work_per_token": work,
        "share_of_machine": statistics.median(
            tokens * work / mine / rate for mine, rate in zip(own, rates, strict=True)
        ),
        "ours_times_as_fast": statistics.median(theirs / ours for ours, theirs in zip(seconds[OURS], own, strict=True)),
        **memory,
    }


def agreement_of(cell: Cell, proofs: dict[str, Any], folder: Path) -> dict[str, Any]:
    """How far ours and GraniteMoeHybrid are apart, relative to what GraniteMoeHybrid computed.

    Training compares the loss and the norm of all gradients of the first step (the larger difference counts); prefill
    and decode the last logits, by the norm of the difference.

    Raises:
        CheckFailedError: further than rounding explains.
    """
    limit = AGREEMENT_LIMITS[cell.precision]
    if cell.task == "train":
        ours, theirs = proofs[OURS], proofs[GRANITE]
        difference = max(abs(ours[key] - theirs[key]) / abs(theirs[key]) for key in ("loss", "gradient_norm"))
        compared: dict[str, Any] = {"compared": "loss and gradient norm", "ours": ours, "granite": theirs}
    else:
        import numpy

        logits, others = (numpy.load(folder / f"{name}.npy") for name in (OURS, GRANITE))
        difference = float(numpy.linalg.norm(logits - others) / numpy.linalg.norm(others))
        compared = {"compared": "last logits"}
    if not difference <= limit:  # NaN is no agreement either
        raise CheckFailedError(
            f"{cell}: ours and GraniteMoeHybrid differ by {difference:.1e} in {compared['compared']}, more than "
            f"{limit:.0e}; they are not the same function",
            hint="compare them token by token: python -m pytest tests/conformance",
        )
    return {**compared, "relative_difference": difference, "limit": limit}


def engine_difference(cell: Cell, engine: str, folder: Path) -> float:
    """How far the last logits of an engine are from ours, by the norm of the difference, relative to ours.

    Raises:
        CheckFailedError: further than its weights explain.
    """
    import numpy

    logits, others = (numpy.load(folder / f"{name}.npy") for name in (OURS, engine))
    difference = float(numpy.linalg.norm(logits - others) / numpy.linalg.norm(logits))
    limit = ENGINE_LIMITS[engine]
    if not difference <= limit:  # NaN is no agreement either
        raise CheckFailedError(
            f"{cell}: {engine} and ours differ by {difference:.1e} in the last logits, more than {limit:.0e}; they are "
            "not the same function",
            hint="compare them layer by layer: mamba-slm verify MODEL EXPORTED",
        )
    return difference


class Pace:
    """How long cells take: a guess from their FLOPs, corrected by what the cells before took."""

    def __init__(self, config: ModelConfig, settings: BenchSettings):
        self.config, self.settings = config, settings
        self.guessed: dict[str, float] = {}
        self.taken: dict[str, float] = {}

    def guess(self, cell: Cell) -> float:
        """Seconds from FLOPs and bytes alone."""
        reading = cell if cell.task == "train" else replace(cell, task="prefill")
        flops = cell.tokens * work_per_token(self.config, reading, decode_tokens=0)
        rounds, new_tokens = 1 + self.settings.rounds, self.settings.decode_tokens
        seconds = flops / ASSUMED_FLOPS_PER_SECOND
        if cell.task == "decode":
            read_bytes = new_tokens * work_per_token(self.config, cell, decode_tokens=new_tokens)
            seconds += rounds * read_bytes / ASSUMED_BYTES_PER_SECOND
        else:
            seconds *= rounds
        return (1 + len(self.settings.peers) + len(engines_of(self.settings, cell))) * seconds

    def learn(self, cell: Cell, seconds: float) -> None:
        """A cell took so long."""
        self.guessed[cell.task] = self.guessed.get(cell.task, 0.0) + self.guess(cell)
        self.taken[cell.task] = self.taken.get(cell.task, 0.0) + max(seconds - START_SECONDS, 0.0)

    def expected_seconds(self, cell: Cell) -> float:
        """The guess, corrected by cells of the same task."""
        known = self.guessed.get(cell.task)
        return START_SECONDS + self.guess(cell) * (self.taken[cell.task] / known if known else 1.0)

    def expected(self, cell: Cell) -> str:
        """For the progress line."""
        return self.in_words(self.expected_seconds(cell))

    @staticmethod
    def in_words(seconds: float) -> str:
        """About 1 m 20 s."""
        from mamba_slm.core.units import format_seconds

        return f"about {format_seconds(seconds)}"


def in_one_line(cell: dict[str, Any]) -> str:
    """The speeds of a measured cell."""
    speeds = ", ".join(f"{row['contender']} {row['tokens_per_second']:,.0f} tok/s" for row in cell["rows"])
    return f"{speeds} ({cell['rounds']} rounds)"
