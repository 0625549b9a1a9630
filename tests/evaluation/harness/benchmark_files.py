"""A few made-up questions in the files of each benchmark."""

from __future__ import annotations

import json
from pathlib import Path

WORDS = ("stone", "river", "lamp", "window", "garden", "paper", "engine", "cloud")


def lines(path: Path, rows: list[dict]) -> None:
    """Write JSON Lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def write_questions(folder: Path, count: int = 6) -> Path:
    """PIQA, ARC, GSM8K, MMLU (one subject), LAMBADA, two sets of BLiMP, HellaSwag, TruthfulQA."""
    words = [WORDS[i % len(WORDS)] for i in range(count)]
    lines(folder / "piqa/valid.jsonl", [{"goal": f"move a {w}", "sol1": f"lift the {w}", "sol2": "run"} for w in words])
    (folder / "piqa/valid-labels.lst").write_text("\n".join("01"[i % 2] for i in range(count)))
    arc = [
        {"query": f"Question: What is a {w}?", "choices": [w, "two", "three"], "gold": i % 3}
        for i, w in enumerate(words)
    ]
    lines(folder / "mosaic/arc_easy.jsonl", arc)
    for split in ("train", "test"):
        lines(
            folder / f"gsm8k/{split}.jsonl",
            [{"question": f"{i} and 1?", "answer": f"#### {i + 1}"} for i in range(count)],
        )
    for split in ("dev", "test"):
        path = folder / f"mmlu/{split}/anatomy_{split}.csv"
        path.parent.mkdir(parents=True)
        rows = [f"Where is the {w}?,here,there,nowhere,up,{'ABCD'[i % 4]}" for i, w in enumerate(words)]
        path.write_text("\n".join(rows) + "\n")
    lines(folder / "lambada/lambada_test.jsonl", [{"text": f"He saw the {w} and took the {w}"} for w in words])
    for name in ("inchoative", "adjunct_island"):
        sets = [{"sentence_good": f"A {w} fell.", "sentence_bad": f"A {w} were fell."} for w in words]
        lines(folder / f"blimp/{name}.jsonl", sets)
    contexts = [f"Walking: A man sees a {w}. he" for w in words]
    hellaswag = [{"ctx": c, "endings": ["goes on.", "eats it.", "flies.", "reads."], "label": 1} for c in contexts]
    lines(folder / "hellaswag/derived_hellaswag_val.jsonl", hellaswag)
    return folder
