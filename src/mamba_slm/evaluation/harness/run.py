"""Evaluate a model on benchmarks: load the tasks, ask, write what was answered and what it makes."""

from __future__ import annotations

import importlib.metadata
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mamba_slm import __version__
from mamba_slm.core.errors import ConfigError
from mamba_slm.core.optional import require
from mamba_slm.evaluation.harness.adapter import HarnessModel
from mamba_slm.evaluation.harness.answers import AnswerStore
from mamba_slm.evaluation.harness.code_tasks import CodeSettings, run_code_benchmark
from mamba_slm.evaluation.harness.collecting import group_results, samples_of, task_results
from mamba_slm.evaluation.harness.generating import Generator
from mamba_slm.evaluation.harness.scoring import Scorer
from mamba_slm.evaluation.harness.tasks import PURPOSE, LoadedTasks, load_tasks, quietly, without_code
from mamba_slm.evaluation.results import ANSWERS_FILE, Evaluation, Sample, TaskResult, write_evaluation
from mamba_slm.evaluation.scores.files import write_pages
from mamba_slm.generation.loading import LoadedModel
from mamba_slm.generation.runtime import TorchRuntime
from mamba_slm.generation.states.fingerprint import fingerprint_of
from mamba_slm.model.checkpoint import is_model_folder
from mamba_slm.tasks.code.benchmarks import CodeBenchmark, code_benchmark
from mamba_slm.tasks.code.question import CodeQuestion
from mamba_slm.tasks.sandbox.proof import proven_walls
from mamba_slm.text.chat_template import read_chat_template

PACKAGES = ("lm-eval", "datasets", "torch", "transformers", "tokenizers", "sacrebleu", "rouge-score")


@dataclass(frozen=True, kw_only=True)
class BenchmarkSettings:
    """How a model is asked."""

    benchmarks: tuple[str, ...]
    """Names of lm-evaluation-harness, or YAML files in its form."""
    data_dir: str | None = None
    """Folder with local copies of the questions; None downloads them."""
    num_fewshot: int | None = None
    """Examples before each question; None takes the number of the task."""
    limit: int | None = None
    """Ask only the first so many questions of each task; such scores are for trying things out."""
    chat: bool = False
    """Put each question as a message of a user, through the model's chat template."""
    add_bos: bool = False
    """Put the token that begins a document before every prompt, which the tokenizer alone would not."""
    code: CodeSettings = field(default_factory=CodeSettings)
    """How programs are written and run."""

    def __post_init__(self) -> None:
        if not self.benchmarks:
            raise ConfigError("no benchmark was named", hint="name some: --benchmarks arc_easy,piqa")
        if self.limit is not None and self.limit < 1:
            raise ConfigError(f"limit must be at least 1, got {self.limit}")
        if self.num_fewshot is not None and self.num_fewshot < 0:
            raise ConfigError(f"num_fewshot must not be negative, got {self.num_fewshot}")


@dataclass(frozen=True)
class Questions:
    """What is to be asked."""

    tasks: LoadedTasks
    code: list[tuple[CodeBenchmark, list[CodeQuestion]]]


def find_questions(settings: BenchmarkSettings) -> Questions:
    """Load every benchmark, before anything is asked.

    Raises:
        UnknownNameError, DataError, ConfigError: see `load_tasks` and `CodeBenchmark.questions`.
        SetupError: there are benchmarks of programs among them, and this machine has no sandbox.
    """
    data_dir = Path(settings.data_dir) if settings.data_dir else None
    names, code_names = without_code(settings.benchmarks)
    if code_names:
        proven_walls()
    code = [(one, one.questions(data_dir)[: settings.limit]) for one in map(code_benchmark, code_names)]
    tasks = LoadedTasks({}, {}, {})
    if names:
        tasks = load_tasks(names, data_dir=data_dir, num_fewshot=settings.num_fewshot)
    return Questions(tasks, code)


