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
UNDECODED = re.compile("[\udc80-\udcff]")
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
    mark, encoding = byte_order_mark(content, encoding) if at_start else (b"", encoding)
    if not mark:
        refuse_binary(content, place, encoding)
    return decode_strictly(content[len(mark) :], place, encoding, skipped_bytes=len(mark))


def decode_repairing(content: bytes, place: str, *, encoding: str = "utf-8", at_start: bool = True) -> tuple[str, int]:
    """Decode and repair: bytes that the encoding does not allow are read as Windows-1252, as browsers do.

    What Windows-1252 does not define either, and wrong units of UTF-16 and UTF-32, become U+FFFD. Use it only when the
    user asked for it: which characters were meant is a guess.

    Returns:
        the text, and how many bytes (units) were repaired.

    Raises:
        DataError: binary content.
    """
    mark, encoding = byte_order_mark(content, encoding) if at_start else (b"", encoding)
    if not mark:
        refuse_binary(content, place, encoding)
    content = content[len(mark) :]
    try:
        return content.decode(encoding), 0
    except UnicodeDecodeError:
        if not is_single_byte_based(encoding):
            text = content.decode(encoding, errors="replace")
            return text, text.count("\ufffd") - content.decode(encoding, errors="ignore").count("\ufffd")
    text = content.decode(encoding, errors="surrogateescape")
    return UNDECODED.subn(lambda found: windows_character(ord(found[0]) - 0xDC00), text)


def windows_character(byte: int) -> str:
    """The character of a byte in Windows-1252; U+FFFD for the five that have none.

    >>> windows_character(0xE9), windows_character(0x81)
    ('é', '\ufffd')
    """
    return bytes([byte]).decode("cp1252", errors="replace")


def byte_order_mark(content: bytes, encoding: str) -> tuple[bytes, str]:
    """The mark at the start, and the encoding it tells; no mark and the given encoding without one."""
    for mark, marked_encoding in BYTE_ORDER_MARKS:
        if content.startswith(mark):
            return mark, marked_encoding
    return b"", encoding


def refuse_binary(content: bytes, place: str, encoding: str) -> None:
    """Raise DataError for zero bytes, which text holds in no encoding but UTF-16 and UTF-32."""
    if is_single_byte_based(encoding) and b"\0" in content:
        offset = content.index(b"\0")
        raise DataError(
            f"{place} is a binary file: byte 0x00 at offset {offset}",
            hint=f"{LEAVE_OUT}, or choose the text files with its --pattern; if it is text in UTF-16 without a byte "
            "order mark, use its --encoding utf-16-le",
        )


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
            hint=f"{guess(content)}; to have such bytes repaired and counted: --encoding-errors repair; or {LEAVE_OUT}",
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
