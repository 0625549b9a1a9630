"""Input cut into parts of about equal size, each read by one task: the same documents and ids as reading it as a whole.

many small files             grouped
.jsonl without compression   cut at line ends; lines keep their numbers
.parquet                     cut between row groups; rows keep their numbers
anything else                a part of its own if it is large
s3://bucket/folder           whole files, fetched by who reads them (`reading/remote.py`)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

from mamba_slm.core.errors import ConfigError
from mamba_slm.core.optional import require
from mamba_slm.data import folders
from mamba_slm.data.decoding import BYTE_ORDER_MARKS, is_single_byte_based
from mamba_slm.data.document import Document
from mamba_slm.data.folders import find_files
from mamba_slm.data.python_library import NAME as PYTHON_LIBRARY
from mamba_slm.data.python_library import is_in_library, python_library_documents, python_library_folder
from mamba_slm.data.readers import counted_documents, name_of
from mamba_slm.data.reading.options import ReadOptions
from mamba_slm.data.reading.remote import remote_parts
from mamba_slm.data.reading.report import ReadReport
from mamba_slm.data.reading.source_file import SourceFile, Window
from mamba_slm.data.storage import is_remote

PART_BYTES = 128 << 20
SCANNED_BYTES = 1 << 22


class InputPart(Protocol):
    """What one task reads. Workers get it pickled; reading it again gives the same documents in the same order."""

    @property
    def name(self) -> str:
        """Names it in messages and manifests, the same on every machine that sees the input under the same path."""
        ...

    @property
    def size_bytes(self) -> int:
        """Bytes on disk."""
        ...

    def documents(self, report: ReadReport) -> Iterator[Document]:
        """Its documents with text in them; what else there is gets counted in the report.

        Raises:
            DataError: as `read_documents`, but a part without any document is no error.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class FileRange:
    """A file, or a window of one."""

    file: Path
    name: str
    """The start of its documents' ids."""

    source: str
    """The input as the user named it."""

    size_bytes: int
    """Bytes on disk of this range."""

    window: Window | None = None
    """None: all of it."""


@dataclass(frozen=True, kw_only=True)
class FilesPart:
    """Whole files, or one window of a large one."""

    ranges: tuple[FileRange, ...]
    options: ReadOptions

    @property
    def name(self) -> str:
        """The first file, its window, and how many files follow."""
        first = self.ranges[0]
        where = f"[{first.window.begin}:{first.window.end}]" if first.window else ""
        more = f" and {len(self.ranges) - 1} more" if len(self.ranges) > 1 else ""
        return f"{first.file}{where}{more}"

    @property
    def size_bytes(self) -> int:
        """Bytes on disk."""
        return sum(one.size_bytes for one in self.ranges)

    def documents(self, report: ReadReport) -> Iterator[Document]:
        """As `InputPart.documents`."""
        for one in self.ranges:
            yield from counted_documents(
                SourceFile(
                    file=one.file,
                    name=one.name,
                    source=one.source,
                    options=self.options,
                    report=report,
                    window=one.window,
                )
            )
            report.num_files += one.window is None or one.window.begin == 0


@dataclass(frozen=True, kw_only=True)
class PythonLibraryPart:
    """The sources of the running interpreter's library, which are small."""

    folder: Path
    size_bytes: int

    @property
    def name(self) -> str:
        """What the user calls it."""
        return PYTHON_LIBRARY

    def documents(self, report: ReadReport) -> Iterator[Document]:
        """As `InputPart.documents`."""
        for document in python_library_documents(self.folder):
            report.num_files += 1
            report.num_documents += 1
            yield document


