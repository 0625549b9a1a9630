"""From what the trainer reports to curves in every tracker that the settings name."""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

from mamba_slm.core.config import to_dict
from mamba_slm.core.errors import MambaSlmError, MissingDependencyError
from mamba_slm.core.registry import load
from mamba_slm.runs.layout import RunDirectory
from mamba_slm.runs.redact import redact_tree
from mamba_slm.training.hooks import Hook, RunView
from mamba_slm.training.layers.report import LayerReport, LogHistogram, all_layers
from mamba_slm.training.reports import StepReport, ValidationReport
from mamba_slm.training.tracking.tracker import TrackedRun, Tracker, identify, remember

TRACKERS = {
    "tensorboard": "mamba_slm.training.tracking.tensorboard_tracker:TensorBoardTracker",
    "wandb": "mamba_slm.training.tracking.wandb_tracker:WandbTracker",
    "trackio": "mamba_slm.training.tracking.trackio_tracker:TrackioTracker",
}
STEP_CURVES = ("loss", "learning_rate", "grad_norm", "tokens_per_second", "mfu", "memory_bytes")


class NamesTrackers(Protocol):
    """Settings of a run, of whatever kind."""

    @property
    def log(self) -> tuple[str, ...]: ...


def require_trackers(config: NamesTrackers) -> None:
    """Refuse trackers whose package is not there before text is read, not at the first step. Nothing is imported.

    Raises:
        MissingDependencyError: a package is not installed.
    """
    for name in config.log:
        if name in TRACKERS and importlib.util.find_spec(name) is None:
            raise MissingDependencyError(
                f"--log {name} needs {name}, which is not installed", hint="pip install 'mamba-slm[track]'"
            )


@contextlib.contextmanager
def tracked(config: NamesTrackers, run: RunDirectory, say: Callable[[str], None]) -> Iterator[list[Hook]]:
    """The hook for the trackers in `config.log`; none where only jsonl is asked for. They end with the block."""
    names = [name for name in dict.fromkeys(config.log) if name != "jsonl"]
    if not names:
        yield []
        return
    settings = redact_tree({"train": to_dict(config)})
    identity = identify(run.path, run.name, settings)
    hook = TrackingHook([load("tracker", name, TRACKERS)() for name in names], identity, say=say)
    ended_well = False
    try:
        yield [hook]
        ended_well = True
    finally:
        hook.close(ended_well=ended_well)


class TrackingHook(Hook):
    """Sends curves to trackers. One that fails on the way is left out from then on, and says so: the run counts more.

    Args:
        trackers: not yet open.
        run: as they know it.
        say: takes lines for people.
    """

    def __init__(self, trackers: Sequence[Tracker], run: TrackedRun, *, say: Callable[[str], None]):
        self.waiting, self.run, self.say = list(trackers), run, say
        self.trackers: list[Tracker] = []
        self.step = 0

    def reads_model(self, moment: str, step: int) -> bool:
        return False

    def on_start(self, view: RunView) -> None:
        while self.waiting:
            tracker = self.waiting.pop(0)
            self.say(f"tracker {tracker.name}: {tracker.open(self.run, step=view.step)}")
            self.trackers.append(tracker)

    def on_step_end(self, view: RunView, report: StepReport) -> None:
        values = {f"train/{name}": value for name in STEP_CURVES if (value := getattr(report, name)) is not None}
        self.log(values, step=report.step)

    def on_validation(self, view: RunView, report: ValidationReport) -> None:
        values = {"validation/loss": report.loss}
        if report.bits_per_byte is not None:
            values["validation/bits_per_byte"] = report.bits_per_byte
        for name, source in report.sources.items():
            values |= {f"source/{key} of {name}": value for key, value in source.row().items()}
        self.log(values, step=report.step)
        self.flush()

    def on_layers(self, view: RunView, report: LayerReport) -> None:
        values = {f"update_ratio/{part}": ratio for part, ratio in report.update_ratios.items()}
        found = {"step_size": report.step_sizes, "decay_life": report.decay_lives}
        for name, histograms in found.items():
            medians = {layer: histogram.quantile(0.5) for layer, histogram in histograms.items()}
            values |= {f"{name}/median of {layer}": value for layer, value in medians.items() if value is not None}
        self.log(values, step=report.step)
        for name, histograms in found.items():
            whole = all_layers(histograms)
            if whole is not None:
                self.log_histogram(f"{name}/all layers", whole, step=report.step)

    def on_checkpoint(self, view: RunView, folder: Path) -> None:
        self.flush()

    def log(self, values: dict[str, float], *, step: int) -> None:
        """Points for every tracker that does not have the step yet."""
        self.step = max(self.step, step)
        for tracker in self.trackers:
            if step >= tracker.first_step:
                with self.left_out_when_it_fails(tracker):
                    tracker.log(values, step=step)
        self.forget_failed()

    def log_histogram(self, name: str, histogram: LogHistogram, *, step: int) -> None:
        """A distribution for every tracker that does not have the step yet."""
        for tracker in self.trackers:
            if step >= tracker.first_step:
                with self.left_out_when_it_fails(tracker):
                    tracker.log_histogram(name, histogram.counts, histogram.edges(), step=step)
        self.forget_failed()

    def flush(self) -> None:
        """Bring everything to the disk, and remember how far it goes."""
        for tracker in self.trackers:
            with self.left_out_when_it_fails(tracker):
                tracker.flush()
        self.forget_failed()
        remember(self.run, step=self.step)

    def close(self, *, ended_well: bool) -> None:
        """End every tracker; what goes wrong here is said, and raises nothing."""
        for tracker in self.trackers:
            with self.left_out_when_it_fails(tracker):
                tracker.close(ended_well=ended_well)
        if self.trackers:
            remember(self.run, step=self.step)
        self.trackers = []

    @contextlib.contextmanager
    def left_out_when_it_fails(self, tracker: Tracker) -> Iterator[None]:
        """A tracker's network, service or disk may fail for reasons of its own."""
        try:
            yield
        except Exception as error:
            what = error.message if isinstance(error, MambaSlmError) else f"{type(error).__name__}: {error}"
            self.say(f"careful: tracker {tracker.name} failed and gets nothing more: {what}")
            self.failed = [*self.failed, tracker]

    failed: Sequence[Tracker] = ()

    def forget_failed(self) -> None:
        """Keep the trackers that work."""
        self.trackers = [tracker for tracker in self.trackers if tracker not in self.failed]
