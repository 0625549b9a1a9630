"""Files to documents: any text, JSON and JSON Lines, plain or compressed, alone or in folders.

    notes.txt, main.py, …       one document per file
    data.jsonl, data.ndjson     one document per line: an object with the text under `text_key`, or a string
    data.json                   a list of such records, one record, or JSON Lines under the wrong name
    any of these + .gz, .zst    decompressed on the way

Text comes out exactly as it is in the file, line ends included. Nothing is repaired or replaced: what cannot be read
stops the reading with its place, or with on_error="skip" is left out and counted.
"""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from mamba_slm.core.errors import DataError, UnknownNameError
from mamba_slm.data.compressed import open_bytes, without_compression
from mamba_slm.data.decoding import BYTE_ORDER_MARKS, check_encoding, decode, is_single_byte_based
from mamba_slm.data.document import Document
from mamba_slm.data.folders import JSON_LINES_SUFFIXES, JSON_SUFFIXES, find_files

OnError = Literal["stop", "skip"]
KEPT_PROBLEMS = 20
SHOWN_KEYS = 12
log = logging.getLogger(__name__)


@dataclass(kw_only=True)
class ReadReport:
    """What was read, and what was left out and why. Pass one to `read_documents`; it is filled while reading."""

    num_files: int = 0
    """Files read to their end."""

    num_documents: int = 0
    """Documents that came out."""

    num_empty: int = 0
    """Documents without any text but white space, left out."""

    num_problems: int = 0
    """Files or records left out because they could not be read."""

    problems: list[DataError] = field(default_factory=list)
    """The first `KEPT_PROBLEMS` of them, each with its place and a hint."""

    other_files: Counter[str] = field(default_factory=Counter)
    """Files of the folder that were not chosen, by suffix."""

    def add_problem(self, problem: DataError) -> None:
        """Count a problem and keep it if it is among the first."""
        self.num_problems += 1
        if len(self.problems) < KEPT_PROBLEMS:
            self.problems.append(problem)

    def __str__(self) -> str:
        lines = [f"{self.num_documents} documents from {self.num_files} files"]
        if self.num_empty:
            lines.append(f"{self.num_empty} without text left out")
        if self.other_files:
            kinds = ", ".join(f"{count} {suffix}" for suffix, count in self.other_files.most_common(5))
            lines.append(f"other files in the folder, not read: {kinds}")
        if self.num_problems:
            lines.append(f"{self.num_problems} could not be read and were left out:")
            lines += [f"  {problem}" for problem in self.problems]
        return "\n".join(lines)


def read_documents(
    path: Path | str,
    *,
    pattern: str | Sequence[str] | None = None,
    text_key: str = "text",
    encoding: str = "utf-8",
    on_error: OnError = "stop",
    report: ReadReport | None = None,
) -> Iterator[Document]:
    """Read the documents of a file or a folder, in an order that is the same everywhere.

    Ids are the path inside the folder, with `:LINE` or `:ITEM` for records; documents without text are left out.

    Args:
        path: a file, or a folder that is searched with all folders inside it.
        pattern: which files of a folder, see `find_files`.
        text_key: where a JSON record keeps its text; the other keys become `metadata`.
        encoding: of files without a byte order mark.
        on_error: "stop" raises at the first problem; "skip" leaves the file or record out, counts it, and fails only
            when nothing at all could be read.
        report: filled while reading. Without one, what "skip" leaves out is logged as warnings.

    Raises:
        DataError: no such path, nothing to read, or a problem: empty, binary or wrongly encoded file, damaged
            compression, invalid JSON, a record without text. The message has the place, the hint what to do.
        ConfigError: unknown encoding or `on_error`.
    """
    if on_error not in get_args(OnError):
        raise UnknownNameError("on_error", on_error, get_args(OnError))
    check_encoding(encoding)
    path = Path(path)
    files, other_files = find_files(path, pattern)
    logs_problems = report is None
    report = ReadReport() if report is None else report
    report.other_files.update(other_files)
    return documents_of_files(path, files, text_key, encoding, on_error, report, logs_problems)


def documents_of_files(
    path: Path,
    files: list[Path],
    text_key: str,
    encoding: str,
    on_error: OnError,
    report: ReadReport,
    logs_problems: bool,
) -> Iterator[Document]:
    """The generator behind `read_documents`, whose arguments are checked before the first document is asked for."""
    before = report.num_documents
    for file in files:
        name = file.name if file == path else file.relative_to(path).as_posix()
        for found in documents_of_file(file, name, str(path), text_key, encoding):
            if isinstance(found, DataError):
                if on_error == "stop":
                    raise found
                report.add_problem(found)
                if logs_problems:
                    log.warning("left out: %s", found)
            elif not found.text.strip():
                report.num_empty += 1
            else:
                report.num_documents += 1
                yield found
        report.num_files += 1
    if report.num_documents == before:
        if len(files) == 1 and not report.num_problems:
            raise DataError(f"{files[0]} is empty", hint="give a file with some text in it")
        raise DataError(
            f"no text in {path}: {len(files)} files, {report.num_empty} documents without text, "
            f"{report.num_problems} that could not be read",
            hint="see what is wrong with them: mamba-slm data inspect PATH",
        )