def plan_parts(
    inputs: Sequence[str], options: ReadOptions | None = None, *, part_bytes: int = PART_BYTES
) -> list[InputPart]:
    """Cut the input. The plan depends on the files, the options and `part_bytes` only.

    Uncompressed JSON Lines larger than a part are read once to count their lines, at the speed of the disk.

    Args:
        inputs: files, folders, addresses as s3://bucket/folder, or python-library.
        options: as for `read_documents`; `pattern` chooses files of folders.
        part_bytes: about how much one part holds, on disk; a file that cannot be cut makes a larger one.

    Raises:
        DataError: no such path, or nothing to read in it.
        SetupError: an address cannot be reached.
    """
    if part_bytes < 1:
        raise ConfigError(f"part_bytes must be positive, got {part_bytes}")
    options = options or ReadOptions()
    parts: list[InputPart] = []
    small: list[FileRange] = []
    small_bytes = 0

    def close_group() -> None:
        nonlocal small, small_bytes
        if small:
            parts.append(FilesPart(ranges=tuple(small), options=options))
        small, small_bytes = [], 0

    for name in inputs:
        if name == PYTHON_LIBRARY and not Path(name).exists():
            folder = python_library_folder()
            size = sum(path.stat().st_size for path in folder.rglob("*.py") if is_in_library(path.relative_to(folder)))
            parts.append(PythonLibraryPart(folder=folder, size_bytes=size))
            continue
        if is_remote(name):
            parts += remote_parts(name, options, part_bytes=part_bytes)
            continue
        path = Path(name)
        for file in find_files(path, options.pattern)[0]:
            ranges = ranges_of(file, name_of(file, path), name, options, part_bytes)
            if len(ranges) > 1:
                close_group()  # documents keep the order of the files
                parts += [FilesPart(ranges=(one,), options=options) for one in ranges]
                continue
            if small_bytes + ranges[0].size_bytes > part_bytes:
                close_group()
            small.append(ranges[0])
            small_bytes += ranges[0].size_bytes
        close_group()  # a part belongs to one input
    return parts


def ranges_of(file: Path, name: str, source: str, options: ReadOptions, part_bytes: int) -> list[FileRange]:
    """A file cut where its format allows it, or as a whole."""
    size = file.stat().st_size
    windows: list[tuple[Window, int]] = []
    if size > part_bytes:
        suffix = file.suffix.lower()
        if suffix in folders.JSON_LINES_SUFFIXES and is_single_byte_based(options.encoding):
            windows = windows_of_lines(file, part_bytes)
        elif suffix in folders.PARQUET_SUFFIXES:
            windows = windows_of_row_groups(file, part_bytes)
    if len(windows) < 2:
        return [FileRange(file=file, name=name, source=source, size_bytes=size)]
    return [
        FileRange(file=file, name=name, source=source, size_bytes=num_bytes, window=window)
        for window, num_bytes in windows
    ]


def windows_of_lines(file: Path, part_bytes: int) -> list[tuple[Window, int]]:
    """Windows of whole lines, the last one shorter; none of a file in UTF-16 or UTF-32."""
    with file.open("rb") as stream:
        start = stream.read(4)
        if any(start.startswith(mark) for mark, encoding in BYTE_ORDER_MARKS if encoding != "utf-8"):
            return []
        stream.seek(0)
        windows, begin, number = [], 0, 1
        while (found := rest_of_window(stream, part_bytes)) != (0, 0):
            num_bytes, num_lines = found
            windows.append((Window(begin=begin, end=begin + num_bytes, first_number=number), num_bytes))
            begin, number = begin + num_bytes, number + num_lines
    return windows


def rest_of_window(stream: BinaryIO, part_bytes: int) -> tuple[int, int]:
    """Bytes and lines from here to the first line end at or after `part_bytes`; (0, 0) at the end of the file."""
    num_bytes = num_lines = 0
    while num_bytes < part_bytes and (piece := stream.read(min(SCANNED_BYTES, part_bytes - num_bytes))):
        num_bytes += len(piece)
        num_lines += piece.count(b"\n")
    if num_bytes < part_bytes:
        return num_bytes, num_lines
    if piece.endswith(b"\n"):
        return num_bytes, num_lines
    while line := stream.readline(SCANNED_BYTES):
        num_bytes += len(line)
        if line.endswith(b"\n"):
            break
    return num_bytes, num_lines + 1


def windows_of_row_groups(file: Path, part_bytes: int) -> list[tuple[Window, int]]:
    """Windows of whole row groups; none of a file that cannot be opened: reading it will say why."""
    pyarrow = require("pyarrow", extra="data", purpose=f"reading {file.name}")
    parquet = require("pyarrow.parquet", extra="data", purpose=f"reading {file.name}")
    try:
        metadata = parquet.read_metadata(file)
    except (pyarrow.ArrowException, OSError):
        return []
    windows: list[tuple[Window, int]] = []
    begin, number, rows, size = 0, 1, 0, 0
    for group in range(metadata.num_row_groups):
        found = metadata.row_group(group)
        rows += found.num_rows
        size += sum(found.column(i).total_compressed_size for i in range(found.num_columns))
        if size >= part_bytes or group == metadata.num_row_groups - 1:
            windows.append((Window(begin=begin, end=group + 1, first_number=number), size))
            begin, number, rows, size = group + 1, number + rows, 0, 0
    return windows
