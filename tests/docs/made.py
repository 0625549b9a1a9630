"""What takes long is made once for all pages, by the commands themselves: a tokenizer, a run, adapters, shards."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path

from mamba_slm.cli.main import main


def texts() -> list[str]:
    """Invented English."""
    from data.curation.prose import prose

    return [prose(seed) for seed in range(60)]


def examples() -> list[dict[str, str]]:
    """Questions with answers."""
    things = ("a parcel", "a ticket", "a lamp", "a garden", "a boat", "a letter", "a bridge", "a lantern")
    asked = ("How do I return", "How do I mend", "Where do I find", "Who carries")
    return [
        {"instruction": f"{ask} {thing}?", "output": f"Ask for {thing} at the desk, before {hour} o'clock."}
        for hour, ask in enumerate(asked, start=6)
        for thing in things
    ]


def pairs() -> list[dict[str, str]]:
    """A preferred answer and another to each question."""
    return [{"prompt": one["instruction"], "chosen": one["output"], "rejected": "I do not know."} for one in examples()]


def questions() -> list[dict[str, str]]:
    """Sums."""
    return [{"question": f"What is {a} and {b}?", "answer": str(a + b)} for a in range(2, 6) for b in range(3, 7)]


def prompts() -> list[str]:
    """For answers that are compared."""
    return [one["instruction"] for one in examples()[:8]]


def lines_of(records: Iterable[dict[str, str]]) -> str:
    """JSON lines."""
    return "".join(json.dumps(record) + "\n" for record in records)


class Made:
    """Folders by kind, each made when a page first needs it."""

    def __init__(self, folder: Path) -> None:
        self.root = folder
        self.kinds: dict[str, Callable[[Path], list[str]]] = {
            "tokenizer": self._tokenizer,
            "shards": self._shards,
            "run": self._run,
            "adapter run": self._adapter,
            "other adapter run": self._adapter,
        }

    def folder(self, kind: str) -> Path:
        """The folder of this kind; copy it, never change it."""
        path = self.root / kind.replace(" ", "-")
        if not path.exists():
            words = self.kinds[kind](path)
            code = main([*words, "--out", str(path), "--quiet"])
            assert code == 0, f"{kind}: mamba-slm {' '.join(words)} ended with {code}"
        return path

    def _corpus(self) -> str:
        path = self.root / "texts.jsonl"
        if not path.exists():
            path.write_text(lines_of({"text": text} for text in texts()))
        return str(path)

    def _tokenizer(self, path: Path) -> list[str]:
        return ["data", "train-tokenizer", self._corpus(), "--vocab-size", "320"]

    def _shards(self, path: Path) -> list[str]:
        return ["data", "tokenize", self._corpus(), "--tokenizer", str(self.folder("tokenizer"))]

    def _run(self, path: Path) -> list[str]:
        size = ["--context-tokens", "256", "--batch-tokens", "512", "--model-settings", "max_context_tokens=768"]
        words = ["train", "nano", "--data", self._corpus(), "--tokenizer", str(self.folder("tokenizer"))]
        return [*words, *size, "--max-steps", "2", "--device", "cpu"]

    def _adapter(self, path: Path) -> list[str]:
        data = self.root / "examples.jsonl"
        data.write_text(lines_of(examples()))
        small = ["--context-tokens", "128", "--batch-tokens", "256", "--max-steps", "2", "--sample-every-steps", "0"]
        return ["finetune", str(self.folder("run")), "--data", str(data), *small]
