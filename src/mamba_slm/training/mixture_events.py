"""Changes of a mixture's weights as events of the run: planned ones, and those that a resumed run brings."""

from __future__ import annotations

from collections.abc import Callable

from mamba_slm.core.units import format_count
from mamba_slm.data.mixture import Mixture, Phase
from mamba_slm.runs.metrics import read_metrics
from mamba_slm.training.events import Events
from mamba_slm.training.hooks import Hook, RunView
from mamba_slm.training.reports import StepReport

KIND = "mixture"


class MixtureHook(Hook):
    """Adds an event when new weights begin to hold.

    Args:
        mixture: of the run; its phases may change when the run is resumed.
        say: takes lines for people.
    """

    def __init__(self, mixture: Mixture, say: Callable[[str], None]):
        self.mixture, self.say = mixture, say
        self.done = 0

    def reads_model(self, moment: str, step: int) -> bool:
        return False

    def on_start(self, view: RunView) -> None:
        self.done = view.tokens // self.mixture.context_tokens
        known = {row.get("row") for row in read_metrics(view.run.events_file) if row.get("kind") == KIND}
        for phase in self.mixture.phases[1:]:  # also one that a kill kept from being written
            if phase.first_sample <= self.done and phase.first_sample not in known:
                self.add(view, phase, say=say_nothing)  # the loader said it when it went on under other weights

    def on_step_end(self, view: RunView, report: StepReport) -> None:
        before, self.done = self.done, view.tokens // self.mixture.context_tokens
        for phase in self.mixture.phases:
            if before < phase.first_sample <= self.done:
                self.add(view, phase, say=self.say)

    def add(self, view: RunView, phase: Phase, *, say: Callable[[str], None]) -> None:
        """Keep one change, and say it."""
        first = phase.first_sample
        shares = self.mixture.shares(first)
        tokens = first * self.mixture.context_tokens
        Events(view.run, say).add(
            view.step,
            KIND,
            f"the weights of the sources change at row {first:,} ({format_count(tokens)} tokens): "
            + ", ".join(f"{name} {share:.2%}" for name, share in shares.items()),
            row=first,
            tokens=tokens,
            shares=shares,
            rows_before=dict(phase.drawn),
        )


def say_nothing(text: str) -> None:
    """What is known already."""
