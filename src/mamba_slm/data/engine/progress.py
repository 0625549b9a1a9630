"""How far a stage is, how fast it goes and how long it will take."""

from __future__ import annotations

from dataclasses import dataclass

from mamba_slm.core.units import format_bytes, format_seconds


@dataclass(frozen=True, kw_only=True)
class StageProgress:
    """A moment of a stage."""

    stage: str
    tasks: int
    done: int
    """Tasks that are there, also those that were there before."""
    running: int
    quarantined: int
    retries: int
    size: int
    """The sum of the tasks' sizes."""
    done_size: int
    new_size: int
    """Of `done_size`, what this run has done."""
    seconds: float
    """Since this run of the stage began."""

    @property
    def size_per_second(self) -> float:
        """How fast this run is."""
        return self.new_size / self.seconds if self.seconds > 0 else 0.0

    @property
    def seconds_left(self) -> float:
        """At the same speed; infinite before anything is done."""
        left = self.size - self.done_size
        return left / self.size_per_second if self.size_per_second else float("inf") if left else 0.0

    def __str__(self) -> str:
        share = self.done_size / self.size if self.size else 1.0
        words = [f"{self.stage}: {self.done} of {self.tasks} tasks ({share:.0%})"]
        if self.running:
            words.append(f"{self.running} running for {format_seconds(self.seconds)}")
        if self.new_size and self.size > self.tasks:
            words.append(f"{format_bytes(self.size_per_second)}/s")
        if self.new_size and self.done < self.tasks:
            words.append(f"{format_seconds(self.seconds_left)} left")
        if self.retries:
            words.append(f"{self.retries} tried again")
        if self.quarantined:
            words.append(f"{self.quarantined} quarantined")
        return ", ".join(words)
