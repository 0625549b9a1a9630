"""Records of a large XML file, one at a time, so that a broken one costs only itself and memory stays bounded.

Dumps are a flat list of elements whose text is escaped: the tag of a record can stand nowhere else in the file.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import BinaryIO
from xml.etree import ElementTree

from mamba_slm.core.errors import DataError
from mamba_slm.data.decoding import byte_order_mark, is_single_byte_based
from mamba_slm.data.reading.source_file import SourceFile

PIECE_BYTES = 1 << 18
DECLARED_ENCODING = re.compile(rb"""<\?xml[^>]*?encoding\s*=\s*["']([\w.-]+)["']""")


def xml_records(
    source: SourceFile, stream: BinaryIO, *, begin: bytes, end: bytes
) -> Iterator[tuple[int, ElementTree.Element | DataError]]:
    """The line where it begins, from 1, and the element, or the problem with it, of every record.

    Args:
        source: the file.
        stream: its bytes, from the start.
        begin: how a record begins, such as `<row `.
        end: how it ends; text before it that looks the same must be escaped.

    Raises:
        DataError: the file ends inside a record, or is not in the encoding that it claims.
    """
    limit = source.options.max_document_bytes
    encoding, pieces = utf8_pieces(source, stream)
    buffer = bytearray()
    line, inside, searched = 1, False, 0
    for piece in pieces:
        buffer += piece
        while True:
            if not inside:
                start = buffer.find(begin)
                inside = start >= 0
                dropped = start if inside else max(0, len(buffer) - len(begin) + 1)
                line += buffer.count(b"\n", 0, dropped)
                del buffer[:dropped]
                searched = len(begin)
                if not inside:
                    break
            stop = buffer.find(end, searched)
            if stop < 0:
                searched = max(len(begin), len(buffer) - len(end) + 1)
                if len(buffer) > limit:
                    yield line, source.too_long(line, "the record that begins here")
                    line += buffer.count(b"\n")
                    buffer.clear()
                    inside = False
                break
            stop += len(end)
            yield line, parsed_record(source, bytes(buffer[:stop]), line, encoding)
            line += buffer.count(b"\n", 0, stop)
            del buffer[:stop]
            inside = False
    if inside:
        yield (
            line,
            DataError(
                f"{source.place(line)}: the file ends inside the record that begins here",
                hint="copy or download the file again",
            ),
        )


def parsed_record(source: SourceFile, content: bytes, line: int, encoding: str) -> ElementTree.Element | DataError:
    """The element, or the problem with it."""
    place = source.place(line)
    try:
        return ElementTree.fromstring(source.decode(content, place, at_start=False, encoding=encoding))
    except DataError as problem:
        return problem
    except ElementTree.ParseError as error:
        row, column = error.position
        return DataError(
            f"{place} is not valid XML: {error.msg.split(':')[0]} at line {line + row - 1}, column {column + 1}",
            hint="leave such records out: --on-error skip",
        )


def utf8_pieces(source: SourceFile, stream: BinaryIO) -> tuple[str, Iterator[bytes]]:
    """The encoding of the pieces, and the bytes of the file in pieces, UTF-16 and UTF-32 turned into UTF-8.

    A byte order mark decides, then the XML declaration, then the options.

    Raises:
        DataError: the declared encoding is unknown.
    """
    start = stream.read(PIECE_BYTES)
    mark, encoding = byte_order_mark(start, source.options.encoding)
    declared = DECLARED_ENCODING.search(start[:1000])
    if not mark and declared:
        encoding = declared[1].decode()
        try:
            codecs.lookup(encoding)
        except LookupError as error:
            raise DataError(
                f"{source.file} claims to be in the encoding {encoding!r}, which is unknown",
                hint="convert it to UTF-8: iconv -t UTF-8",
            ) from error
    pieces = chain([start[len(mark) :]], iter(lambda: stream.read(PIECE_BYTES), b""))
    if is_single_byte_based(encoding):
        return encoding, pieces
    return "utf-8", transcoded(source, pieces, encoding)


def transcoded(source: SourceFile, pieces: Iterable[bytes], encoding: str) -> Iterator[bytes]:
    """Pieces as UTF-8.

    Raises:
        DataError: units that the encoding does not allow; no place to go on is known after them.
    """
    repairs = source.options.encoding_errors == "repair"
    decoder = codecs.getincrementaldecoder(encoding)("replace" if repairs else "strict")
    num_bytes = 0
    try:
        for piece in pieces:
            text = decoder.decode(piece)
            num_bytes += len(piece)
            source.report.add_repair(text.count("\ufffd") if repairs else 0)
            yield text.encode()
        yield decoder.decode(b"", final=True).encode()
    except UnicodeDecodeError as error:
        raise DataError(
            f"{source.file} is not {encoding}: {error.reason} near offset {num_bytes + error.start}",
            hint="copy or download it again; to have wrong characters replaced and counted: mamba-slm data tokenize "
            "--encoding-errors repair",
        ) from error
