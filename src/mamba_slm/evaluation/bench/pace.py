"""How long cells take: a guess from their FLOPs and bytes, corrected by what the cells before took. No torch."""

from __future__ import annotations

from dataclasses import replace

from mamba_slm.evaluation.bench.cells import BenchSettings, Cell, contenders_of
from mamba_slm.evaluation.bench.names import OURS
from mamba_slm.evaluation.bench.work import flops_per_token, step_bytes
from mamba_slm.model.config import ModelConfig

ASSUMED_FLOPS_PER_SECOND, ASSUMED_BYTES_PER_SECOND, START_SECONDS = 5e10, 5e9, 12.0
"""Of a contender, and to start and load those of a cell: a first guess, until cells have been measured."""


class Pace:
    """Expectations that learn from the latest cell of each task."""

    def __init__(self, config: ModelConfig, settings: BenchSettings):
        self.config, self.settings = config, settings
        self.guessed: dict[str, float] = {}
        self.taken: dict[str, float] = {}

    def round_guess(self, cell: Cell) -> float:
        """Seconds of one round of one contender, from FLOPs and bytes alone."""
        reading = cell if cell.task == "train" else replace(cell, task="prefill")
        seconds = cell.batch * cell.tokens * flops_per_token(self.config, reading) / ASSUMED_FLOPS_PER_SECOND
        if cell.task == "decode":  # engines that cannot go back read the prompt in every round
            steps = self.settings.decode_tokens
            seconds += steps * step_bytes(self.config, cell, OURS, decode_tokens=steps) / ASSUMED_BYTES_PER_SECOND
        return seconds

    def learn(self, cell: Cell, seconds: float, rounds: float) -> None:
        """A cell took so long, with so many counted rounds per contender."""
        contenders = len(contenders_of(self.settings, cell))
        self.guessed[cell.task] = contenders * self.round_guess(cell)
        self.taken[cell.task] = max(seconds - START_SECONDS, 0.0) / (1 + rounds)

    def expected_seconds(self, cell: Cell) -> float:
        """The guess, corrected by the cell of the same task before it."""
        known = self.guessed.get(cell.task)
        seconds = self.round_guess(cell) * (self.taken[cell.task] / known if known else 1.0)
        return START_SECONDS + len(contenders_of(self.settings, cell)) * seconds * (
            1 + self.settings.rounds_of(seconds)
        )

    def expected(self, cell: Cell) -> str:
        """For the progress line."""
        return self.in_words(self.expected_seconds(cell))

    @staticmethod
    def in_words(seconds: float) -> str:
        """About 1 m 20 s."""
        from mamba_slm.core.units import format_seconds

        return f"about {format_seconds(seconds)}"
