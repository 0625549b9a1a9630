"""Evaluations on disk: which there are below the homes and the folder of the dashboard, and what each of them says.

FOLDER/results.json      scores of questions, with every answer       `mamba-slm eval MODEL`
FOLDER/perplexity.json   bits per byte of texts                       `mamba-slm eval MODEL --perplexity TEXT`
FOLDER/speed.json        how fast a model reads and writes            `mamba-slm eval MODEL --task benchmark`
FOLDER/probe.json        what is found again in long texts            `mamba-slm probe MODEL`
RUN/evaluation.json      a run beside compressors and a trigram       `mamba-slm quickstart`
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import json
import os
import stat
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mamba_slm.core.errors import DataError, UsageError
from mamba_slm.dashboard.reading.facts import version_of

KINDS = {
    "results.json": "questions",
    "perplexity.json": "texts",
    "speed.json": "speed",
    "probe.json": "probe",
    "evaluation.json": "baselines",
}
"""File -> what it holds."""
ANSWERS_FILE = "answers.jsonl"
DATA_MARKS = ("shards.json", "funnel.json", "download.manifest")
"""Files that say a folder holds text that was made ready."""
MOST_FOLDERS = 4000
MOST_ENTRIES = 20_000
"""Of a folder."""
REST = 20
"""Times that looking takes until it is done again."""
DEEPEST = 4
"""Folders below a root that are looked into: HOME/RUN/benchmarks/step-00000010 is four with its file."""
NOT_INTO = ("checkpoints", "node_modules", "site-packages", "__pycache__", "profile")
MOST_HEAD_BYTES = 4 << 20
MOST_BYTES = 16 << 20
BEFORE_SAMPLES = b'\n  "samples": {'
"""Ends the summary of results.json: the writer indents it, and no text in JSON holds a line end."""


@dataclass(frozen=True)
class Found:
    """A file of an evaluation."""

    root: int
    """Position in the list of roots: homes, then the folder of the dashboard."""
    inside: str
    """Path of the file below the root."""
    path: Path

    @property
    def at(self) -> str:
        """Names it in an address."""
        return f"{self.root}/{self.inside}"

    @property
    def kind(self) -> str:
        """One of `KINDS`, or unfinished."""
        return KINDS.get(self.path.name, "unfinished")

    @property
    def is_of_training(self) -> bool:
        """Whether a run asked these questions while it trained: RUN/benchmarks/step-00000010."""
        return self.path.parent.parent.name == "benchmarks"

    @property
    def name(self) -> str:
        """For people: the folder, with its run where that asked while it trained."""
        folder = self.path.parent
        return f"{folder.parent.parent.name} {folder.name}" if self.is_of_training else folder.name


@dataclass(frozen=True)
class Seen:
    """What lies below some roots."""

    evaluations: list[Found]
    """Newest first."""
    has_data: bool
    """Whether some text was made ready for training."""


class Finder:
    """Looks below roots, and not again before `REST` times as long as that took: many pages may ask at once."""

    def __init__(self, roots: Sequence[Path], *, clock: Callable[[], float] = time.monotonic):
        self.roots, self._clock = tuple(roots), clock
        self._lock = threading.Lock()
        self._seen: Seen | None = None
        self._good_until = 0.0

    def look(self) -> Seen:
        """What there is; links are not followed, hidden folders and weights passed over."""
        with self._lock:
            begins = self._clock()
            if self._seen is None or begins >= self._good_until:
                self._seen = look_below(self.roots)
                ends = self._clock()
                self._good_until = ends + REST * (ends - begins)
            return self._seen


def look_below(roots: Sequence[Path]) -> Seen:
    """All evaluations below the roots, each once, and whether there is data."""
    found: dict[Path, tuple[float, Found]] = {}
    has_data = False
    for number, root in enumerate(roots):
        for folder, names in folders_below(root):
            has_data = has_data or any(name in names for name in DATA_MARKS)
            wanted = [name for name in KINDS if name in names]
            if not wanted and ANSWERS_FILE in names:
                wanted = [ANSWERS_FILE]
            for name in wanted:
                path = folder / name
                with contextlib.suppress(OSError):
                    each = Found(number, path.relative_to(root).as_posix(), path)
                    found.setdefault(path.resolve(), (path.stat().st_mtime, each))
    newest = sorted(found.values(), key=lambda pair: pair[0], reverse=True)
    return Seen([each for _, each in newest], has_data)


def folders_below(root: Path) -> Iterator[tuple[Path, set[str]]]:
    """Each folder with the names of its plain files, nearest first."""
    waiting, seen = deque([(root, 0)]), 0
    while waiting and seen < MOST_FOLDERS:
        folder, depth = waiting.popleft()
        seen += 1
        files: set[str] = set()
        try:
            with os.scandir(folder) as entries:
                for entry in itertools.islice(entries, MOST_ENTRIES):
                    if entry.is_file(follow_symlinks=False):
                        files.add(entry.name)
                    elif depth < DEEPEST and is_looked_into(entry):
                        waiting.append((Path(entry.path), depth + 1))
        except OSError:
            continue
        yield folder, files


def is_looked_into(entry: os.DirEntry[str]) -> bool:
    """Whether evaluations may lie in it: a real folder, not hidden, not of weights."""
    return entry.is_dir(follow_symlinks=False) and not entry.name.startswith(".") and entry.name not in NOT_INTO


def evaluation_at(roots: Sequence[Path], at: str) -> Found:
    """The file that an address names.

    Raises:
        UsageError: it is none of ours, lies elsewhere, or is no plain file.
    """
    number, slash, inside = at.partition("/")
    if slash and number in map(str, range(len(roots))) and "\0" not in inside:
        root = roots[int(number)].resolve()
        path = root / inside
        with contextlib.suppress(OSError, RuntimeError):  # links in a circle, names that no file can have
            is_ours = path.resolve() == path and path.is_relative_to(root) and path.name in (*KINDS, ANSWERS_FILE)
            if is_ours and stat.S_ISREG(path.lstat().st_mode):
                return Found(int(number), inside, path)
    raise UsageError(f"there is no evaluation {at[:200]!r}", hint="choose one of the list")


def summary_of(found: Found) -> dict[str, Any]:
    """What the file says, without the single answers.

    Raises:
        DataError: it cannot be read, is no evaluation or too large.
    """
    return summary_in(found.path, version_of(found.path))


@functools.lru_cache(maxsize=256)
def summary_in(path: Path, version: str) -> dict[str, Any]:
    """The summary of a file, read once for each version of it. Not to be changed: the same object comes again."""
    try:
        if path.name == "results.json":
            return head_of(path)
        if path.name == ANSWERS_FILE:
            return {"answers": lines_of(path)}
        with path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
        if len(data) > MOST_BYTES:
            raise DataError(f"{path} is larger than {MOST_BYTES >> 20} MiB")
        value = json.loads(data)
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    if path.name == "evaluation.json":
        value = {"rows": value}
    if not isinstance(value, dict):
        raise DataError(f"{path} holds no JSON object")
    return value


def head_of(path: Path) -> dict[str, Any]:
    """The fields of results.json before its samples.

    Raises:
        DataError: it is not laid out as `mamba-slm eval` writes it.
    """
    with path.open("rb") as file:
        data = file.read(MOST_HEAD_BYTES)
    end = data.find(BEFORE_SAMPLES)
    if end < 0:
        raise DataError(f"{path} is not laid out as mamba-slm eval writes it")
    value: dict[str, Any] = json.loads(data[:end].rstrip().rstrip(b",") + b"}")
    return value


def lines_of(path: Path) -> int:
    """How many answers a broken evaluation has; its first line is about the model."""
    with path.open("rb") as file:
        return max(0, sum(block.count(b"\n") for block in iter(lambda: file.read(1 << 20), b"")) - 1)
