"""The folder that a page is read in, with the files that it speaks of. A file `stages/PAGE.py` fills it:

    def prepare(stage):
        stage.run("runs/quickstart")          # a nano model, trained for two steps, as `mamba-slm train` leaves it
        stage.text("book.txt")                # 60 short texts; stage.texts("books/") as a folder of files
        stage.examples("faq.jsonl")           # questions with answers
        stage.types("prefs rate", "1\\n4\\n")   # what is typed into commands that begin like this
        stage.sets("HF_TOKEN", "…")           # an environment variable
        stage.at_end(server.close)

PAGE is the name of the page with `_` for `-`, `concept_NAME` for docs/concepts/NAME.md. What takes long (runs,
adapters, shards) is made once for all pages and copied. With `stage.exact = True` what the page shows is compared with
its numbers.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

from docs.made import Made, examples, lines_of, pairs, prompts, questions, texts
from docs.page import stage_name

STAGES = Path(__file__).parent / "stages"
TYPED = {"chat": "Hello\n", "prefs rate": "1\n4\n1\n2\n"}


def stage_of(page: Path) -> ModuleType | None:
    """The module that prepares a page, if there is one."""
    path = STAGES / f"{stage_name(page)}.py"
    if not path.is_file():
        return None
    spec = importlib.util.spec_from_file_location(f"docs.stages.{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Stage:
    """An empty folder, and what can be put into it."""

    def __init__(self, folder: Path, made: Made) -> None:
        self.folder = folder
        self.made = made
        self.exact = False
        self.typed = dict(TYPED)
        self.ends: list[Callable[[], object]] = []

    def path(self, name: str) -> Path:
        """Of a file or folder of the page; the folder that it is in exists."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def file(self, name: str, content: str | bytes) -> None:
        """Any file."""
        data = content.encode() if isinstance(content, str) else content
        self.path(name).write_bytes(data)

    def run(self, name: str, kind: str = "run") -> None:
        """A finished run; `kind` is a key of `Made.kinds`."""
        self.copy(self.made.folder(kind), name)

    def model(self, name: str) -> None:
        """The model folder of a run alone."""
        self.copy(self.made.folder("run") / "model", name)

    def copy(self, made: Path, name: str) -> None:
        """A folder as it is."""
        shutil.copytree(made, self.path(name), symlinks=True)

    def text(self, name: str) -> None:
        """Several texts in one file."""
        self.file(name, "\n\n".join(texts()))

    def texts(self, name: str) -> None:
        """A folder of texts."""
        for number, text in enumerate(texts()):
            self.file(f"{name.rstrip('/')}/{number}.txt", text)

    def shards(self, name: str) -> None:
        """The same texts as tokens, as `data tokenize` writes them."""
        self.copy(self.made.folder("shards"), name)

    def tokenizer(self, name: str) -> None:
        """A folder with tokenizer.json."""
        self.copy(self.made.folder("tokenizer"), name)

    def examples(self, name: str) -> None:
        """Questions with answers, for `finetune`."""
        self.file(name, lines_of(examples()))

    def pairs(self, name: str) -> None:
        """A prompt with a preferred answer and another, for `align`."""
        self.file(name, lines_of(pairs()))

    def questions(self, name: str) -> None:
        """Sums with their answers, for rewards."""
        self.file(name, lines_of(questions()))

    def prompts(self, name: str) -> None:
        """One prompt a line; JSON lines if the name ends so."""
        lines = [json.dumps({"prompt": prompt}) if name.endswith(".jsonl") else prompt for prompt in prompts()]
        self.file(name, "\n".join(lines) + "\n")

    def types(self, command: str, keys: str) -> None:
        """What commands that begin like this read from the terminal."""
        self.typed[command] = keys

    def sets(self, name: str, value: str) -> None:
        """An environment variable, for the rest of the page."""
        os.environ[name] = value

    def unsets(self, name: str) -> None:
        """An environment variable that must not be there."""
        os.environ.pop(name, None)

    def at_end(self, close: Callable[[], object]) -> None:
        """Called when the page is through."""
        self.ends.append(close)

    def typed_into(self, words: list[str]) -> str:
        """The keys for a command."""
        fits = [command for command in self.typed if f"{' '.join(words)} ".startswith(f"{command} ")]
        return self.typed[max(fits, key=len)] if fits else ""
