"""Lines of JSON as curation writes them: fast, one form for everything, whatever the metadata hold."""

from __future__ import annotations

import contextlib
import functools
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, Literal

from mamba_slm.core.optional import require
from mamba_slm.data.curation.blocks import zstandard
from mamba_slm.data.curation.verdict import Removed

REASON = tuple(field.name for field in fields(Removed))
RESULT_LEVEL = 3
"""Of compression, for files that stay."""


def to_json(value: Any) -> bytes:
    """JSON in UTF-8 without spaces. What JSON does not know becomes text; lone surrogates in metadata become `?`.

    >>> to_json({"a": [1, "é"]}).decode()
    '{"a":[1,"é"]}'
    """
    dumps, option = fast_json()
    try:
        return dumps(value, str, option)
    except TypeError:  # whole numbers beyond 64 bits, lone surrogates
        text = json.dumps(value, default=str, ensure_ascii=False, separators=(",", ":"), skipkeys=True)
        return text.encode(errors="replace")


@functools.cache
def fast_json() -> tuple[Callable[..., bytes], int]:
    """orjson's writer and its option for keys that are no text.

    Raises:
        MissingDependencyError: orjson is not installed.
    """
    orjson = require("orjson", extra="data", purpose="curation")
    return orjson.dumps, orjson.OPT_NON_STR_KEYS


def record_of(id: str, source: str, metadata: Mapping[str, Any]) -> bytes:
    """A document without its text."""
    return to_json({"id": id, "source": source, "metadata": metadata})


def kept_line(text: bytes, record: bytes) -> bytes:
    """The line of a document that stays.

    >>> kept_line(b"tea", record_of("a", "b", {}))
    b'{"text":"tea","id":"a","source":"b","metadata":{}}\\n'
    """
    return b'{"text":' + to_json(text.decode()) + b"," + record[1:] + b"\n"


def removed_line(record: bytes, removed: Removed, text: bytes | None) -> bytes:
    """The line of a document that goes, with the reason; with its text only when that is kept.

    >>> removed_line(record_of("a", "b", {}), Removed(rule="x.y", detail="why"), None)
    b'{"id":"a","source":"b","metadata":{},"removed":{"rule":"x.y","detail":"why","value":null,"threshold":null}}\\n'
    """
    start = b"" if text is None else b'"text":' + to_json(text.decode()) + b","
    reason = {name: getattr(removed, name) for name in REASON}
    return b"{" + start + record[1:-1] + b',"removed":' + to_json(reason) + b"}\n"


@contextlib.contextmanager
def lines_file(path: Path, mode: Literal["wb", "ab"]) -> Iterator[Any]:
    """A compressed file to write lines to; appending adds a frame."""
    compressor = zstandard().ZstdCompressor(level=RESULT_LEVEL)
    with path.open(mode) as file, compressor.stream_writer(file, closefd=False) as writer:
        yield writer
