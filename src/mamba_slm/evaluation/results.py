"""What an evaluation leaves behind: scores with their errors, every sample, and what is needed to repeat it.

FOLDER/results.json     an `Evaluation`, samples included; there once everything is scored
FOLDER/answers.jsonl    each answer as it was scored; what a broken run goes on from
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mamba_slm.core.errors import DataError
from mamba_slm.core.files import write_text_atomic

FORMAT_VERSION = 1
RESULTS_FILE = "results.json"
ANSWERS_FILE = "answers.jsonl"
MOST_PROMPT_CHARACTERS = 1000
"""Of each prompt that is kept: examples before the question are not what one wants to read 14,000 times."""
MAIN_METRICS = ("acc_norm", "acc", "exact_match", "pass@1", "bleu_acc", "perplexity")
"""Which score of a task stands for it where there is room for one; the first that it has."""


@dataclass(frozen=True, kw_only=True)
class Score:
    """One metric of a task."""

    value: float
    """As the task defines it; shares lie between 0 and 1."""
    stderr: float | None = None
    """Standard error over the questions; None where the metric has none."""
    higher_is_better: bool = True


@dataclass(frozen=True, kw_only=True)
class TaskResult:
    """Scores of one task, or of a group of tasks."""

    task: str
    """Its name in lm-evaluation-harness."""
    version: str
    """Of the task's prompts and metrics there."""
    num_fewshot: int
    num_questions: int
    scores: Mapping[str, Score]
    """By metric; with the filter of the answer behind a comma where it has one: "exact_match,strict-match"."""
    members: tuple[str, ...] = ()
    """Tasks of a group; empty for a task."""
    note: str = ""
    """What a reader must know to compare the score, such as which local copy was used."""

    @property
    def main_metric(self) -> str:
        """The score that stands for the task."""
        plain = {name.partition(",")[0]: name for name in reversed(list(self.scores))}
        return next((plain[name] for name in MAIN_METRICS if name in plain), next(iter(self.scores)))


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One question as it was asked and answered."""

    question: int
    """Number in the split, from 0."""
    prompt_sha256: str
    """Of the text before the first choice, few-shot examples included."""
    target: str
    """What would have been right."""
    prompt: str = ""
    """Its end, in which the question stands; at most `MOST_PROMPT_CHARACTERS`, "… " before what was cut."""
    choices: tuple[str, ...] = ()
    """Continuations that were scored; empty where text was generated."""
    logprobs: tuple[float, ...] = ()
    """Natural log-probability of each choice."""
    answer: str = ""
    """The likeliest choice, or the text that was generated and what the filter found in it."""
    scores: Mapping[str, float] = field(default_factory=dict)
    """By metric, as in `TaskResult.scores`; those that are a number for each question."""


@dataclass(frozen=True, kw_only=True)
class TokenCount:
    """How much the model had to read."""

    computed: int = 0
    """Tokens that went through the model to score choices."""
    plain: int = 0
    """Tokens had every choice been read with its whole prompt."""
    generated: int = 0

    @property
    def saved(self) -> float:
        """How many times fewer tokens were computed."""
        return self.plain / self.computed if self.computed else 1.0


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Results of one model."""

    model: str
    """The path as given."""
    fingerprint: Mapping[str, str]
    """Hashes of weights and tokenizer, precision, and what computed: see `generation.states.fingerprint`."""
    settings: Mapping[str, Any]
    """What was asked for."""
    versions: Mapping[str, str]
    """Of the packages that took part."""
    tasks: tuple[TaskResult, ...]
    groups: tuple[TaskResult, ...] = ()
    tokens: TokenCount = field(default_factory=TokenCount)
    seconds: float = 0.0
    created: str = ""
    """UTC, ISO 8601."""
    samples: Mapping[str, Sequence[Sample]] = field(default_factory=dict)
    """By task."""
    format_version: int = FORMAT_VERSION

    def find(self, task: str) -> TaskResult | None:
        """The task or group of this name."""
        return next((one for one in (*self.groups, *self.tasks) if one.task == task), None)

    def paired(self, other: Evaluation, task: str, metric: str) -> list[tuple[float, float]]:
        """Scores of the questions that both were asked with the same prompt, for paired differences."""
        theirs = {(one.question, one.prompt_sha256): one for one in other.samples.get(task, ())}
        pairs: list[tuple[float, float]] = []
        for one in self.samples.get(task, ()):
            match = theirs.get((one.question, one.prompt_sha256))
            if match is not None and metric in one.scores and metric in match.scores:
                pairs.append((one.scores[metric], match.scores[metric]))
        return pairs


