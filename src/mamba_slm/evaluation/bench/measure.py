"""The whole run: cell after cell, contenders in turns, results complete after every cell."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mamba_slm.core.errors import OutOfMemoryError
from mamba_slm.evaluation.bench.cells import BenchSettings, Cell, cells, contenders_of, engines_of, variants_of
from mamba_slm.evaluation.bench.names import ATTENTION, COMPILED, GRANITE, LLAMA, OURS, precision_of, products_of
from mamba_slm.evaluation.bench.pace import Pace
from mamba_slm.evaluation.bench.processes import BusyElsewhere, Worker, WorkerFailedError, interrupts_held_back
from mamba_slm.evaluation.bench.proofs import agreement_of, rounded_difference
from mamba_slm.evaluation.bench.room import available_memory, seating
from mamba_slm.evaluation.bench.rows import row_of
from mamba_slm.evaluation.bench.sizes import llama_of_equal_size
from mamba_slm.evaluation.bench.work import step_bytes, tokens_per_round, work_per_token
from mamba_slm.evaluation.bench.worker import LIMITS, RATE, Job
from mamba_slm.model.config import ModelConfig

FORMAT_VERSION = 2


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
    """Measure the limits of the machine, then every cell.

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
        "limits": None,
        "contenders": {},
        "cells": [],
        "left_out": [],
    }
    bench = Run(model, config, settings, exported or {})
    results["limits"] = bench.limits(planned[0])
    pace, began = Pace(config, settings), time.monotonic()
    for number, cell in enumerate(planned, start=1):
        left = sum(map(pace.expected_seconds, planned[number - 1 :]))
        say(f"{number}/{len(planned)} {cell}: {pace.expected(cell)}, everything {pace.in_words(left)}")
        started = time.monotonic()
        if settings.budget_seconds is not None:
            remaining = settings.budget_seconds - (started - began)
            if pace.expected_seconds(cell) > remaining:
                reason = (
                    f"time: {pace.expected(cell)} expected, {max(remaining, 0.0):.0f} s left of "
                    f"{settings.budget_seconds:.0f}"
                )
                results["left_out"].append({**asdict(cell), "reason": reason})
                say(f"  left out, {reason}")
                save(results)
                continue
        with tempfile.TemporaryDirectory() as folder:
            measured = bench.cell(cell, Path(folder), results["contenders"], results["cells"])
        measured["cell_seconds"] = time.monotonic() - started
        pace.learn(cell, measured["cell_seconds"], measured["rounds"])
        results["cells"].append(measured)
        save(results)
        for name, reason in measured["left_out"].items():
            say(f"  without {name}: {reason}")
        say(f"  {in_one_line(measured)}")
    return results


