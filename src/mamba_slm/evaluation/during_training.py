"""Benchmarks asked while a model trains: a hook that never changes what is trained.

RUN/benchmarks.jsonl               a line for each score, for curves
RUN/benchmarks/step-NNNNNNNN/      results.json with every sample, and the pages
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from typing import Protocol

from mamba_slm.evaluation.harness.names import split_names
from mamba_slm.evaluation.harness.run import BenchmarkSettings, Questions, find_questions, run_benchmarks
from mamba_slm.evaluation.results import RESULTS_FILE, Evaluation, read_evaluation
from mamba_slm.evaluation.scores.text import results_shown, shown
from mamba_slm.generation.loading import LoadedModel
from mamba_slm.generation.runtime import TorchRuntime
from mamba_slm.runs.metrics import MetricsWriter
from mamba_slm.text.tokenizer import Tokenizer
from mamba_slm.training.hooks import Hook, RunView
from mamba_slm.training.reports import StepReport

FOLDER = "benchmarks"


class BenchmarkHook(Hook):
    """Asks benchmarks every so many steps and at the end.

    The questions are found at once, so that what is missing is said before the run begins. A run that was killed while
    asking asks again when it goes on; answers of steps that it takes anew are forgotten.

    Raises:
        UnknownNameError, DataError, SetupError: see `find_questions`.
    """

    def __init__(
        self, settings: BenchmarkSettings, *, every_steps: int, say: Callable[[str], None], asks_first: bool = False
    ):
        self.settings, self.every_steps, self.say, self.asks_first = settings, every_steps, say, asks_first
        self.questions: Questions = find_questions(settings)

    def reads_model(self, moment: str, step: int) -> bool:
        if moment == "on_step_end":
            return step % self.every_steps == 0
        return moment == "on_end" or (moment == "on_start" and self.is_due_at_start(step))

    def is_due_at_start(self, step: int) -> bool:
        """Whether to ask before the next step: before the first one only where there is something to learn of it."""
        return step % self.every_steps == 0 if step > 0 else self.asks_first

    def on_start(self, view: RunView) -> None:
        is_due = self.is_due_at_start(view.step)
        for folder in (view.run.path / FOLDER).glob("step-*"):  # of steps that will be taken anew
            if int(folder.name.removeprefix("step-")) > view.step:
                shutil.rmtree(folder)
        with MetricsWriter(view.run.benchmarks_file) as writer:
            writer.truncate_after(view.step - is_due)
        if is_due:
            self.ask(view)

    def on_step_end(self, view: RunView, report: StepReport) -> None:
        if view.step % self.every_steps == 0:
            self.ask(view)

    def on_end(self, view: RunView, reason: str) -> None:
        if view.step % self.every_steps:
            self.ask(view)

    def ask(self, view: RunView) -> None:
        """Ask now, unless this step was asked to the end before a kill, and write the scores down."""
        folder = view.run.path / FOLDER / f"step-{view.step:08d}"
        if (folder / RESULTS_FILE).is_file():
            evaluation = read_evaluation(folder)
        else:
            shutil.rmtree(folder, ignore_errors=True)  # what a kill left half asked
            folder.mkdir(parents=True)
            model = LoadedModel(
                TorchRuntime(view.model.eval()), Tokenizer.load(view.run.tokenizer_file), view.run.path, "in training"
            )
            evaluation = run_benchmarks(model, self.settings, out=folder, questions=self.questions)
        with MetricsWriter(view.run.benchmarks_file) as writer:
            for row in rows_of(evaluation):
                writer.append({"step": view.step, "tokens": view.tokens, **row})
        self.say(f"benchmarks at step {view.step}: {summary(evaluation)}")


def rows_of(evaluation: Evaluation) -> list[dict[str, str | float | int | None]]:
    """The main score of each benchmark."""
    found: list[dict[str, str | float | int | None]] = []
    for one in results_shown(evaluation):
        score = one.scores[one.main_metric]
        found.append(
            {
                "task": one.task, "metric": one.main_metric, "score": score.value, "stderr": score.stderr,
                "questions": one.num_questions,
            }
        )  # fmt: skip
    return found


def summary(evaluation: Evaluation) -> str:
    """One line of scores."""
    return ", ".join(
        f"{one.task} {shown(one.main_metric, one.scores[one.main_metric].value)}" for one in results_shown(evaluation)
    )


class AsksBenchmarks(Protocol):
    """Settings of a run, of whatever kind."""

    @property
    def benchmarks(self) -> tuple[str, ...]: ...
    @property
    def benchmark_every_steps(self) -> int: ...
    @property
    def benchmark_limit(self) -> int | None: ...
    @property
    def benchmark_data_dir(self) -> str | None: ...


def benchmark_hooks(config: AsksBenchmarks, *, say: Callable[[str], None], asks_first: bool = False) -> list[Hook]:
    """The hook that the settings of a run ask for, if they ask for one.

    Args:
        asks_first: before the first step, too: of a model that can do something already.

    Raises:
        UnknownNameError, DataError, SetupError: see `find_questions`.
    """
    if not config.benchmarks:
        return []
    settings = BenchmarkSettings(
        benchmarks=tuple(split_names(",".join(config.benchmarks))),  # names between commas, too, as `eval` takes them
        data_dir=config.benchmark_data_dir,
        limit=config.benchmark_limit,
    )
    return [BenchmarkHook(settings, every_steps=config.benchmark_every_steps, say=say, asks_first=asks_first)]