def write_evaluation(folder: Path, evaluation: Evaluation) -> Path:
    """Write `folder`/results.json and return its path: the summary indented, one line for each sample."""
    import json

    from mamba_slm.runs.jsonl import without_nan

    fields = without_nan(asdict(evaluation))
    samples = fields.pop("samples")
    lines = json.dumps(fields, indent=2, ensure_ascii=False).removesuffix("\n}")
    parts = []
    for task, found in samples.items():
        rows = ",\n".join(f"      {json.dumps(one, ensure_ascii=False)}" for one in found)
        parts.append(f"    {json.dumps(task)}: [\n{rows}\n    ]")
    joined = ",\n".join(parts)
    path = folder / RESULTS_FILE
    write_text_atomic(path, f'{lines},\n  "samples": {{\n{joined}\n  }}\n}}\n')
    return path


def read_evaluation(path: Path | str) -> Evaluation:
    """Read what `write_evaluation` wrote; `path` is the file or its folder.

    Raises:
        DataError: no such file, not an evaluation, or written by a newer version.
    """
    import json

    path = Path(path)
    file = path / RESULTS_FILE if path.is_dir() else path
    try:
        fields = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{file} cannot be read: {error}", hint="write it with: mamba-slm eval MODEL") from error
    version = fields.get("format_version") if isinstance(fields, dict) else None
    if version != FORMAT_VERSION:
        raise DataError(
            f"{file} has format_version {version}, this mamba-slm reads {FORMAT_VERSION}",
            hint="read it with the mamba-slm that wrote it, or evaluate the model again",
        )
    try:
        fields["tasks"] = tuple(task_from(one) for one in fields["tasks"])
        fields["groups"] = tuple(task_from(one) for one in fields["groups"])
        fields["tokens"] = TokenCount(**fields["tokens"])
        fields["samples"] = {task: [sample_from(one) for one in found] for task, found in fields["samples"].items()}
        return Evaluation(**fields)
    except (KeyError, TypeError) as error:
        raise DataError(f"{file} is not an evaluation of mamba-slm: {error!r}") from error


def end_of(prompt: str) -> str:
    """What `Sample.prompt` keeps.

    >>> end_of("Where?"), len(end_of("x" * 5000))
    ('Where?', 1000)
    """
    is_whole = len(prompt) <= MOST_PROMPT_CHARACTERS
    return prompt if is_whole else "… " + prompt[len(prompt) - MOST_PROMPT_CHARACTERS + 2 :]


def task_from(fields: dict[str, Any]) -> TaskResult:
    """The inverse of `asdict`."""
    scores = {name: Score(**{**one, "value": number(one["value"])}) for name, one in fields["scores"].items()}
    return TaskResult(**{**fields, "scores": scores, "members": tuple(fields["members"])})


def number(value: float | None) -> float:
    """JSON has no NaN: it is written as null."""
    return float("nan") if value is None else value


def sample_from(fields: dict[str, Any]) -> Sample:
    """The inverse of `asdict`."""
    logprobs = tuple(number(one) for one in fields["logprobs"])
    return Sample(**{**fields, "choices": tuple(fields["choices"]), "logprobs": logprobs})
