"""Small evaluations with known answers."""

from statistics import fmean

from mamba_slm.evaluation.results import Evaluation, Sample, Score, TaskResult


def samples(scores, *, metric="acc", prompt="p"):
    return [
        Sample(
            question=number, prompt_sha256=f"{prompt}{number}", target="1", choices=("no <b>", "yes"),
            logprobs=(-1.0, -2.0), answer="no <b>", scores={metric: float(score)},
        )
        for number, score in enumerate(scores)
    ]  # fmt: skip


def evaluation(name="models/a", groups=(), **tasks):
    """An evaluation of tasks by name; each is a list of scores of questions."""
    results = tuple(
        TaskResult(
            task=task, version="1.0", num_fewshot=0, num_questions=len(scores),
            scores={"acc": Score(value=fmean(scores), stderr=0.01)},
        )
        for task, scores in tasks.items()
    )  # fmt: skip
    return Evaluation(
        model=name,
        fingerprint={"weights": "0123456789abcdef"},
        settings={"limit": None, "benchmarks": list(tasks)},
        versions={"lm-eval": "0.4.13"},
        tasks=results,
        groups=tuple(groups),
        created="2026-01-01T00:00:00+00:00",
        samples={task: samples(scores) for task, scores in tasks.items()},
    )
