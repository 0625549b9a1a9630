"""JSON Lines and JSON files: a record is an object with the text under `text_key`, or a string."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from mamba_slm.core.errors import DataError
from mamba_slm.data.decoding import BYTE_ORDER_MARKS, decode, is_single_byte_based
from mamba_slm.data.document import Document
from mamba_slm.data.reading.source_file import SourceFile

SHOWN_KEYS = 12
FIRST_LOOK_BYTES = 1 << 16
UTF8_NAMES = ("utf-8", "utf8")
LEAVE_SUCH_OUT = "leave such lines out: --on-error skip"


def json_lines_documents(source: SourceFile) -> Iterator[Document | DataError]:
    """One document or problem per line that is not blank."""
    return documents_of_records(source, json_lines(source))


def json_documents(source: SourceFile) -> Iterator[Document | DataError]:
    """One document or problem per item of a .json file: a list, one record, or JSON Lines under the wrong name."""
    return documents_of_records(source, json_items(source))


def documents_of_records(
    source: SourceFile, records: Iterable[tuple[int, Any, bool]]
) -> Iterator[Document | DataError]:
    """Documents of numbered records, some of which are problems already.

    The third value says whether the record is known to be valid Unicode throughout.
    """
    for number, record, is_valid in records:
        if isinstance(record, DataError):
            yield record
        else:
            yield document_of(source, record, number, is_valid=is_valid)


def json_lines(source: SourceFile) -> Iterator[tuple[int, Any, bool]]:
    """Line number, from 1, and record or problem of each line that is not blank."""
    file = source.file
    with source.open() as stream:
        start = stream.peek(4) if hasattr(stream, "peek") else b""  # type: ignore[attr-defined]
        wide = any(start.startswith(mark) for mark, name in BYTE_ORDER_MARKS if name != "utf-8")
        if wide or not is_single_byte_based(source.options.encoding):
            content = stream.read(source.options.max_document_bytes + 1)
            if len(content) > source.options.max_document_bytes:
                yield 1, source.too_long(None, "JSON Lines in UTF-16 or UTF-32, which are read as a whole,"), False
                return
            text = source.decode(content, str(file))
            yield from records_of_lines(enumerate(text.split("\n"), start=1), source)
            return
        fast_value = fast_json_value() if source.options.encoding.lower() in UTF8_NAMES else None
        for number, line in source.numbered_lines(stream):
            if isinstance(line, DataError):
                yield number, line, False
                continue
            if fast_value is not None:
                try:
                    value = fast_value(line)
                except ValueError:
                    pass  # blank, or not quite right: what follows says what is wrong, or reads it after all
                else:
                    yield number, value, True
                    continue
            try:
                text = source.decode(line, f"{file}:{number}", at_start=number == 1)
            except DataError as problem:
                yield number, problem, False
                if b"\0" in line and number == 1:
                    return  # a binary file: its other "lines" mean nothing
                continue
            yield from records_of_lines([(number, text)], source)


def fast_json_value() -> Callable[[bytes], Any] | None:
    """orjson's parser, where it is installed: twice as fast, and it refuses what is no UTF-8 and lone surrogates.

    It gives the same values as `json`, but for whole numbers beyond 64 bits, which become floats.
    """
    try:
        import orjson
    except ImportError:
        return None
    return orjson.loads


def records_of_lines(lines: Iterable[tuple[int, str]], source: SourceFile) -> Iterator[tuple[int, Any, bool]]:
    """Parse numbered lines; blank ones are passed over."""
    for number, line in lines:
        if line.strip():
            yield number, parsed(line.rstrip("\r\n"), f"{source.file}:{number}"), False


def json_items(source: SourceFile) -> Iterator[tuple[int, Any, bool]]:
    """Number, from 1, and record or problem of each item of a .json file.

    Only JSON Lines under this name, which C4 and others have, may be longer than the limit.
    """
    if begins_with_record(source):
        yield from json_lines(source)
        return
    limit = source.options.max_document_bytes
    with source.open() as stream:
        content = stream.read(limit + 1)
    if len(content) > limit:
        yield 1, source.too_long(None, "the file (as JSON Lines, jq -c '.[]', it may have any length)"), False
        return
    text = source.decode(content, str(source.file))
    del content
    if not text.strip():
        return
    value = parsed(text, str(source.file))
    if isinstance(value, DataError):
        first_line, _, rest = text.lstrip().partition("\n")
        if rest.strip() and not isinstance(parsed(first_line, ""), DataError):  # JSON Lines in UTF-16
            yield from records_of_lines(enumerate(text.split("\n"), start=1), source)
        else:
            yield 1, value, False
    else:
        for number, item in enumerate(value if isinstance(value, list) else [value], start=1):
            yield number, item, False


def begins_with_record(source: SourceFile) -> bool:
    """Whether the first line is a whole JSON value with something after it."""
    with source.open() as stream:
        line = b""
        while not line.strip():
            line = stream.readline(source.options.max_document_bytes + 1)
            if not line:
                return False
        try:
            text = decode(line, str(source.file), encoding=source.options.encoding)
        except DataError:
            return False
        if not line.endswith(b"\n") or isinstance(parsed(text, ""), DataError):
            return False
        while rest := stream.readline(FIRST_LOOK_BYTES):
            if rest.strip():
                return True
    return False


def parsed(text: str, place: str) -> Any:
    """The JSON value, or the problem with it."""
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        where = f"column {error.colno}" if error.lineno == 1 else f"line {error.lineno}, column {error.colno}"
        return DataError(
            f"{place} is not valid JSON: {error.msg} at {where}", hint=f"correct the line, or {LEAVE_SUCH_OUT}"
        )
    except (ValueError, RecursionError) as error:  # a number of thousands of digits; thousands of nested brackets
        return DataError(f"{place} is JSON that cannot be read: {error}", hint=LEAVE_SUCH_OUT)


def document_of(source: SourceFile, record: Any, number: int, *, is_valid: bool) -> Document | DataError:
    """The document in a JSON record, or the problem with it."""
    text_key = source.options.text_key
    metadata: dict[str, Any] = {}
    text = record
    if isinstance(record, dict):
        if text_key not in record:
            return missing_key(source, record, f"{source.file}:{number} has no key")
        metadata = record  # it is ours alone
        text = metadata.pop(text_key)
    if not isinstance(text, str):
        what = f"the value of {text_key!r}" if isinstance(record, dict) else "the record"
        kind = "null" if text is None else type(text).__name__
        return DataError(
            f"{source.file}:{number}: {what} is not text but {kind}",
            hint="each record must be a string, or an object with its text under `text`, or under another key: "
            "--text-key KEY",
        )
    if not is_valid:
        text = source.whole_characters(text, number)
        if isinstance(text, DataError):
            return text
    return source.document(text, number, metadata)


def missing_key(source: SourceFile, known: Iterable[str], what: str) -> DataError:
    """The problem with a record or table that has no text where it is looked for."""
    keys = list(known)
    shown = ", ".join(map(repr, keys[:SHOWN_KEYS])) + (", …" if len(keys) > SHOWN_KEYS else "")
    named = "columns" if "column" in what else "keys"
    return DataError(
        f"{what} {source.options.text_key!r}; its {named} are: {shown or 'none'}",
        hint=f"name the {named[:-1]} that holds the text: --text-key {named[:-1].upper()}, or --on-error skip",
    )
