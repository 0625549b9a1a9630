"""From what lm-evaluation-harness returns to our results: scores with standard errors, and samples."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from mamba_slm.evaluation.harness.tasks import LoadedTasks
from mamba_slm.evaluation.results import Sample, Score, TaskResult, end_of


def task_results(
    found: Mapping[str, Any], loaded: LoadedTasks, samples: Mapping[str, Sequence[Sample]]
) -> list[TaskResult]:
    """One result for each task."""
    results: list[TaskResult] = []
    for task in loaded.tasks:
        values = metric_values(found["results"][task])
        better = found["higher_is_better"].get(task, {})
        scores = {
            name: Score(
                value=value,
                stderr=standard_error(name, value, [one.scores[name] for one in samples[task] if name in one.scores]),
                higher_is_better=better.get(name.partition(",")[0], True) is not False,
            )
            for name, value in values.items()
        }
        results.append(
            TaskResult(
                task=task,
                version=str(found["versions"].get(task)),
                num_fewshot=int(found["n-shot"].get(task) or 0),
                num_questions=len(samples[task]),
                scores=scores,
                note=loaded.notes.get(task, ""),
            )
        )
    return results


def metric_values(fields: Mapping[str, Any]) -> dict[str, float]:
    """Metrics of a task without their errors; the filter's name stays where there is one.

    >>> metric_values({"alias": "a", "acc,none": 0.5, "acc_stderr,none": 0.1, "exact_match,strict-match": 0.0})
    {'acc': 0.5, 'exact_match,strict-match': 0.0}
    """
    found: dict[str, float] = {}
    for key, value in fields.items():
        name, _, filtered = key.partition(",")
        if filtered and not name.endswith("_stderr") and isinstance(value, int | float):
            found[name if filtered == "none" else key] = float(value)
    return found


def standard_error(name: str, value: float, each: Sequence[float]) -> float | None:
    """Of a mean over questions, or of the perplexity that belongs to a mean log-probability (by the delta method).

    >>> standard_error("acc", 0.5, [0.0, 1.0, 0.0, 1.0])
    0.28867513459481287
    """
    if len(each) < 2 or not all(map(math.isfinite, each)):
        return None
    mean = math.fsum(each) / len(each)
    error = math.sqrt(math.fsum((one - mean) ** 2 for one in each) / (len(each) - 1) / len(each))
    if math.isclose(value, mean, rel_tol=1e-6, abs_tol=1e-9):
        return error
    if name == "perplexity" and math.isclose(value, math.exp(-mean), rel_tol=1e-6):
        return value * error
    return None


def group_results(found: Mapping[str, Any], loaded: LoadedTasks, tasks: Sequence[TaskResult]) -> list[TaskResult]:
    """One result for each group that has a score of its own: the mean of its questions, as the group defines it."""
    by_name = {one.task: one for one in tasks}
    results: list[TaskResult] = []
    for group, fields in (found.get("groups") or {}).items():
        leaves = [by_name[name] for name in leaves_of(group, loaded.group_map) if name in by_name]
        if not leaves or not metric_values(fields):
            continue
        results.append(
            TaskResult(
                task=group,
                version=str(found["versions"].get(group)),
                num_fewshot=leaves[0].num_fewshot,
                num_questions=sum(one.num_questions for one in leaves),
                scores={name: group_score(name, value, leaves) for name, value in metric_values(fields).items()},
                members=tuple(one.task for one in leaves),
                note=loaded.notes.get(group, ""),
            )
        )
    return results


def leaves_of(group: str, group_map: Mapping[str, Sequence[str]]) -> list[str]:
    """The tasks below a group."""
    return [leaf for name in group_map.get(group, ()) for leaf in ([name] if name not in group_map else
            leaves_of(name, group_map))]  # fmt: skip


def group_score(name: str, value: float, leaves: Sequence[TaskResult]) -> Score:
    """The error of a mean of means of independent questions; the weights are those that give the value."""
    parts = [one.scores[name] for one in leaves if name in one.scores]
    counts = [one.num_questions for one in leaves if name in one.scores]
    better = all(part.higher_is_better for part in parts)
    if not parts or any(part.stderr is None for part in parts):
        return Score(value=value, higher_is_better=better)
    weights = [count / sum(counts) for count in counts]
    by_size = math.fsum(weight * part.value for weight, part in zip(weights, parts, strict=True))
    if not math.isclose(by_size, value, rel_tol=1e-6, abs_tol=1e-9):
        weights = [1 / len(parts)] * len(parts)
    errors = [weight * (part.stderr or 0.0) for weight, part in zip(weights, parts, strict=True)]
    return Score(value=value, stderr=math.sqrt(math.fsum(error**2 for error in errors)), higher_is_better=better)


def samples_of(rows: Sequence[Mapping[str, Any]]) -> list[Sample]:
    """The logged samples of a task; those of several filters of the same question are one."""
    found: dict[int, Sample] = {}
    for row in rows:
        number = int(row["doc_id"])
        name = row["filter"]
        scores = {
            metric if name == "none" else f"{metric},{name}": float(row[metric])
            for metric in row["metrics"]
            if isinstance(row[metric], int | float) or hasattr(row[metric], "item")
        }
        before = found.get(number)
        found[number] = sample_of(row, {**(before.scores if before else {}), **scores}, before)
    return [found[number] for number in sorted(found)]


def sample_of(row: Mapping[str, Any], scores: Mapping[str, float], before: Sample | None) -> Sample:
    """One question; `before` is the same with another filter."""
    answers = [response[0] for response in row["resps"]]
    if answers and isinstance(answers[0], tuple | list):
        pairs = [tuple(arguments) for arguments in row["arguments"]]
        same = len({context for context, _ in pairs}) == 1
        choices = tuple(continuation if same else context + continuation for context, continuation in pairs)
        logprobs = tuple(float(logprob) for logprob, _ in answers)
        best = max(range(len(logprobs)), key=logprobs.__getitem__)
        return Sample(
            question=int(row["doc_id"]),
            prompt_sha256=row["prompt_hash"],
            target=target_text(row["target"], choices),
            prompt=end_of(pairs[0][0]) if same else "",
            choices=choices,
            logprobs=logprobs,
            answer=choices[best],
            scores=scores,
        )
    text = str(answers[0])
    filtered = str(row["filtered_resps"][0])
    found = before.answer if before is not None else f"{text}"
    if filtered != text:
        found += f"\n[{row['filter']}: {filtered}]"
    return Sample(
        question=int(row["doc_id"]),
        prompt_sha256=row["prompt_hash"],
        target=str(row["target"]),
        prompt=end_of(str(row["arguments"][0][0])),
        answer=found,
        scores=scores,
    )


def target_text(target: Any, choices: Sequence[str]) -> str:
    """The right choice; tasks give its number or its text."""
    is_number = isinstance(target, int) and 0 <= target < len(choices)
    return choices[target] if is_number else str(target)
