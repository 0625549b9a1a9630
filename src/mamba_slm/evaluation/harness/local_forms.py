"""Local copies of benchmarks in the forms in which they go around, as rows with the fields of the published dataset.

Each reader takes the folder of one benchmark and gives the rows of its splits. Rows keep their order, which numbers the
questions.
"""

from __future__ import annotations

import bz2
import csv
import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from mamba_slm.core.errors import DataError

Rows = list[dict[str, Any]]
Splits = dict[str, Rows]
LETTERS = "ABCDEFGH"


def json_lines(path: Path) -> Rows:
    """The objects of a JSON Lines file.

    Raises:
        DataError: a line that is none; names file and line.
    """
    copy = "copy the file again from its source"
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read: {error}", hint=copy) from error
    rows: Rows = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise DataError(f"{path}:{number} is not JSON: {error}", hint=copy) from error
        if not isinstance(row, dict):
            raise DataError(f"{path}:{number} is not a JSON object", hint=copy)
        rows.append(row)
    return rows


def table(path: Path) -> Iterator[list[str]]:
    """The rows of a CSV file, its byte-order mark left out."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        yield from csv.reader(file)


def mmlu_csv(folder: Path, subject: str) -> Splits:
    """`SPLIT/SUBJECT_SPLIT.csv` with or without a header: question, four choices, answer as a letter or a number."""
    splits: Splits = {}
    for split in ("dev", "validation", "val", "test"):
        path = folder / split / f"{subject}_{split}.csv"
        if path.is_file():
            rows = [row for row in table(path) if row and row[0] != "question"]
            splits["validation" if split == "val" else split] = [mmlu_row(row, subject, path) for row in rows]
    return splits


def mmlu_row(row: list[str], subject: str, path: Path) -> dict[str, Any]:
    """One question."""
    if len(row) != 6:
        raise DataError(f"{path} has a row of {len(row)} columns instead of 6: {row[0][:60]!r}")
    answer = LETTERS.index(row[5]) if row[5] in LETTERS else int(row[5])
    return {"question": row[0], "subject": subject, "choices": row[1:5], "answer": answer}


def hellaswag_original(folder: Path, _name: str) -> Splits:
    """`hellaswag_SPLIT.jsonl` as its authors publish it: activity_label, ctx_a, ctx_b, endings, label."""
    names = {"train": "train", "val": "validation", "test": "test"}
    found = {names[split]: folder / f"hellaswag_{split}.jsonl" for split in names}
    return {split: json_lines(path) for split, path in found.items() if path.is_file()}


def hellaswag_joined(folder: Path, _name: str) -> Splits:
    """`derived_hellaswag_val.jsonl`: ctx, endings, label."""
    path = folder / "derived_hellaswag_val.jsonl"
    if not path.is_file():
        return {}
    return {"validation": [hellaswag_row(row["ctx"], row["endings"], row["label"]) for row in json_lines(path)]}


def hellaswag_text(folder: Path, _name: str) -> Splits:
    """`hellaswag_val_full.txt` or `.txt.bz2`: six lines each of context, number of the right ending, four endings."""
    for path in (folder / "hellaswag_val_full.txt", folder / "hellaswag_val_full.txt.bz2"):
        if path.is_file():
            data = bz2.decompress(path.read_bytes()) if path.suffix == ".bz2" else path.read_bytes()
            lines = data.decode("utf-8").rstrip("\n").split("\n")
            groups = [lines[start : start + 6] for start in range(0, len(lines), 6)]
            return {"validation": [hellaswag_row(group[0], group[2:], group[1]) for group in groups]}
    return {}


UNFINISHED = re.compile(r"^(.*[.!?]['\")]*) ([^.!?]+)$", re.DOTALL)


def hellaswag_row(context: str, endings: list[str], label: int | str) -> dict[str, Any]:
    """A question whose context was joined: `ctx_b` is the unfinished sentence at its end, which the task capitalises.

    >>> row = hellaswag_row("Gargling: A boy holds up a bottle. he", ["drinks."] * 4, 1)
    >>> row["activity_label"], row["ctx_a"], row["ctx_b"]
    ('Gargling', 'A boy holds up a bottle.', 'he')
    """
    activity, _, rest = context.partition(": ")
    unfinished = UNFINISHED.match(rest)
    parts = unfinished.groups() if unfinished else (rest, "")
    return {"activity_label": activity, "ctx_a": parts[0], "ctx_b": parts[1], "endings": endings, "label": str(label)}


def arc_queries(folder: Path, name: str) -> Splits:
    """`arc_easy.jsonl`, `arc_challenge.jsonl` with query, choices and gold: the test split."""
    path = folder / f"{name.replace('-', '_').lower()}.jsonl"
    if not path.is_file():
        return {}

    def row(number: int, given: dict[str, Any]) -> dict[str, Any]:
        labels = list(LETTERS[: len(given["choices"])])
        return {
            "id": str(number),
            "question": given["query"].removeprefix("Question: "),
            "choices": {"text": given["choices"], "label": labels},
            "answerKey": labels[given["gold"]],
        }

    return {"test": [row(number, given) for number, given in enumerate(json_lines(path))]}


def boolq_queries(folder: Path, _name: str) -> Splits:
    """`boolq.jsonl` with a query "Passage: ...\\nQuestion: ...?", choices no and yes, and gold."""
    path = folder / "boolq.jsonl"
    if not path.is_file():
        return {}

    def row(given: dict[str, Any]) -> dict[str, Any]:
        passage, _, question = given["query"].removeprefix("Passage: ").rpartition("\nQuestion: ")
        return {"passage": passage, "question": question.removesuffix("?"), "label": given["gold"]}

    return {"validation": [row(given) for given in json_lines(path)]}


def winogrande_queries(folder: Path, _name: str) -> Splits:
    """`winogrande.jsonl` with two beginnings, what follows both, and gold."""
    path = folder / "winogrande.jsonl"
    if not path.is_file():
        return {}

    def row(given: dict[str, Any]) -> dict[str, Any]:
        first, second = given["context_options"]
        same = next((i for i, (a, b) in enumerate(zip(first, second, strict=False)) if a != b), len(min(first, second)))
        cut = first.rfind(" ", 0, same + 1) + 1
        sentence = f"{first[:cut]}_ {given['continuation']}"
        return {
            "sentence": sentence,
            "option1": first[cut:],
            "option2": second[cut:],
            "answer": str(given["gold"] + 1),
        }

    return {"validation": [row(given) for given in json_lines(path)]}


def piqa_pairs(folder: Path, _name: str) -> Splits:
    """`valid.jsonl` and `valid-labels.lst`, and those of train where they are."""
    splits: Splits = {}
    for name, split in (("train", "train"), ("valid", "validation")):
        questions, labels = folder / f"{name}.jsonl", folder / f"{name}-labels.lst"
        if questions.is_file() and labels.is_file():
            rows, answers = json_lines(questions), labels.read_text(encoding="utf-8").split()
            if len(rows) != len(answers):
                raise DataError(f"{questions} has {len(rows)} questions, {labels} has {len(answers)} labels")
            splits[split] = [{**row, "label": int(label)} for row, label in zip(rows, answers, strict=True)]
    return splits


def truthfulqa_files(folder: Path, name: str) -> Splits:
    """`mc_task.json` for multiple choice, `TruthfulQA.csv` for generation, as in the authors' repository."""
    choices, answers = folder / "mc_task.json", folder / "TruthfulQA.csv"
    if name == "multiple_choice" and choices.is_file():
        given = json.loads(choices.read_text(encoding="utf-8"))
        return {"validation": [truthfulqa_choices(row) for row in given]}
    if name == "generation" and answers.is_file():
        rows = table(answers)
        header = next(rows)
        return {"validation": [truthfulqa_answers(dict(zip(header, row, strict=True))) for row in rows]}
    return {}


