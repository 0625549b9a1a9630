"""Open plain, .gz and .zst files as streams of bytes; a file that was cut off or damaged is an error, never an end."""

from __future__ import annotations

import contextlib
import gzip
import io
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from mamba_slm.core.errors import DataError
from mamba_slm.core.optional import require

COMPRESSIONS = (".gz", ".zst")
PIECE_BYTES = 1 << 17


def without_compression(path: Path) -> Path:
    """The name without .gz or .zst: `a.jsonl.gz` becomes `a.jsonl`."""
    return path.with_suffix("") if path.suffix.lower() in COMPRESSIONS else path


@contextlib.contextmanager
def open_bytes(path: Path) -> Iterator[BinaryIO]:
    """Open for reading, decompressing by the last suffix.

    Raises:
        DataError: the file cannot be read, is damaged, or its compressed stream ends early.
        MissingDependencyError: a .zst file, and `zstandard` is not installed.
    """
    with contextlib.ExitStack() as stack:
        try:
            raw = stack.enter_context(path.open("rb"))
            if path.suffix.lower() == ".gz":
                yield stack.enter_context(gzip.GzipFile(fileobj=raw))  # type: ignore[misc]
            elif path.suffix.lower() == ".zst":
                zstandard = require("zstandard", extra="data", purpose=f"reading {path.name}")
                with explained_zstd_errors(path, zstandard):
                    yield stack.enter_context(io.BufferedReader(ZstdStream(raw, zstandard), PIECE_BYTES))  # type: ignore[misc]
            else:
                yield raw
        except EOFError as error:
            raise DataError(
                f"{path} is cut off: its compressed stream has no end", hint="copy or download the file again"
            ) from error
        except (gzip.BadGzipFile, zlib.error) as error:
            raise DataError(
                f"{path} is not a valid .gz file: {error}", hint="copy or download the file again"
            ) from error
        except OSError as error:
            raise DataError(f"cannot read {path}: {error.strerror or error}") from error


@contextlib.contextmanager
def explained_zstd_errors(path: Path, zstandard: Any) -> Iterator[None]:
    """Turn the library's own error into a `DataError`."""
    try:
        yield
    except zstandard.ZstdError as error:
        raise DataError(f"{path} is not a valid .zst file: {error}", hint="copy or download the file again") from error


class ZstdStream(io.RawIOBase):
    """All frames of a .zst file one after another.

    The library's own stream reader takes the end of a truncated file for the end of the data; this one raises EOFError.
    """

    def __init__(self, raw: BinaryIO, zstandard: Any):
        self.raw = raw
        self.decompressor = zstandard.ZstdDecompressor()
        self.frame: Any = None
        self.ready = memoryview(b"")
        self.unused = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        target = memoryview(buffer).cast("B")
        while not self.ready:
            compressed = self.unused or self.raw.read(PIECE_BYTES)
            self.unused = b""
            if not compressed:
                if self.frame is not None:
                    raise EOFError("inside a frame")
                return 0
            if self.frame is None:
                self.frame = self.decompressor.decompressobj()
            self.ready = memoryview(self.frame.decompress(compressed))
            if self.frame.eof:
                self.unused, self.frame = self.frame.unused_data, None
        count = min(len(target), len(self.ready))
        target[:count] = self.ready[:count]
        self.ready = self.ready[count:]
        return count
