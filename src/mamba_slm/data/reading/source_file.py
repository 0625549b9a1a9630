"""One file that is being read: what every reader gets."""

from __future__ import annotations

import contextlib
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

    @contextlib.contextmanager
    def open(self) -> Iterator[BinaryIO]:
        """The decompressed bytes."""
        with open_bytes(self.file, max_expansion=self.options.max_expansion) as stream:
            yield stream

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
                "--encoding-errors repair; or leave such records out: mamba-slm data tokenize --on-error skip",
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
            "out: mamba-slm data tokenize --on-error skip",
        )

    def numbered_lines(self, stream: BinaryIO) -> Iterator[tuple[int, bytes | DataError]]:
        """Lines with their number, from 1; one that is too long is a problem and never in memory as a whole."""
        limit = self.options.max_document_bytes
        number = 0
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


def is_encodable(text: str) -> bool:
    """Whether the text is valid Unicode; JSON allows escapes of lone surrogates, UTF-8 does not."""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
