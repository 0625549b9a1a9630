"""Records of a local file or folder, each with the place where it stands.

Files may be JSON Lines, JSON, Parquet or Arrow as the `datasets` library saves it, the first two also compressed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mamba_slm.core.errors import ConfigError, DataError
from mamba_slm.core.optional import require
from mamba_slm.data.compressed import without_compression
from mamba_slm.data.conversations.example import Problem
from mamba_slm.data.folders import (
    CURATION,
    JSON_LINES_SUFFIXES,
    JSON_SUFFIXES,
    PARQUET_SUFFIXES,
    find_files,
    no_such_path,
)
from mamba_slm.data.reading.json_records import begins_with_record, json_lines
from mamba_slm.data.reading.options import ReadOptions
from mamba_slm.data.reading.report import ReadReport
from mamba_slm.data.reading.source_file import SourceFile

Found = tuple[str, Any] | Problem
"""Origin and record, or why there is none."""

ARROW_SUFFIX = ".arrow"
SUFFIXES = (*JSON_LINES_SUFFIXES, *JSON_SUFFIXES, *PARQUET_SUFFIXES, ARROW_SUFFIX)
SPLITS = ("train", "validation", "valid", "val", "dev", "eval", "test")
DESCRIPTIONS = ("dataset_info.json", "state.json", "dataset_dict.json")
"""What `datasets` writes beside its Arrow files."""
MAX_FILE_BYTES = 1 << 33
SPACE = re.compile(r"\s*")
BROKEN = "broken record"


def local_records(path: Path, split: str | None) -> Iterator[Found]:
    """The records of a file, or of the files of a folder in the order of their names.

    Raises:
        DataError: no such path, nothing to read, a damaged file.
        ConfigError: no such split.
        MissingDependencyError: Parquet and Arrow need pyarrow.
    """
    for file in files_of(path, split):
        name = file.name if file == path else file.relative_to(path).as_posix()
        yield from records_of_file(file, name)


def files_of(path: Path, split: str | None) -> list[Path]:
    """Which files are read: of a folder with splits only those of one, `train` unless another is asked for."""
    if not path.exists():
        raise no_such_path(path)
    if path.is_file():
        if split is not None:
            raise ConfigError(f"{path} is one file and has no splits", hint="leave --split out")
        return [path]
    pattern = [f"*{suffix}{packed}" for suffix in SUFFIXES for packed in ("", ".gz", ".zst")]
    found, _ = find_files(path, None if (path / CURATION).is_file() else pattern)  # not what a curation removed
    found = [file for file in found if file.name not in DESCRIPTIONS]
    by_split: dict[str | None, list[Path]] = {}
    for file in found:
        by_split.setdefault(split_of(file.relative_to(path)), []).append(file)
    named = [name for name in by_split if name is not None]
    if split is None:
        chosen = by_split.get("train") if named else found
        if chosen:
            return chosen
        if len(named) == 1:
            return by_split[named[0]]
        raise ConfigError(f"{path} has the splits {', '.join(sorted(named))}", hint="choose one with --split")
    if split not in by_split:
        raise ConfigError(
            f"{path} has no split {split!r}",
            hint=f"its splits: {', '.join(sorted(named))}" if named else "leave --split out: it has no splits",
        )
    return by_split[split]


def split_of(relative: Path) -> str | None:
    """The split that a folder on the way, or the beginning of a file's name, says."""
    for part in relative.parts:
        name = re.split(r"[-._]", part, maxsplit=1)[0]
        if name in SPLITS:
            whole = without_compression(Path(part)).stem
            return re.sub(r"-\d+-of-\d+$", "", whole) if whole.startswith(f"{name}_") else name
    return None


def records_of_file(file: Path, name: str, *, most_bytes: int = MAX_FILE_BYTES) -> Iterator[Found]:
    """The records of one file; `name` begins their origins.

    Args:
        most_bytes: of a line; a longer one is broken.
    """
    suffix = without_compression(file).suffix.lower()
    if suffix in PARQUET_SUFFIXES:
        yield from parquet_rows(file, name)
    elif suffix == ARROW_SUFFIX:
        yield from arrow_rows(file, name)
    elif suffix in JSON_LINES_SUFFIXES or suffix in JSON_SUFFIXES:
        options = ReadOptions(max_document_bytes=most_bytes)
        source = SourceFile(file=file, name=name, source=name, options=options, report=ReadReport())
        if suffix in JSON_LINES_SUFFIXES or begins_with_record(source):
            for number, record, _ in json_lines(source):
                origin = f"{name}, line {number}"
                problem = isinstance(record, DataError)
                yield Problem(BROKEN, origin, record.message) if problem else (origin, record)
        else:
            yield from json_items(source)
    else:
        raise DataError(
            f"{file} is not a file of conversations",
            hint=f"give one of {', '.join(sorted(SUFFIXES))}, also compressed (.gz, .zst)",
        )