class Run:
    """What the cells of a run have in common."""

    def __init__(self, model: str, config: ModelConfig, settings: BenchSettings, exported: Mapping[str, Path]):
        self.model, self.config, self.settings, self.exported = model, config, settings, exported

    def start(self, stack: ExitStack, name: str, cell: Cell, folder: Path | None = None) -> Worker:
        """A process for one contender, which ends with the stack."""
        settings = self.settings
        job = Job(
            contender=name,
            model=self.model,
            context_tokens=self.config.max_context_tokens,
            cell=cell,
            threads=settings.threads,
            rounds=settings.rounds,
            decode_tokens=settings.decode_tokens,
            seed=settings.seed,
            logits_file="" if folder is None else str(folder / f"{name}.npy"),
            compiled=settings.compiled and name in COMPILED and cell.task == "decode",
            exported=str(self.exported[name]) if name in self.exported else None,
        )
        with interrupts_held_back():
            return stack.enter_context(closing(Worker(job)))

    def limits(self, cell: Cell) -> dict[str, Any]:
        """See `limits.machine_limits`."""
        with ExitStack() as stack:
            worker = self.start(stack, LIMITS, cell)
            worker.ready()
            return worker.ask("round")

    def cell(
        self, cell: Cell, folder: Path, contenders: dict[str, Any], measured: list[dict[str, Any]]
    ) -> dict[str, Any]:
        """Start the contenders, see that they compute the same, time them in turns.

        Args:
            contenders: their facts are added here.
            measured: cells before this one, from which their memory is forecast.
        """
        seats = seating(contenders_of(self.settings, cell), cell, measured, available_memory())
        party = Party(left_out=dict(seats.left_out))
        for names in (seats.together, *((name,) for name in seats.apart)):
            self.time_in_turns(names, cell, folder, party)
        names = list(party.seconds)
        for name in names:
            contenders.setdefault(name, {key: party.facts[name][key] for key in ("parameters", "settings")})
        same = [name for name in (*variants_of(self.settings, cell), *engines_of(self.settings, cell)) if name in names]
        tokens = tokens_per_round(cell, decode_tokens=self.settings.decode_tokens)
        return {
            **asdict(cell),
            "rounds": max(map(len, party.seconds.values())),
            "warm_up_seconds": party.first_seconds,
            "busy_elsewhere_cores": party.busy_elsewhere_cores,
            "agreement": agreement_of(cell, party.proofs, folder) if GRANITE in names else None,
            "machine_rates": {"unit": party.unit, "by_round": party.rates},
            "relative_difference": {name: rounded_difference(cell, name, folder) for name in same},
            "apart": [name for name in seats.apart if name in names],
            "left_out": party.left_out,
            "rows": [
                row_of(
                    name,
                    party.seconds,
                    party.rates[name],
                    work=self.work_of(name, cell, party.facts[name]["weight_bytes"]),
                    tokens=tokens,
                    limit=self.limit_of(name, cell, party.facts[name]["weight_bytes"]),
                    memory=party.memory[name],
                )
                for name in names
            ],
        }

    def time_in_turns(self, names: Sequence[str], cell: Cell, folder: Path, party: Party) -> None:
        """Prove and time contenders that are loaded at the same time, then end them; `party` gets what they say."""
        with ExitStack() as stack:
            workers = {name: self.start(stack, name, cell, folder) for name in names}
            rate = self.start(stack, RATE, cell)
            party.facts |= ask_all(workers, Worker.ready, party.left_out)
            elsewhere = BusyElsewhere(worker.process.pid for worker in (*workers.values(), rate))
            party.proofs |= ask_all(workers, lambda worker: timed_proof(worker, party.first_seconds), party.left_out)
            if not workers:
                return
            limits = {name: self.limit_of(name, cell, party.facts[name]["weight_bytes"]) for name in workers}
            party.unit = rate.ready()["unit"]
            rate.ask("rates " + " ".join(limits.values()))
            rounds = {name: self.settings.rounds_of(party.first_seconds[name]) for name in workers}
            party.seconds |= {name: [] for name in workers}
            party.rates |= {name: [] for name in workers}
            for number in range(max(rounds.values())):
                going = [name for name in workers if number < rounds[name]]
                for name in going:
                    party.seconds[name].append(workers[name].ask("round")["seconds"])
                rates = rate.ask("round")["rates"]
                for name in going:
                    party.rates[name].append(rates.get(limits[name]))
            party.note_busy(elsewhere.cores())
            for name, worker in workers.items():
                kept = {key: party.facts[name][key] for key in ("loaded_bytes", "peak_is_reset")}
                party.memory[name] = kept | worker.ask("memory")

    def config_of(self, name: str) -> ModelConfig:
        """What a contender computes."""
        return llama_of_equal_size(self.config) if name in (LLAMA, ATTENTION) else self.config

    def work_of(self, name: str, cell: Cell, weight_bytes: int | None) -> float:
        """See `work.work_per_token`."""
        tokens = self.settings.decode_tokens
        return work_per_token(self.config_of(name), cell, name, decode_tokens=tokens, weight_bytes=weight_bytes)

    def limit_of(self, name: str, cell: Cell, weight_bytes: int | None) -> str:
        """Which rate of the machine a contender's speed is a share of; see `rates.MachineRates`."""
        if cell.task != "decode":
            return products_of(precision_of(name, cell.precision))
        tokens = self.settings.decode_tokens
        return str(round(step_bytes(self.config_of(name), cell, name, decode_tokens=tokens, weight_bytes=weight_bytes)))


@dataclass(kw_only=True)
class Party:
    """What the contenders of a cell have said so far, by name."""

    left_out: dict[str, str]
    facts: dict[str, Any] = field(default_factory=dict)
    proofs: dict[str, Any] = field(default_factory=dict)
    first_seconds: dict[str, float] = field(default_factory=dict)
    seconds: dict[str, list[float]] = field(default_factory=dict)
    rates: dict[str, list[float | None]] = field(default_factory=dict)
    memory: dict[str, Any] = field(default_factory=dict)
    busy_elsewhere_cores: float | None = None
    unit: str = ""

    def note_busy(self, cores: float | None) -> None:
        """Other programs kept so many cores busy during a part of the cell; the most of all parts counts."""
        if cores is not None:
            self.busy_elsewhere_cores = round(max(cores, self.busy_elsewhere_cores or 0.0), 3)


def ask_all(
    workers: dict[str, Worker], question: Callable[[Worker], dict[str, Any]], left_out: dict[str, str]
) -> dict[str, Any]:
    """The answers of all; a contender other than ours that fails is ended and left out, with its words as the reason.

    What the others measure for many minutes is worth having without it.
    """
    answers = {}
    for name, worker in list(workers.items()):
        try:
            answers[name] = question(worker)
        except (OutOfMemoryError, WorkerFailedError) as error:
            if name == OURS:
                raise
            left_out[name] = error.message
            workers.pop(name).close()
    return answers


def timed_proof(worker: Worker, seconds: dict[str, float]) -> dict[str, Any]:
    """The proof of a contender; how long it took, which is about a round, is noted in `seconds`."""
    started = time.monotonic()
    proof = worker.ask("prove")
    seconds[worker.job.contender] = time.monotonic() - started
    return proof


def in_one_line(cell: dict[str, Any]) -> str:
    """The speeds of a measured cell."""
    speeds = ", ".join(f"{row['contender']} {row['tokens_per_second']:,.0f} tok/s" for row in cell["rows"])
    return f"{speeds} ({cell['rounds']} rounds)"
