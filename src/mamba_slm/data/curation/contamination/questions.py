"""Questions of benchmarks from the files they are published in, whatever their fields are called."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mamba_slm.core.errors import DataError
from mamba_slm.core.optional import require
from mamba_slm.data.compressed import open_bytes, without_compression
from mamba_slm.data.folders import no_such_path
from mamba_slm.data.reading.json_records import json_items, json_lines
from mamba_slm.data.reading.options import ReadOptions
from mamba_slm.data.reading.report import ReadReport
from mamba_slm.data.reading.source_file import SourceFile

SUFFIXES = frozenset({".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet", ".arrow", ".txt"})
ABOUT_FILES = frozenset({"dataset_info.json", "dataset_dict.json", "state.json", "package.json"})
GENERAL_NAMES = frozenset(
    {"train", "training", "test", "tests", "valid", "validation", "val", "dev", "none", "main", "default", "data"}
    | {"all", "full", "plain_text", "hf", "hf-arrow", "arrow", "parquet", "json", "jsonl", "csv", "benchmarks"}
)
"""Parts of a path that name no benchmark."""
QUESTION_NAMES = frozenset(
    {"question", "query", "goal", "prompt", "ctx", "problem", "text", "sentence", "question_stem", "premise"}
    | {"instruction", "input", "context"}
)
SHORT_CONTEXT_CHARACTERS = 400
"""A field "context" is a part of the question up to here, and background above."""


@dataclass(frozen=True, kw_only=True)
class Question:
    """One record of a benchmark."""

    number: int
    """In its file, from 1: the line of JSON Lines, else the record."""

    texts: tuple[str, ...]
    """The question first, then its answers and whatever else it holds."""


@dataclass(frozen=True, kw_only=True)
class BenchmarkFile:
    """A file with questions."""

    path: Path
    name: str
    """Its path inside the folder that was named."""

    benchmark: str

    def questions(self, background_fields: tuple[str, ...]) -> Iterator[Question]:
        """Its records that hold text.

        Raises:
            DataError: the file cannot be read.
            MissingDependencyError: Parquet or Arrow, and pyarrow is not installed.
        """
        for number, record in records_of(self.path):
            if texts := texts_of(record, background_fields):
                yield Question(number=number, texts=texts)


def find_benchmark_files(path: Path) -> list[BenchmarkFile]:
    """The files of a folder, or one file, sorted by name; folders saved by `datasets` are known by their Arrow files.

    Raises:
        DataError: no such path, or nothing in it can hold questions.
    """
    if not path.exists():
        raise no_such_path(path)
    files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
    root = path.parent if path.is_file() else path
    wanted = [file for file in files if is_benchmark_file(file, root)]
    if not wanted:
        raise DataError(
            f"{path} holds no benchmark: none of its {len(files)} files is {', '.join(sorted(SUFFIXES))}",
            hint="name the folder or file that holds the questions",
        )
    return [
        BenchmarkFile(path=file, name=file.relative_to(root).as_posix(), benchmark=benchmark_of(file, root))
        for file in wanted
    ]


def is_benchmark_file(file: Path, root: Path) -> bool:
    """Whether a file may hold questions, by its name; nothing hidden does."""
    relative = file.relative_to(root)
    hidden = any(part.startswith(".") for part in relative.parts)
    return not hidden and without_compression(file).suffix.lower() in SUFFIXES and file.name not in ABOUT_FILES


def benchmark_of(file: Path, root: Path) -> str:
    """What a benchmark is called: by `datasets`, or by the first part of the path that is not called "test" or so.

    >>> benchmark_of(Path("b/gsm8k/test.jsonl"), Path("b")), benchmark_of(Path("b/mmlu/test/law.csv"), Path("b/mmlu"))
    ('gsm8k', 'mmlu')
    """
    about = file.with_name("dataset_info.json")
    if file.suffix == ".arrow" and about.is_file():
        name = json.loads(about.read_text(encoding="utf-8")).get("dataset_name")
        if isinstance(name, str) and name not in GENERAL_NAMES:
            return name
    relative = file.relative_to(root)
    folders = [part for part in relative.parts[:-1] if part.lower() not in GENERAL_NAMES]
    if folders:
        return folders[0]
    stem = without_compression(file).stem
    return root.resolve().name if len(relative.parts) > 1 or stem.lower() in GENERAL_NAMES else stem


def records_of(path: Path) -> Iterator[tuple[int, Any]]:
    """Number and record of each record of a file."""
    suffix = without_compression(path).suffix.lower()
    if suffix in (".parquet", ".arrow"):
        yield from enumerate(table_rows(path, suffix), start=1)
    elif suffix in (".csv", ".tsv"):
        yield from enumerate(csv_rows(path, "\t" if suffix == ".tsv" else ","), start=1)
    elif suffix == ".txt":
        with open_bytes(path) as stream:
            for number, line in enumerate(stream, start=1):
                yield number, line.decode(errors="replace")
    else:
        source = SourceFile(file=path, name=path.name, source="", options=ReadOptions(), report=ReadReport())
        for number, record, _ in json_items(source) if suffix == ".json" else json_lines(source):
            if isinstance(record, DataError):
                raise record
            yield number, record


def table_rows(path: Path, suffix: str) -> Iterator[dict[str, Any]]:
    """Rows of a Parquet file, or of an Arrow file as `datasets` saves it."""
    pyarrow = require("pyarrow", extra="data", purpose=f"reading {path.name}")
    parquet = require("pyarrow.parquet", extra="data", purpose=f"reading {path.name}")
    try:
        if suffix == ".parquet":
            for batch in parquet.ParquetFile(path).iter_batches():
                yield from batch.to_pylist()
        else:
            with pyarrow.memory_map(str(path)) as file:
                for batch in pyarrow.ipc.open_stream(file):
                    yield from batch.to_pylist()
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(
            f"{path} cannot be read: {' '.join(str(error).split())}", hint="copy or download the file again"
        ) from error


def csv_rows(path: Path, delimiter: str) -> Iterator[Any]:
    """Rows by the names of the first one, if those are names of fields; else as lists."""
    with open_bytes(path) as stream:
        lines = io.TextIOWrapper(stream, encoding="utf-8-sig", errors="replace", newline="")
        names: list[str] | None = None
        try:
            for number, row in enumerate(csv.reader(lines, delimiter=delimiter)):
                if number == 0 and {name.strip().lower() for name in row} & QUESTION_NAMES:
                    names = row
                    continue
                yield dict(zip(names, row, strict=False)) if names else row
        except csv.Error as error:
            raise DataError(f"{path} is not a valid table: {error}", hint="copy or download the file again") from error


def texts_of(record: Any, background_fields: tuple[str, ...]) -> tuple[str, ...]:
    """All strings of a record that could be text, the question first.

    Left out are background, what holds no space (identifiers, addresses), and of a prompt its passage and the labels
    "Question:" and "Answer:".

    >>> texts_of({"id": "q 1", "choices": ["the sun", "the moon"], "query": "What shines at night?"}, ())
    ('What shines at night?', 'the sun', 'the moon')
    """
    questions: list[str] = []
    others: list[str] = []
    for name, text in strings_of(record, ""):
        name = name.lower()
        if name in background_fields or name in ("id", "idx", "url", "source"):
            continue
        if name == "context" and len(text) > SHORT_CONTEXT_CHARACTERS:
            continue
        if text.startswith("Passage:"):
            text = text.rpartition("\nQuestion:")[2]
        text = text.strip().removeprefix("Question:").removesuffix("Answer:")
        if any(character.isspace() for character in text.strip()) or not text.isascii():
            (questions if name in QUESTION_NAMES and not questions else others).append(text)
    return (*questions, *others)


def strings_of(value: Any, name: str) -> Iterator[tuple[str, str]]:
    """Every string inside with the name of the innermost field it stands in; the name of a field counts, if it is a
    sentence (TruthfulQA's answers are)."""
    if isinstance(value, str):
        yield name, value
    elif isinstance(value, dict):
        for key, inner in value.items():
            if " " in str(key) and not isinstance(inner, str):
                yield name, str(key)
            yield from strings_of(inner, str(key))
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from strings_of(inner, name)
