"""Open plain, .gz, .zst, .bz2 and .xz files as streams of bytes.

A file that was cut off or damaged is an error, never an end; one that grows beyond all reason is an error, too.
"""

from __future__ import annotations

import bz2
import contextlib
import gzip
import io
import lzma
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from mamba_slm.core.errors import DataError
from mamba_slm.core.optional import require

COMPRESSIONS = (".gz", ".zst", ".bz2", ".xz")
READ_BYTES = 1 << 18
"""From the disk at once; with Python's own 8 KiB, lines of some KiB take three times as long."""
PIECE_BYTES = 1 << 17
ZSTD_PIECE_BYTES = 1 << 12
"""Compressed bytes that zstandard gets at once: it returns all they hold, up to 32,768 times as much."""
MAX_EXPANSION = 200
"""Decompressed bytes per compressed byte. Text reaches 3 to 30, machine-made lists 100; a bomb 1,000 and more."""
HARMLESS_BYTES = 1 << 26
"""What may come out of any compressed file, however small: a megabyte of one character is no bomb."""
GZIP_MAGIC = b"\x1f\x8b"
MAX_XZ_MEMORY_BYTES = 1 << 28
LOAD_AGAIN = "copy or download the file again"


def without_compression(path: Path) -> Path:
    """The name without .gz, .zst, .bz2 or .xz: `a.jsonl.gz` becomes `a.jsonl`."""
    return path.with_suffix("") if path.suffix.lower() in COMPRESSIONS else path


@contextlib.contextmanager
def open_bytes(path: Path, *, max_expansion: int = MAX_EXPANSION) -> Iterator[BinaryIO]:
    """Open for reading, decompressing by the last suffix.

    Args:
        path: the file.
        max_expansion: refuse a compressed file that gives more than so many times its size, beyond `HARMLESS_BYTES`.

    Raises:
        DataError: the file cannot be read, is damaged, its compressed stream ends early, or it expands too far.
        MissingDependencyError: a .zst file, and `zstandard` is not installed.
    """
    suffix = path.suffix.lower()
    wrong = f"{path} is not a valid {suffix} file"
    with contextlib.ExitStack() as stack:
        try:
            raw = stack.enter_context(path.open("rb", buffering=READ_BYTES))
            if suffix not in COMPRESSIONS:
                yield raw
                return
            with explained_zstd_errors(path, suffix):
                inner = decompressed(raw, suffix, path.name)
                bounded = BoundedStream(inner, raw, path, max_expansion)
                yield stack.enter_context(io.BufferedReader(bounded, PIECE_BYTES))
        except EOFError as error:
            raise DataError(f"{path} is cut off: its compressed stream has no end", hint=LOAD_AGAIN) from error
        except (*gzip_errors(), lzma.LZMAError) as error:
            raise DataError(f"{wrong}: {error}", hint=LOAD_AGAIN) from error
        except OSError as error:
            if error.errno is None and suffix == ".bz2":
                raise DataError(f"{wrong}: {error}", hint=LOAD_AGAIN) from error
            raise DataError(f"cannot read {path}: {error.strerror or error}") from error


def decompressed(raw: BinaryIO, suffix: str, name: str) -> Any:
    """A stream of the decompressed bytes, with a `readinto`."""
    if suffix == ".gz":
        start = raw.peek(2)[:2]  # type: ignore[attr-defined]
        if start and start != GZIP_MAGIC:  # isal would wait for more, and call the file cut off
            raise gzip.BadGzipFile(f"Not a gzipped file ({start!r})")
        return gzip_reader()(fileobj=raw, mode="rb")
    if suffix == ".bz2":
        return FramedStream(raw, bz2.BZ2Decompressor)
    if suffix == ".xz":
        return FramedStream(raw, lambda: lzma.LZMADecompressor(memlimit=MAX_XZ_MEMORY_BYTES), padding=b"\0")
    zstandard = require("zstandard", extra="data", purpose=f"reading {name}")
    decompressor = zstandard.ZstdDecompressor()
    return FramedStream(raw, lambda: ZstdFrame(decompressor.decompressobj()), piece_bytes=ZSTD_PIECE_BYTES)