def truthfulqa_choices(row: dict[str, Any]) -> dict[str, Any]:
    """One question with its choices and their labels in two lists."""
    targets = ("mc1_targets", "mc2_targets")
    parts = {name: {"choices": list(row[name]), "labels": list(row[name].values())} for name in targets}
    return {"question": row["question"], **parts}


def truthfulqa_answers(row: dict[str, str]) -> dict[str, Any]:
    """One question with its right and wrong answers."""
    return {
        "type": row["Type"],
        "category": row["Category"],
        "question": row["Question"],
        "best_answer": row["Best Answer"],
        "correct_answers": answers_in(row["Correct Answers"]),
        "incorrect_answers": answers_in(row["Incorrect Answers"]),
        "source": row["Source"],
    }


def answers_in(text: str) -> list[str]:
    """Answers between semicolons."""
    return [part.strip() for part in text.split(";") if part.strip()]


def named_file(pattern: str, split: str, folder: Path, name: str) -> Splits:
    """One JSON Lines file whose name holds the name of the dataset."""
    path = folder / pattern.format(name=name)
    return {split: json_lines(path)} if path.is_file() else {}


def gsm8k_files(folder: Path, _name: str) -> Splits:
    """`train.jsonl` and `test.jsonl`."""
    return {split: json_lines(folder / f"{split}.jsonl") for split in ("train", "test") if
            (folder / f"{split}.jsonl").is_file()}  # fmt: skip


def lambada_file(folder: Path, _name: str) -> Splits:
    """`lambada_test.jsonl` with text."""
    return named_file("lambada_test.jsonl", "test", folder, "")


def blimp_file(folder: Path, name: str) -> Splits:
    """`SET.jsonl` with sentence_good and sentence_bad."""
    return named_file("{name}.jsonl", "train", folder, name)


def boolq_labels(rows: Iterable[dict[str, Any]]) -> Rows:
    """The rows of `google/boolq`, whose answers are true and false, as those of SuperGLUE."""
    return [{**row, "label": int(row["answer"])} if "label" not in row else row for row in rows]
