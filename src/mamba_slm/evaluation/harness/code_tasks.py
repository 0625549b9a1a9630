"""HumanEval and MBPP: programs written by a model, run in the sandbox, each answer and each ending kept as it comes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from mamba_slm.core.errors import ConfigError
from mamba_slm.evaluation.harness.adapter import HarnessModel
from mamba_slm.evaluation.harness.answers import answer_key
from mamba_slm.evaluation.harness.generating import BATCH_ROWS, GenerationSettings, Generator
from mamba_slm.evaluation.results import Sample, Score, TaskResult, end_of
from mamba_slm.runs.machine import usable_cores
from mamba_slm.tasks.code.benchmarks import CodeBenchmark
from mamba_slm.tasks.code.judging import judge_programs
from mamba_slm.tasks.code.passing import mean_and_error, pass_at_k
from mamba_slm.tasks.code.question import CodeQuestion
from mamba_slm.tasks.sandbox.limits import SandboxLimits
from mamba_slm.tasks.sandbox.program import Ending
from mamba_slm.tasks.sandbox.proof import proven_walls

PASS_AT = (1, 10, 100)


@dataclass(frozen=True, kw_only=True)
class CodeSettings:
    """How programs are written and run."""

    samples: int = 1
    """Programs for each question; pass@1, pass@10 and pass@100 are given as far as there are so many."""

    temperature: float = 0.0
    """Of the draws; 0 is greedy. Papers use 0.2 for pass@1 of many samples, and 0.8 for pass@100."""

    top_p: float = 0.95
    """Share of the probability that is drawn from, where the temperature is not 0."""

    seed: int = 0
    limits: SandboxLimits = field(default_factory=SandboxLimits)

    def __post_init__(self) -> None:
        if self.samples < 1:
            raise ConfigError(f"samples must be at least 1, got {self.samples}")
        if self.samples > 1 and self.temperature == 0:
            raise ConfigError(f"{self.samples} samples at temperature 0 are all the same", hint="set a temperature")


def run_code_benchmark(
    model: HarnessModel,
    benchmark: CodeBenchmark,
    questions: Sequence[CodeQuestion],
    settings: CodeSettings,
    *,
    say: Callable[[str], None] = lambda line: None,
) -> tuple[TaskResult, list[Sample]]:
    """Ask, run and count. What the model's store has already is neither asked nor run again.

    Args:
        model: with the store that keeps answers and endings.
        questions: all of the benchmark, or the first ones.
        say: told what was decided, and how far it is.

    Raises:
        SetupError: this machine has no sandbox; nothing was asked.
        ConfigError: the model's context is too short.
    """
    say(f"{benchmark.name}: programs run in a sandbox of {proven_walls()}, which a probe could not leave")
    answers = [write_answers(model, benchmark, questions, settings, sample) for sample in range(settings.samples)]
    programs = [
        question.program(answer)
        for of_sample in answers
        for question, answer in zip(questions, of_sample, strict=True)
    ]  # fmt: skip
    passed = run_programs(model, benchmark, programs, settings.limits, say)
    count = len(questions)
    solved = [sum(passed[number::count]) for number in range(count)]
    tries = [k for k in PASS_AT if k <= settings.samples]
    shares = {f"pass@{k}": [pass_at_k(settings.samples, one, k) for one in solved] for k in tries}
    samples = [
        Sample(
            question=question.number,
            prompt_sha256=hashlib.sha256(question.prompt.encode()).hexdigest(),
            target=question.tests,
            prompt=end_of(question.prompt),
            answer=answers[0][place],
            scores={name: values[place] for name, values in shares.items()},
        )
        for place, question in enumerate(questions)
    ]
    result = TaskResult(
        task=benchmark.name,
        version=benchmark.version,
        num_fewshot=benchmark.num_fewshot,
        num_questions=count,
        scores={name: Score(value=pair[0], stderr=pair[1]) for name, values in shares.items()
                for pair in [mean_and_error(values)]},
        note=note_of(settings, most_new_tokens(model, questions)),
    )  # fmt: skip
    return result, samples


def most_new_tokens(model: HarnessModel, questions: Sequence[CodeQuestion]) -> int:
    """Length of an answer: as the benchmark says, or half of a shorter context."""
    return min(questions[0].max_new_tokens, model.generator.max_tokens // 2)


def note_of(settings: CodeSettings, new_tokens: int) -> str:
    """What a reader must know to compare the score."""
    drawn = "greedy" if settings.temperature == 0 else (
        f"{settings.samples} samples at temperature {settings.temperature:g}, top_p {settings.top_p:g}"
    )  # fmt: skip
    time = f"{settings.limits.timeout_seconds:g} s"
    return f"{drawn}; up to {new_tokens} new tokens; {time} for each program, standard library only"


def write_answers(
    model: HarnessModel,
    benchmark: CodeBenchmark,
    questions: Sequence[CodeQuestion],
    settings: CodeSettings,
    sample: int,
) -> list[str]:
    """What the model writes for each question, in fixed groups: a resumed run draws what the broken one would have."""
    drawn = (settings.temperature, settings.top_p, settings.seed) if settings.temperature else ()
    most = most_new_tokens(model, questions)
    keys = [answer_key("code", question.prompt, question.stops, most, *drawn, sample) for question in questions]
    for start in range(0, len(questions), BATCH_ROWS):
        group, known = questions[start : start + BATCH_ROWS], keys[start : start + BATCH_ROWS]
        if all(model.store.get(key) is not None for key in known):
            continue
        generation = GenerationSettings(
            stops=group[0].stops,
            max_new_tokens=most,
            temperature=settings.temperature,
            top_p=settings.top_p if settings.temperature else None,
        )
        seed = int(answer_key(benchmark.name, settings.seed, sample, start)[:12], 16)
        generator = Generator(
            model.generator.runtime, model.tokenizer, max_tokens=model.generator.max_tokens, seed=seed
        )  # fmt: skip
        texts = generator.generate([model.encode(question.prompt) for question in group], generation)
        model.generator.generated_tokens += generator.generated_tokens
        for key, question, text in zip(known, group, texts, strict=True):
            if model.store.get(key) is None:
                model.store.add(key, text, task=benchmark.name, question=question.number)
    return [str(model.store.get(key)) for key in keys]


def run_programs(
    model: HarnessModel,
    benchmark: CodeBenchmark,
    programs: Sequence[str],
    limits: SandboxLimits,
    say: Callable[[str], None],
) -> list[bool]:
    """Whether each program passed; equal ones are run once, and an ending that is known is not tried again."""
    keys = [answer_key("program", program, str(limits)) for program in programs]
    todo = {key: program for key, program in zip(keys, programs, strict=True) if model.store.get(key) is None}
    names = list(todo)
    if todo:
        say(f"{benchmark.name}: running {len(todo):,} different programs")

    def keep(number: int, ending: Ending) -> None:
        model.store.add(names[number], [ending.outcome, ending.detail], task=benchmark.name)

    judge_programs(list(todo.values()), limits, workers=usable_cores(), on_ending=keep)
    return [model.store.answers[key][0] == "passed" for key in keys]