def documents_of_file(
    file: Path, name: str, source: str, text_key: str, encoding: str
) -> Iterator[Document | DataError]:
    """Documents and problems of one file. After a problem with the file itself nothing more comes."""
    suffix = without_compression(file).suffix.lower()
    try:
        if suffix in JSON_LINES_SUFFIXES:
            records = json_lines(file, encoding)
        elif suffix in JSON_SUFFIXES:
            records = json_file(file, encoding)
        else:
            with open_bytes(file) as stream:
                text = decode(stream.read(), str(file), encoding=encoding)
            yield Document(text=text, id=name, source=source)
            return
        for number, record in records:
            if isinstance(record, DataError):
                yield record
            else:
                yield document_of(record, f"{file}:{number}", f"{name}:{number}", source, text_key)
    except DataError as problem:
        yield problem


def json_lines(file: Path, encoding: str) -> Iterator[tuple[int, Any]]:
    """Line number, from 1, and record or problem of each line that is not blank."""
    with open_bytes(file) as stream:
        start = stream.peek(4) if hasattr(stream, "peek") else b""  # type: ignore[attr-defined]
        wide = any(start.startswith(mark) for mark, name in BYTE_ORDER_MARKS if name != "utf-8")
        if wide or not is_single_byte_based(encoding):
            text = decode(stream.read(), str(file), encoding=encoding)
            yield from records_of_lines(enumerate(text.split("\n"), start=1), file)
            return
        for number, line in enumerate(stream, start=1):
            place = f"{file}:{number}"
            try:
                text = decode(line, place, encoding=encoding, at_start=number == 1)
            except DataError as problem:
                yield number, problem
                if b"\0" in line:
                    return  # a binary file: its other "lines" mean nothing
                continue
            yield from records_of_lines([(number, text)], file)


def records_of_lines(lines: Any, file: Path) -> Iterator[tuple[int, Any]]:
    """Parse numbered lines; blank ones are passed over."""
    for number, line in lines:
        if line.strip():
            yield number, parsed(line.rstrip("\r\n"), f"{file}:{number}")


def json_file(file: Path, encoding: str) -> Iterator[tuple[int, Any]]:
    """Number, from 1, and record or problem of each item of a .json file."""
    with open_bytes(file) as stream:
        text = decode(stream.read(), str(file), encoding=encoding)
    if not text.strip():
        return
    value = parsed(text, str(file))
    if isinstance(value, DataError):
        first_line, _, rest = text.lstrip().partition("\n")
        if rest.strip() and not isinstance(parsed(first_line, ""), DataError):
            yield from records_of_lines(enumerate(text.split("\n"), start=1), file)
        else:
            yield 1, value
    else:
        yield from enumerate(value if isinstance(value, list) else [value], start=1)


def parsed(text: str, place: str) -> Any:
    """The JSON value, or the problem with it."""
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        where = f"column {error.colno}" if error.lineno == 1 else f"line {error.lineno}, column {error.colno}"
        return DataError(
            f"{place} is not valid JSON: {error.msg} at {where}",
            hint="correct the line, or leave such lines out: mamba-slm data tokenize --on-error skip",
        )
    except (ValueError, RecursionError) as error:  # a number of thousands of digits; thousands of nested brackets
        return DataError(
            f"{place} is JSON that cannot be read: {error}",
            hint="leave such lines out: mamba-slm data tokenize --on-error skip",
        )


def document_of(record: Any, place: str, id: str, source: str, text_key: str) -> Document | DataError:
    """The document in a JSON record, or the problem with it."""
    metadata: dict[str, Any] = {}
    text = record
    if isinstance(record, dict):
        if text_key not in record:
            keys = list(record)
            shown = ", ".join(map(repr, keys[:SHOWN_KEYS])) + (", …" if len(keys) > SHOWN_KEYS else "")
            return DataError(
                f"{place} has no key {text_key!r}; its keys are: {shown or 'none'}",
                hint="name the key that holds the text: mamba-slm data tokenize --text-key KEY, or --on-error skip",
            )
        text = record[text_key]
        metadata = {key: value for key, value in record.items() if key != text_key}
    if not isinstance(text, str):
        what = f"the value of {text_key!r}" if isinstance(record, dict) else "the record"
        kind = "null" if text is None else type(text).__name__
        return DataError(
            f"{place}: {what} is not text but {kind}",
            hint="each record must be a string, or an object with its text under `text`, or under another key: "
            "mamba-slm data tokenize --text-key KEY",
        )
    if not is_encodable(text):
        return DataError(
            f"{place}: the text holds half of a surrogate pair (such as \\ud83d alone), which is no character",
            hint="repair the program that wrote it, or leave such records out: mamba-slm data tokenize --on-error skip",
        )
    return Document(text=text, id=id, source=source, metadata=metadata)


def is_encodable(text: str) -> bool:
    """Whether the text is valid Unicode; JSON allows escapes of lone surrogates, UTF-8 does not."""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
