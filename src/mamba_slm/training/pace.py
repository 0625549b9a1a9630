"""How fast a run is: tokens per second and MFU over an interval, and when it will end. Imports no torch."""

from __future__ import annotations

import math

from mamba_slm.training.peak import Peak
from mamba_slm.training.progress_line import progress_line
from mamba_slm.training.reports import StepReport
from mamba_slm.training.schedule import Limits


class Pace:
    """Sums the time of steps between two lines, without saving and measuring.

    Args:
        batch_tokens: tokens of a step.
        flops_per_token: of forward and backward, recomputation not counted.
        peak: None makes MFU None.
        limits: where the run ends.
    """

    def __init__(self, *, batch_tokens: int, flops_per_token: float, peak: Peak | None, limits: Limits):
        self.batch_tokens, self.flops_per_token, self.peak, self.limits = batch_tokens, flops_per_token, peak, limits
        self.step_seconds = 0.0
        self.steps = 0
        self.is_first_line = True
        self.begin(progress=0.0, seconds=0.0)

    def begin(self, *, progress: float, seconds: float) -> None:
        """This process starts at this progress of the run, after this much of its time."""
        self.begin_progress, self.begin_seconds = progress, seconds

    def add(self, step_seconds: float) -> float:
        """Count a step; returns its tokens per second."""
        self.step_seconds += step_seconds
        self.steps += 1
        return self.batch_tokens / max(step_seconds, 1e-9)

    def mfu(self, tokens_per_second: float) -> float | None:
        """Model FLOP/s over the peak."""
        if self.peak is None:
            return None
        return self.flops_per_token * tokens_per_second / self.peak.flops_per_second

    def eta_seconds(self, *, progress: float, seconds: float) -> float | None:
        """Time left at the pace of this process so far, saving and measuring included."""
        done = progress - self.begin_progress
        return (seconds - self.begin_seconds) * (1 - progress) / done if done > 0 else None

    def total_steps(self) -> int | None:
        """Steps of the whole run when limits say so; None under a time limit alone."""
        by_tokens = None if self.limits.tokens is None else math.ceil(self.limits.tokens / self.batch_tokens)
        return min((steps for steps in (self.limits.steps, by_tokens) if steps is not None), default=None)

    def line(self, report: StepReport, *, progress: float) -> str:
        """The line for the interval since the last one; begins a new interval."""
        rate = self.steps * self.batch_tokens / max(self.step_seconds, 1e-9)
        self.step_seconds, self.steps = 0.0, 0
        eta = self.eta_seconds(progress=progress, seconds=report.seconds)
        if self.is_first_line:  # the first step sets up kernels and may compile for a minute: forget it
            self.begin(progress=progress, seconds=report.seconds)
            self.is_first_line = False
        return progress_line(
            report,
            total_steps=self.total_steps(),
            tokens_per_second=rate,
            mfu=self.mfu(rate),
            peak=str(self.peak) if self.peak else None,
            eta_seconds=eta,
        )
