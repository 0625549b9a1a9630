"""Traces some steps of a run with torch's profiler, in the first process, and writes what came out to RUN/profile."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.profiler import ProfilerActivity

from mamba_slm.core.files import write_json_atomic, write_text_atomic
from mamba_slm.model.stack import LanguageModel
from mamba_slm.runs.layout import RunDirectory
from mamba_slm.training.config import TrainConfig
from mamba_slm.training.hooks import Hook, RunView
from mamba_slm.training.profiling.ranges import BACKWARD, FORWARD, KINDS, WHOLE, named_ranges
from mamba_slm.training.profiling.steps import StepRange, parse_steps
from mamba_slm.training.profiling.tables import KindTime, Operation, Profile, kind_table, operation_table, profile_text
from mamba_slm.training.reports import StepReport


@contextlib.contextmanager
def profiled(
    config: TrainConfig, model: LanguageModel, run: RunDirectory, say: Callable[[str], None]
) -> Iterator[list[Hook]]:
    """The hook for `config.profile_steps`, if there are any; it ends with the block."""
    if config.profile_steps is None:
        yield []
        return
    hook = ProfileHook(model, parse_steps(config.profile_steps), run, device=config.device, say=say)
    try:
        yield [hook]
    finally:
        hook.finish()


class ProfileHook(Hook):
    """Traces steps of the training itself; what is due between them (saving, measuring, hooks) is in the trace.

    Args:
        model: whose sublayers get names.
        steps: of the run.
        run: gets profile/steps-FIRST-LAST.{trace.json.gz,json,md}.
        device: whose time counts.
        say: takes the tables.
    """

    def __init__(
        self, model: LanguageModel, steps: StepRange, run: RunDirectory, *, device: str, say: Callable[[str], None]
    ):
        self.model, self.steps, self.folder, self.say = model, steps, run.path / "profile", say
        self.on_gpu = torch.device(device).type == "cuda"
        self.open: contextlib.ExitStack | None = None
        self.first = self.last = 0

    def reads_model(self, moment: str, step: int) -> bool:
        return False

    def on_start(self, view: RunView) -> None:
        self.begin_or_end(view.step)

    def on_step_end(self, view: RunView, report: StepReport) -> None:
        self.begin_or_end(report.step)

    def begin_or_end(self, step: int) -> None:
        """Act after `step` steps."""
        self.last = step
        if self.open is not None and step >= self.steps.last:
            self.finish()
        elif self.open is None and self.steps.first <= step + 1 <= self.steps.last:
            self.begin(step + 1)

    def begin(self, step: int) -> None:
        """Trace from this step on."""
        self.first = step
        self.open = contextlib.ExitStack()
        self.can_name = self.open.enter_context(named_ranges(self.model))
        activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if self.on_gpu else [])]
        self.profiler = self.open.enter_context(torch.profiler.profile(activities=activities))
        self.started = time.perf_counter()

    def finish(self) -> None:
        """Stop, write what there is, and say it; nothing where nothing was begun."""
        if self.open is None:
            return
        if self.on_gpu:
            torch.cuda.synchronize()
        seconds = time.perf_counter() - self.started
        self.open.close()
        self.open = None
        if self.last < self.first:  # an error ended the very first step
            return
        steps = StepRange(first=self.first, last=self.last)
        name = f"steps-{steps.first}-{steps.last}"
        self.folder.mkdir(parents=True, exist_ok=True)
        trace = self.folder / f"{name}.trace.json.gz"
        self.profiler.export_chrome_trace(str(trace))
        profile = self.profile(steps, seconds, trace.name)
        write_json_atomic(self.folder / f"{name}.json", profile.to_dict())
        write_text_atomic(self.folder / f"{name}.md", profile_text(profile))
        self.say(f"profile of steps {steps}, milliseconds per step:\n\n{kind_table(profile)}\n")
        self.say(f"{operation_table(profile)}\n")
        if not self.can_name:
            self.say("sublayers are compiled, so their kinds have no names in the trace")
        self.say(f"trace: {trace}; open it in https://ui.perfetto.dev")

    def profile(self, steps: StepRange, seconds: float, trace: str) -> Profile:
        """From the profiler's events to a `Profile`."""
        averages = {event.key: event for event in self.profiler.key_averages()}

        def total(name: str) -> float:
            event = averages.get(name)
            if event is None:
                return 0.0
            return (event.device_time_total if self.on_gpu else event.cpu_time_total) / 1e6

        kinds = [
            KindTime(
                name=kind,
                forward_seconds=total(FORWARD + kind),
                backward_seconds=total(BACKWARD + kind),
                calls=averages[FORWARD + kind].count,
            )
            for kind in KINDS.values()
            if FORWARD + kind in averages
        ]
        forward = sum(kind.forward_seconds for kind in kinds)
        own = [
            Operation(name=name, calls=event.count, seconds=self.own_seconds(event))
            for name, event in averages.items()
            if not name.startswith((FORWARD, BACKWARD)) and name != WHOLE
        ]
        return Profile(
            steps=steps,
            device="GPU" if self.on_gpu else "CPU",
            wall_seconds=seconds,
            kinds=kinds,
            head_seconds=max(0.0, total(WHOLE) - forward),
            optimizer_seconds=sum(total(name) for name in averages if name.startswith("Optimizer.step#")),
            operations=sorted(own, key=lambda operation: -operation.seconds)[:50],
            trace=trace,
        )

    def own_seconds(self, event: Any) -> float:
        """Time of an operation without those that it called."""
        return (event.self_device_time_total if self.on_gpu else event.self_cpu_time_total) / 1e6
