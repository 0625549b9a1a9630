"""Answers on disk, each written as soon as it is known, so that a broken run goes on where it stopped."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mamba_slm.core.errors import CheckpointError, UsageError
from mamba_slm.runs.jsonl import JsonLinesWriter, read_json_lines

FORMAT_VERSION = 1


def answer_key(kind: str, *question: Any) -> str:
    """What was asked, in 128 bits.

    >>> answer_key("loglikelihood", "Two and two is", " four")
    'ca1482cfc349b44bd21dd4698cbb9e20'
    """
    text = json.dumps([kind, *question], ensure_ascii=False, sort_keys=True)
    return hashlib.sha256(text.encode("utf-8", errors="surrogatepass")).hexdigest()[:32]


class AnswerStore:
    """Answers by what was asked. The first line of the file says of which model, the others hold an answer each."""

    def __init__(self, path: Path, *, about: Mapping[str, Any], resume: bool):
        """Open or begin the file.

        Args:
            about: all that an answer depends on besides the question.
            resume: go on with a file that is there.

        Raises:
            UsageError: the file is there and `resume` is not asked for.
            CheckpointError: the answers are of another model or other settings.
        """
        header = {"format_version": FORMAT_VERSION, **about}
        rows = read_json_lines(path)
        if len(rows) == 1 and rows[0] != header:  # nothing was answered yet
            path.unlink()
            rows = []
        if len(rows) > 1 and not resume:
            raise UsageError(
                f"{path} holds {len(rows) - 1:,} answers of an earlier run",
                hint="go on with --resume, or write to another folder with --out",
            )
        if rows and rows[0] != header:
            different = sorted(key for key in rows[0].keys() | header.keys() if rows[0].get(key) != header.get(key))
            raise CheckpointError(
                f"the answers in {path} were given by another model or with other settings: "
                f"{', '.join(different)} differ",
                hint="write to another folder with --out, or evaluate what the answers belong to",
            )
        self.answers: dict[str, Any] = {row["key"]: row["answer"] for row in rows[1:]}
        self.found = len(self.answers)
        """How many answers were there already."""
        self.writer = JsonLinesWriter(path)
        if not rows:
            self.writer.append(header)

    def get(self, key: str) -> Any | None:
        """The answer, or None where there is none yet."""
        return self.answers.get(key)

    def add(self, key: str, answer: Any, *, task: str | None = None, question: int | None = None) -> None:
        """Keep an answer; when it returns, the answer survives a kill of this process."""
        self.answers[key] = answer
        self.writer.append({"key": key, "task": task, "question": question, "answer": answer})

    def close(self) -> None:
        """Sync and close the file."""
        self.writer.close()