def gzip_reader() -> Any:
    """`gzip.GzipFile`, or the one of isal where it is installed: the same bytes and errors, three times as fast."""
    try:
        from isal import igzip
    except ImportError:
        return gzip.GzipFile
    return igzip.IGzipFile


def gzip_errors() -> tuple[type[Exception], ...]:
    """What damaged .gz files raise."""
    try:
        from isal import isal_zlib
    except ImportError:
        return gzip.BadGzipFile, zlib.error
    return gzip.BadGzipFile, zlib.error, isal_zlib.error  # type: ignore[return-value]


@contextlib.contextmanager
def explained_zstd_errors(path: Path, suffix: str) -> Iterator[None]:
    """Turn the library's own error into a `DataError`."""
    if suffix != ".zst":
        yield
        return
    zstandard = require("zstandard", extra="data", purpose=f"reading {path.name}")
    try:
        yield
    except zstandard.ZstdError as error:
        raise DataError(f"{path} is not a valid .zst file: {error}", hint=LOAD_AGAIN) from error


class ZstdFrame:
    """zstandard's decompressor of one frame, with the interface of those of bz2 and lzma."""

    needs_input = True

    def __init__(self, frame: Any):
        self.frame = frame

    def decompress(self, data: bytes, max_length: int) -> bytes:
        """All that the data hold; the library knows no limit."""
        return self.frame.decompress(data)

    @property
    def eof(self) -> bool:
        return self.frame.eof

    @property
    def unused_data(self) -> bytes:
        return self.frame.unused_data


class FramedStream(io.RawIOBase):
    """All compressed streams of a file one after another.

    The libraries' own readers take a file cut off in a frame (zstandard), or a damaged second stream (bz2, lzma), for
    the end of the data; this one raises.
    """

    def __init__(
        self,
        raw: BinaryIO,
        new_frame: Callable[[], Any],
        *,
        padding: bytes = b"",
        piece_bytes: int = PIECE_BYTES,
    ):
        self.raw = raw
        self.new_frame = new_frame
        self.padding = padding
        self.piece_bytes = piece_bytes
        self.frame: Any = None
        self.ready = memoryview(b"")
        self.unused = b""
        self.failure: Exception | None = None

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        target = memoryview(buffer).cast("B")
        filled = 0
        if self.failure is not None:
            raise self.failure
        while filled < len(target):
            try:
                if not self.ready and not self.decompress():
                    break
            except Exception as failure:
                if not filled:
                    raise
                self.failure = failure  # first what could be read
                break
            count = min(len(target) - filled, len(self.ready))
            target[filled : filled + count] = self.ready[:count]
            self.ready = self.ready[count:]
            filled += count
        return filled

    def decompress(self) -> bool:
        """Make more bytes ready; whether there are any."""
        while not self.ready:
            compressed = b""
            if self.frame is None or self.frame.needs_input:
                compressed = self.unused or self.raw.read(self.piece_bytes)
                self.unused = b""
                if self.frame is None and self.padding:
                    stripped = compressed.lstrip(self.padding)
                    if compressed and not stripped:
                        continue
                    compressed = stripped
                if not compressed:
                    if self.frame is not None:
                        raise EOFError("inside a frame")
                    return False
            if self.frame is None:
                self.frame = self.new_frame()
            self.ready = memoryview(self.frame.decompress(compressed, PIECE_BYTES))
            if self.frame.eof:
                self.unused, self.frame = self.frame.unused_data, None
        return True


class BoundedStream(io.RawIOBase):
    """Decompressed bytes, refused when they become far too many for the compressed ones read so far."""

    def __init__(self, inner: Any, raw: BinaryIO, path: Path, max_expansion: int):
        self.inner = inner
        self.raw = raw
        self.path = path
        self.max_expansion = max_expansion
        self.num_bytes = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        count = self.inner.readinto(buffer)
        self.num_bytes += count
        if self.num_bytes > HARMLESS_BYTES and self.num_bytes > self.max_expansion * self.raw.tell():
            raise DataError(
                f"{self.path} expands more than {self.max_expansion} times: {self.num_bytes:,} bytes came out of the "
                f"first {self.raw.tell():,}",
                hint="such a file is often a decompression bomb; if you trust it, decompress it yourself, or leave it "
                "out: mamba-slm data tokenize --on-error skip",
            )
        return count
