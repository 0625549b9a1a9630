"""Bytes to text, strictly: a byte order mark decides, else the encoding asked for; nothing is replaced silently."""

from __future__ import annotations

import codecs
import re

from mamba_slm.core.errors import ConfigError, DataError

BYTE_ORDER_MARKS = (  # UTF-32's begins with UTF-16's, so it comes first
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
LEAVE_OUT = "leave it out: mamba-slm data tokenize --on-error skip"


def check_encoding(encoding: str) -> None:
    """Refuse an encoding that Python does not know.

    Raises:
        ConfigError: unknown name.
    """
    try:
        "".encode(encoding)
    except LookupError as error:
        raise ConfigError(
            f"unknown encoding {encoding!r}", hint="usual ones: utf-8, utf-16, latin-1, cp1252, shift_jis, gb18030"
        ) from error


def decode(content: bytes, place: str, *, encoding: str = "utf-8", at_start: bool = True) -> str:
    """Decode a whole file, or a line of one.

    A byte order mark at the start of a file overrules `encoding` and is removed.

    Args:
        content: the bytes.
        place: names them in errors, such as a path.
        encoding: used where there is no byte order mark.
        at_start: whether `content` begins a file, so that it may begin with a mark.

    Raises:
        DataError: binary content, or bytes that the encoding does not allow; names the first one and its offset.
    """
    for mark, marked_encoding in BYTE_ORDER_MARKS:
        if at_start and content.startswith(mark):
            return decode_strictly(content[len(mark) :], place, marked_encoding, skipped_bytes=len(mark))
    if is_single_byte_based(encoding) and b"\0" in content:
        offset = content.index(b"\0")
        raise DataError(
            f"{place} is a binary file: byte 0x00 at offset {offset}",
            hint=f"{LEAVE_OUT}, or choose the text files with its --pattern; if it is text in UTF-16 without a byte "
            "order mark, use its --encoding utf-16-le",
        )
    return decode_strictly(content, place, encoding)


def decode_strictly(content: bytes, place: str, encoding: str, *, skipped_bytes: int = 0) -> str:
    """Decode, or say which byte is wrong and what to try.

    Raises:
        DataError: bytes that the encoding does not allow.
    """
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        line = 1 + content.count(b"\n", 0, error.start)
        where = f"offset {skipped_bytes + error.start}" + (f" (line {line})" if b"\n" in content[:-1] else "")
        wrong = content[error.start]
        raise DataError(
            f"{place} is not {encoding}: byte 0x{wrong:02x} at {where}",
            hint=f"{guess(content)}, or {LEAVE_OUT}",
        ) from error


def guess(content: bytes) -> str:
    """What to try when text is not in the encoding asked for."""
    if not re.search(rb"[\x80-\x9f]", content):  # Latin-1 has only control characters there
        return "if it is Latin-1 (older Western text), use mamba-slm data tokenize --encoding latin-1"
    return (
        "if it is Windows text, use mamba-slm data tokenize --encoding cp1252; "
        "`file --mime-encoding FILE` guesses others"
    )


def is_single_byte_based(encoding: str) -> bool:
    """Whether ordinary text in this encoding holds no zero bytes: everything but UTF-16 and UTF-32."""
    return "\n".encode(encoding) == b"\n"