def json_items(source: SourceFile) -> Iterator[Found]:
    """The items of a .json file with the line where each begins; a file that is not JSON is an error as a whole."""
    with source.open() as stream:
        text = source.decode(stream.read(), str(source.file))
    decoder = json.JSONDecoder()
    begin = after_space(text, 0)
    line = 1 + text.count("\n", 0, begin)
    try:
        if begin == len(text):
            raise DataError(f"{source.file} is empty", hint="give a file with some conversations in it")
        if text[begin] != "[":
            value, end = decoder.raw_decode(text, begin)
            expect_end(text, end)
            yield f"{source.name}, line {line}", value
            return
        position, number = after_space(text, begin + 1), 0
        while text[position : position + 1] != "]":
            number += 1
            line += text.count("\n", begin, position)
            begin = position
            value, position = decoder.raw_decode(text, position)
            yield f"{source.name}, item {number} (line {line})", value
            position = after_space(text, position)
            if text[position : position + 1] == ",":
                position = after_space(text, position + 1)
                if text[position : position + 1] == "]":
                    raise json.JSONDecodeError("Illegal trailing comma", text, position)
            elif text[position : position + 1] != "]":
                raise json.JSONDecodeError("Expecting ',' or ']'", text, position)
        expect_end(text, position + 1)
    except json.JSONDecodeError as error:
        raise DataError(
            f"{source.file} is not valid JSON: {error.msg} at line {error.lineno}, column {error.colno}",
            hint="correct the file; as JSON Lines, one record in a line, broken records can be left out",
        ) from error
    except (ValueError, RecursionError) as error:  # a number of thousands of digits; thousands of nested brackets
        raise DataError(f"{source.file} is JSON that cannot be read: {error}", hint="correct the file") from error


def after_space(text: str, position: int) -> int:
    """Where the next character stands that is no white space."""
    found = SPACE.match(text, position)
    assert found is not None
    return found.end()


def expect_end(text: str, position: int) -> None:
    """Refuse anything after the value."""
    position = after_space(text, position)
    if position != len(text):
        raise json.JSONDecodeError("Extra data", text, position)


def parquet_rows(file: Path, name: str) -> Iterator[Found]:
    """Rows as dicts."""
    pyarrow = require("pyarrow", extra="data", purpose=f"reading {name}")
    parquet = require("pyarrow.parquet", extra="data", purpose=f"reading {name}")
    try:
        with parquet.ParquetFile(file, page_checksum_verification=True) as table:
            yield from rows_of_batches(table.iter_batches(), name)
    except (pyarrow.ArrowException, OSError) as error:
        raise damaged(file, "Parquet", error) from error


def arrow_rows(file: Path, name: str) -> Iterator[Found]:
    """Rows of a file that `datasets` saved."""
    pyarrow = require("pyarrow", extra="data", purpose=f"reading {name}")
    require("pyarrow.ipc", extra="data", purpose=f"reading {name}")
    try:
        with pyarrow.memory_map(str(file)) as stream, pyarrow.ipc.open_stream(stream) as batches:
            yield from rows_of_batches(batches, name)
    except (pyarrow.ArrowException, OSError) as error:
        raise damaged(file, "Arrow", error) from error


def rows_of_batches(batches: Any, name: str) -> Iterator[Found]:
    """Numbered rows of record batches."""
    number = 0
    for batch in batches:
        for row in batch.to_pylist():
            number += 1
            yield f"{name}, row {number}", row


def damaged(file: Path, kind: str, error: Exception) -> DataError:
    """The error for a file that the library cannot read."""
    reason = " ".join(str(error).split())
    return DataError(f"{file} is not a valid {kind} file: {reason}", hint="copy or download the file again")
