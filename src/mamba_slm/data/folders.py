"""Which files of a folder are read."""

from __future__ import annotations

import difflib
import fnmatch
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from mamba_slm.core.errors import DataError
from mamba_slm.core.plugins import plugin_names
from mamba_slm.data.compressed import without_compression

JSON_SUFFIXES = frozenset({".json"})
JSON_LINES_SUFFIXES = frozenset({".jsonl", ".ndjson"})
PARQUET_SUFFIXES = frozenset({".parquet"})
TABLE_SUFFIXES = frozenset({".csv", ".tsv"})
WARC_SUFFIXES = frozenset({".warc"})
CURATION, CURATED_FILES = "curation.json", "part-*.jsonl.zst"
"""What marks the result of a curation, and its text; the rest is reports, and documents that were removed."""

DUMP_SUFFIX = ".xml-p"  # Wikipedia's parts of a dump are called …pages-articles1.xml-p1p41242.bz2
TEXT_SUFFIXES = frozenset(
    f".{name}"
    for names in (
        "txt text md markdown rst tex org adoc html htm xml yaml yml toml ini cfg log",
        "py pyi c h cc cpp hpp cu rs go java kt scala js jsx ts tsx rb php pl lua r jl swift cs hs ml ex erl clj",
        "lisp el scm sql sh bash zsh ps1 bat cmake proto vim f90 asm s",
    )
    for name in names.split()
)

KNOWN_SUFFIXES = TEXT_SUFFIXES | JSON_SUFFIXES | JSON_LINES_SUFFIXES | PARQUET_SUFFIXES | TABLE_SUFFIXES | WARC_SUFFIXES


def find_files(path: Path, pattern: str | Sequence[str] | None = None) -> tuple[list[Path], Counter[str]]:
    """The files to read, sorted by their path, and how many others there are by suffix.

    A file is taken as it is. In a folder, and the folders inside it, hidden files, hidden folders and `__pycache__` are
    passed over; without a pattern the files with a known suffix are taken, compressed or not. Of the result of a
    curation only the files with text are, unless a pattern asks for others.

    Args:
        path: a file or a folder.
        pattern: shell patterns, a sequence or separated by commas: `*.md` is compared with the file's name,
            `docs/*.md` (with a `/`) with the path inside the folder, `!*_test.py` takes files away again.

    Raises:
        DataError: there is no such path, or no file to read in it.
    """
    if not path.exists():
        raise no_such_path(path)
    if not path.is_dir():
        return [path], Counter()
    wanted = [part.strip() for part in pattern.split(",")] if isinstance(pattern, str) else list(pattern or ())
    if not wanted and (path / CURATION).is_file():
        return sorted(path.glob(CURATED_FILES)), Counter()
    taken: list[Path] = []
    left_out: Counter[str] = Counter()
    for folder, folders, names in os.walk(path):
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name != "__pycache__")
        for name in names:
            file = Path(folder) / name
            if name.startswith(".") or not file.is_file():
                continue
            if is_wanted(file.relative_to(path), wanted):
                taken.append(file)
            else:
                left_out["".join(file.suffixes[-2:]).lower() or "(no suffix)"] += 1
    if not taken:
        found = ", ".join(f"{count} {suffix}" for suffix, count in left_out.most_common(5))
        raise DataError(
            f"no file to read in {path}" + (f" matches {', '.join(wanted)}" if wanted else ""),
            hint=f"it holds {found}; choose files: --pattern '*.txt' (of train: --data-pattern)"
            if found
            else "it is empty: put text into it, or name another folder",
        )
    return sorted(taken, key=lambda file: file.relative_to(path).as_posix()), left_out


def is_wanted(relative: Path, patterns: Sequence[str]) -> bool:
    """Whether the patterns, or without any the suffix, choose this file."""
    taking = [pattern for pattern in patterns if not pattern.startswith("!")]
    leaving = [pattern[1:] for pattern in patterns if pattern.startswith("!")]
    if any(matches(relative, pattern) for pattern in leaving):
        return False
    if taking:
        return any(matches(relative, pattern) for pattern in taking)
    suffix = without_compression(relative).suffix.lower()
    return suffix in KNOWN_SUFFIXES or suffix.startswith(DUMP_SUFFIX) or suffix in plugin_names("readers")


def matches(relative: Path, pattern: str) -> bool:
    """One shell pattern against the name, or against the whole path when the pattern has a `/`."""
    text = relative.as_posix() if "/" in pattern else relative.name
    return fnmatch.fnmatchcase(text, pattern)


def no_such_path(path: Path) -> DataError:
    """The error for a path that does not exist, with the nearest name beside it."""
    siblings = sorted(entry.name for entry in path.parent.iterdir()) if path.parent.is_dir() else []
    near = difflib.get_close_matches(path.name, siblings, n=1)
    return DataError(
        f"there is no file or folder {path}",
        hint=f"did you mean {path.parent / near[0]}?" if near else "check the path",
    )
