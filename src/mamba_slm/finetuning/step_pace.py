"""What a step of a Trainer was like, and the line that is said once per interval."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mamba_slm.training.memory import memory_bytes
from mamba_slm.training.peak import Peak
from mamba_slm.training.progress_line import progress_line
from mamba_slm.training.reports import StepReport


class StepPace:
    """Counts tokens and time of steps, without saving and measuring.

    Args:
        device: whose memory counts.
        log_every_steps: steps between two lines.
    """

    def __init__(self, device: str, *, log_every_steps: int):
        self.device, self.log_every_steps = device, log_every_steps
        self.flops_per_token: float | None = None
        self.peak: Peak | None = None
        """With both of them, rows say MFU."""
        self.tokens = 0
        """Of the whole run."""
        self.begin(progress=0.0, seconds=0.0)

    def begin(self, *, progress: float, seconds: float) -> None:
        """This process starts at this progress of the run, after this much of its time."""
        self.begin_progress, self.begin_seconds = progress, seconds
        self.interval_tokens, self.interval_seconds, self.last_line = 0, 0.0, None

    def report(self, state: Any, logs: Mapping[str, Any], *, step_seconds: float, seconds: float) -> StepReport:
        """What the Trainer logged as a row, with the tokens since the last one.

        Args:
            state: of the Trainer.
            step_seconds: of the step.
            seconds: of the run.
        """
        step_seconds = max(step_seconds, 1e-9)
        counted = int(logs.get("num_tokens") or state.num_input_tokens_seen or 0)
        new, self.tokens = max(0, counted - self.tokens), max(self.tokens, counted)
        self.interval_tokens += new
        self.interval_seconds += step_seconds
        return StepReport(
            step=state.global_step,
            tokens=self.tokens,
            seconds=seconds,
            loss=float(logs["loss"]),
            learning_rate=float(logs.get("learning_rate", 0.0)),
            grad_norm=float(logs.get("grad_norm", 0.0)),
            tokens_per_second=new / step_seconds,
            mfu=self.mfu(new / step_seconds),
            memory_bytes=memory_bytes(self.device),
        )

    def mfu(self, tokens_per_second: float) -> float | None:
        """FLOP/s of the model over the machine's peak, where both are known."""
        if self.flops_per_token is None or self.peak is None:
            return None
        return self.flops_per_token * tokens_per_second / self.peak.flops_per_second

    def line(self, report: StepReport, *, total_steps: int | None, progress: float, is_last: bool) -> str | None:
        """The line of an interval, which ends with it; None where none is due."""
        if not (self.last_line is None or report.step % self.log_every_steps == 0 or is_last):
            return None
        rate = self.interval_tokens / max(self.interval_seconds, 1e-9)
        done = progress - self.begin_progress
        eta = (report.seconds - self.begin_seconds) * (1 - progress) / done if done > 0 else None
        self.interval_tokens, self.interval_seconds, self.last_line = 0, 0.0, report.step
        return progress_line(
            report,
            total_steps=total_steps,
            tokens_per_second=rate,
            mfu=self.mfu(rate),
            peak=str(self.peak) if self.peak else None,
            eta_seconds=eta,
        )
