"""One file that is being read: what every reader gets."""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from mamba_slm.core.errors import DataError
from mamba_slm.core.units import format_bytes
from mamba_slm.data.compressed import open_bytes
from mamba_slm.data.decoding import decode, decode_repairing
from mamba_slm.data.document import Document
from mamba_slm.data.reading.options import ReadOptions
from mamba_slm.data.reading.report import ReadReport

LONE_SURROGATE = re.compile("[\ud800-\udfff]")
DRAINED_BYTES = 1 << 20
WINDOW_BUFFER_BYTES = 1 << 17


@dataclass(frozen=True, kw_only=True)
class Window:
    """A part of a file that is read alone, so that several processes share a large one."""

    begin: int
    """First byte of an uncompressed JSON Lines file, where a line begins; first row group of a Parquet file."""

    end: int
    """Where it ends, in the same unit: bytes or row groups from `begin` to before `end`."""

    first_number: int
    """Number, from 1, of its first line or row within the whole file: documents keep their ids."""


@dataclass(frozen=True, kw_only=True)
class SourceFile:
    """A file, the options for reading it, and the report that counts what happens."""

    file: Path
    """Where it is; errors name it."""

    name: str
    """Its path inside the folder that is read: the start of its documents' ids."""

    source: str
    """The folder or file that the user named."""

    options: ReadOptions
    report: ReadReport

    window: Window | None = None
    """Read only this part; only of formats that `reading/parts.py` cuts."""

    @contextlib.contextmanager
    def open(self) -> Iterator[BinaryIO]:
        """The decompressed bytes, those of the window where there is one."""
        with open_bytes(self.file, max_expansion=self.options.max_expansion) as stream:
            if self.window is None:
                yield stream
            else:
                yield io.BufferedReader(BytesWindow(stream, self.window), WINDOW_BUFFER_BYTES)

    def decode(self, content: bytes, place: str, *, at_start: bool = True, encoding: str | None = None) -> str:
        """Bytes to text as the options say; repairs are counted.

        Raises:
            DataError: binary content, or wrong bytes that are not to be repaired.
        """
        encoding = encoding or self.options.encoding
        if self.options.encoding_errors == "report":
            return decode(content, place, encoding=encoding, at_start=at_start)
        text, num_repaired = decode_repairing(content, place, encoding=encoding, at_start=at_start)
        self.report.add_repair(num_repaired)
        return text

    def document(self, text: str, number: int | str | None, metadata: Mapping[str, Any] | None = None) -> Document:
        """A document of this file.

        Args:
            text: valid Unicode; what may hold lone surrogates goes through `whole_characters` first.
            number: what tells it from the others of the file: the line, the number of the record; None for all of it.
            metadata: of the document.
        """
        id = self.name if number is None else f"{self.name}:{number}"
        return Document(text=text, id=id, source=self.source, metadata=metadata or {})

    def whole_characters(self, text: str, number: int | str | None) -> str | DataError:
        """The text without halves of surrogate pairs: as it is, repaired where that is wanted, or the problem."""
        if is_encodable(text):
            return text
        if self.options.encoding_errors == "report":
            return DataError(
                f"{self.place(number)}: the text holds half of a surrogate pair (such as \\ud83d alone), "
                "which is no character",
                hint="repair the program that wrote it; have it replaced: mamba-slm data tokenize "
                "--encoding-errors repair; or leave such records out: --on-error skip",
            )
        text, num_repaired = LONE_SURROGATE.subn("\ufffd", text)
        self.report.add_repair(num_repaired)
        return text

    def place(self, number: int | str | None) -> str:
        """How errors name a record."""
        return str(self.file) if number is None else f"{self.file}:{number}"

    def leave_out(self, kind: str) -> None:
        """Count a record that is no document."""
        self.report.left_out[kind] += 1

    def too_long(self, number: int | str | None, what: str, num_bytes: int | None = None) -> DataError:
        """The problem with a record longer than the options allow."""
        size = f" ({format_bytes(num_bytes)})" if num_bytes else ""
        return DataError(
            f"{self.place(number)}: {what} is longer than {format_bytes(self.options.max_document_bytes)}{size}",
            hint="allow more, if the memory suffices: mamba-slm data tokenize --max-document-bytes 1Gi; or leave it "
            "out: --on-error skip",
        )

    def numbered_lines(self, stream: BinaryIO) -> Iterator[tuple[int, bytes | DataError]]:
        """Lines with their number in the file, from 1; one too long is a problem and never in memory as a whole."""
        limit = self.options.max_document_bytes
        number = self.window.first_number - 1 if self.window else 0
        while line := stream.readline(limit + 1):
            number += 1
            if len(line) <= limit:
                yield number, line
                continue
            if b"\0" in line:  # what it is matters more than how long it is
                yield number, line[: line.index(b"\0") + 1]
            length = len(line)
            while line and not line.endswith(b"\n"):
                line = stream.readline(DRAINED_BYTES)
                length += len(line)
            yield number, self.too_long(number, "the line", length)


class BytesWindow(io.RawIOBase):
    """The bytes of a stream from `begin` to before `end`."""

    def __init__(self, stream: BinaryIO, window: Window):
        self.stream = stream
        self.left = window.end - window.begin
        stream.seek(window.begin)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        target = memoryview(buffer).cast("B")[: self.left]
        count = self.stream.readinto(target)  # type: ignore[attr-defined]
        self.left -= count
        return count


def is_encodable(text: str) -> bool:
    """Whether the text is valid Unicode; JSON allows escapes of lone surrogates, UTF-8 does not."""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