def run_benchmarks(
    loaded: LoadedModel,
    settings: BenchmarkSettings,
    *,
    out: Path,
    resume: bool = False,
    questions: Questions | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> Evaluation:
    """Ask every question, keep each answer in `out`/answers.jsonl, and write `out`/results.json.

    Args:
        resume: go on with the answers that are in `out` already.
        questions: what `find_questions` gave for these settings, where the caller has it.

    Raises:
        ConfigError: the model cannot be asked this way; it has no chat template, or its context is too short.
        UnknownNameError, DataError, SetupError: see `find_questions`.
        UsageError, CheckpointError: see `AnswerStore`.
    """
    runtime = loaded.runtime
    if not isinstance(runtime, TorchRuntime):
        raise ConfigError("benchmarks are asked of models that PyTorch runs", hint="use --runtime torch")
    template = read_chat_template(loaded.folder) if settings.chat else None
    if settings.chat and template is None:
        raise ConfigError(
            f"{loaded.folder} has no chat template, and --chat puts every question through it",
            hint="leave --chat out: the questions are put as text; or put a chat_template.jinja into the folder",
        )
    started = time.monotonic()
    questions = questions or find_questions(settings)
    tasks = questions.tasks
    stored = loaded.weights_folder  # a model that trains, or has adapters, is in memory only
    if stored is not None and not is_model_folder(stored):
        stored = None
    fingerprint = asdict(fingerprint_of(runtime, tokenizer=loaded.tokenizer, folder=stored))
    about = {"fingerprint": {**fingerprint, "backend": "any"}, "chat": settings.chat, "add_bos": settings.add_bos}
    store = AnswerStore(out / ANSWERS_FILE, about=about, resume=resume)
    scorer, generator = Scorer(runtime.model), Generator(runtime, loaded.tokenizer)
    asked = HarnessModel(
        scorer, generator, loaded.tokenizer, store, add_bos=settings.add_bos, chat_template=template, say=say
    )
    samples: dict[str, list[Sample]] = {}
    results: list[TaskResult] = []
    groups: list[TaskResult] = []
    try:
        if tasks.tasks:
            found = ask_harness(asked, settings, tasks)
            samples = {task: samples_of(found["samples"][task]) for task in tasks.tasks}
            results = task_results(found, tasks, samples)
            groups = group_results(found, tasks, results)
        for benchmark, of_code in questions.code:
            result, samples[benchmark.name] = run_code_benchmark(asked, benchmark, of_code, settings.code, say=say)
            results.append(result)
    finally:
        store.close()
    evaluation = Evaluation(
        model=str(loaded.folder),
        fingerprint=fingerprint,
        settings={**asdict(settings), "benchmarks": list(settings.benchmarks)},
        versions=versions(),
        tasks=tuple(results),
        groups=tuple(groups),
        tokens=replace(scorer.tokens, generated=generator.generated_tokens),
        seconds=time.monotonic() - started,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        samples=samples,
    )
    write_evaluation(out, evaluation)
    write_pages(out, evaluation)
    return evaluation


def ask_harness(asked: HarnessModel, settings: BenchmarkSettings, tasks: LoadedTasks) -> dict[str, Any]:
    """What lm-evaluation-harness finds."""
    with quietly():
        evaluator: Any = require("lm_eval.evaluator", extra="eval", purpose=PURPOSE)
        return evaluator.evaluate(
            lm=asked,
            task_dict=tasks.as_harness_dict(),
            limit=settings.limit,
            bootstrap_iters=0,
            log_samples=True,
            apply_chat_template=settings.chat,
            fewshot_as_multiturn=settings.chat,
        )


def versions() -> dict[str, str]:
    """Of the packages that decide a score."""
    found = {"mamba-slm": __version__}
    installed = {
        one.metadata["Name"].lower().replace("_", "-"): one.version for one in importlib.metadata.distributions()
    }
    return found | {name: installed[name] for name in PACKAGES if name in installed}
