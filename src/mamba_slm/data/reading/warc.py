"""Web archives (.warc, .warc.gz): one document per page that a server sent; text is extracted from HTML.

Formats: ISO 28500 (WARC/1.0, 1.1). Only responses with status 200 that hold HTML or plain text become documents; what
else is in the archive is counted. The encoding is the page's byte order mark, what the server said, or what the page
says in a `meta` element, in this order as in the HTML standard, else UTF-8; wrong bytes are a problem, or repaired on
request.
"""

from __future__ import annotations

import codecs
import re
import zlib
from collections.abc import Iterator
from http.client import HTTPException, parse_headers
from io import BytesIO
from typing import BinaryIO

from mamba_slm.core.errors import DataError
from mamba_slm.data.decoding import byte_order_mark, is_single_byte_based
from mamba_slm.data.document import Document
from mamba_slm.data.reading.html_text import plain_html
from mamba_slm.data.reading.source_file import DRAINED_BYTES, SourceFile

VERSION = re.compile(rb"WARC/\d+\.\d+\r?\n")
HTML_TYPES = ("text/html", "application/xhtml+xml")
META_CHARSET = re.compile(rb"""<meta[^>]*?charset\s*=\s*["']?\s*([\w.:-]+)""", flags=re.IGNORECASE)
META_BYTES = 4096  # browsers look at 1,024; some pages put scripts before it
LONGEST_HEADER_BYTES = 1 << 16
GZIP_OR_ZLIB = zlib.MAX_WBITS | 32
CHUNK_SIZE = re.compile(rb"([0-9a-fA-F]{1,8})[^\r\n]{0,200}\r\n")
SKIP = "leave such pages out: --on-error skip"
WINDOWS_NAMES = {"iso8859-1": "cp1252", "ascii": "cp1252"}
"""What pages call Latin-1 or ASCII is Windows-1252, says the encoding standard of the web."""


def warc_documents(source: SourceFile) -> Iterator[Document | DataError]:
    """Pages in the order of the file; their ids end with the number of the record, from 1."""
    with source.open() as stream:
        for number, headers, block in warc_records(source, stream):
            if isinstance(block, DataError):
                yield block
            elif headers.get("warc-type") != "response":
                source.leave_out(f"{headers.get('warc-type', 'unknown')} records of a web archive")
            else:
                found = page_document(source, number, headers, block)
                if found is not None:
                    yield found


def warc_records(source: SourceFile, stream: BinaryIO) -> Iterator[tuple[int, dict[str, str], bytes | DataError]]:
    """Number, headers and content of each record.

    Raises:
        DataError: what should be a record begins with something else; the place of the next one is not known then.
    """
    number = 0
    while True:
        line = stream.readline(LONGEST_HEADER_BYTES)
        while line in (b"\r\n", b"\n"):
            line = stream.readline(LONGEST_HEADER_BYTES)
        if not line:
            return
        number += 1
        if not VERSION.fullmatch(line):
            raise DataError(
                f"{source.place(number)}: no WARC record begins here, but {line[:40]!r}",
                hint="copy or download the file again",
            )
        headers = header_fields(stream)
        length = headers.get("content-length", "")
        if not length.isdecimal():
            raise DataError(f"{source.place(number)}: a record without a length", hint="download the file again")
        if int(length) > source.options.max_document_bytes:
            drain(stream, int(length))
            yield number, headers, source.too_long(number, "the record", int(length))
            continue
        content = stream.read(int(length))
        if len(content) < int(length):
            raise DataError(
                f"{source.place(number)}: the file ends inside the record that begins here",
                hint="copy or download the file again",
            )
        yield number, headers, content


def header_fields(stream: BinaryIO) -> dict[str, str]:
    """Names in lower case and values, up to the blank line; a line that begins with a blank goes on with the value."""
    fields: dict[str, str] = {}
    name = ""
    while (line := stream.readline(LONGEST_HEADER_BYTES)).strip():
        text = line.decode(errors="replace").rstrip("\r\n")
        if text[0] in " \t" and name:
            fields[name] += " " + text.strip()
        else:
            name, _, value = text.partition(":")
            name = name.strip().lower()
            fields[name] = value.strip()
    return fields


def drain(stream: BinaryIO, num_bytes: int) -> None:
    """Pass over so many bytes."""
    while num_bytes > 0 and (piece := stream.read(min(DRAINED_BYTES, num_bytes))):
        num_bytes -= len(piece)


def page_document(
    source: SourceFile, number: int, headers: dict[str, str], block: bytes
) -> Document | DataError | None:
    """The document of a response; None for what is none."""
    http = BytesIO(block)
    status = http.readline(LONGEST_HEADER_BYTES).split(None, 2)
    if len(status) < 2 or not status[0].startswith(b"HTTP/"):
        source.leave_out("responses that are not HTTP")
        return None
    if status[1] != b"200":
        source.leave_out("responses with an error or redirect")
        return None
    try:
        fields = parse_headers(http)
    except HTTPException as error:
        return DataError(f"{source.place(number)}: HTTP headers that cannot be read: {error}", hint=SKIP)
    kind = fields.get_content_type() if "content-type" in fields else "text/html"
    if kind not in (*HTML_TYPES, "text/plain"):
        source.leave_out("responses that are neither HTML nor text")
        return None
    try:
        sent = without_chunks(http.read()) if "chunked" in fields.get("transfer-encoding", "").lower() else http.read()
        body = decompressed(sent, fields.get("content-encoding", ""), source.options.max_document_bytes)
    except (ValueError, zlib.error) as error:
        return DataError(f"{source.place(number)}: a page whose transfer cannot be undone: {error}", hint=SKIP)
    if len(body) > source.options.max_document_bytes:
        return source.too_long(number, "the page", len(body))
    try:
        name = page_encoding(source.place(number), body, fields.get_content_charset(), is_html=kind in HTML_TYPES)
        text = source.decode(body, source.place(number), encoding=name)
    except DataError as problem:
        return problem
    if kind in HTML_TYPES and source.options.markup == "plain":
        text = plain_html(text, main_content=True)
    metadata = {
        "url": headers.get("warc-target-uri", "").strip("<>"),
        "date": headers.get("warc-date"),
        "record": headers.get("warc-record-id", "").strip("<>"),
        "content_type": kind,
        "encoding": name,
    }
    return source.document(text, number, metadata)


def decompressed(body: bytes, content_encoding: str, max_bytes: int) -> bytes:
    """Undo the compression, where the crawler stored the page as it was sent; at most one byte more than allowed.

    Raises:
        ValueError, zlib.error: damaged, or compressed in an unknown way.
    """
    name = content_encoding.strip().lower()
    if name in ("", "identity"):
        return body
    if name not in ("gzip", "x-gzip", "deflate"):
        raise ValueError(f"content encoding {name!r}")
    if name != "deflate" and not body.startswith(b"\x1f\x8b"):
        return body  # undone already
    inflate = zlib.decompressobj(GZIP_OR_ZLIB)
    content = inflate.decompress(body, max_bytes + 1)
    if not inflate.eof and len(content) <= max_bytes:
        raise ValueError("its compressed content is cut off")
    return content


def without_chunks(body: bytes) -> bytes:
    """The content of a chunked body. Some crawlers undo the chunks and keep the header: then it is the body itself.

    >>> without_chunks(b"3\\r\\nabc\\r\\n0\\r\\n\\r\\n"), without_chunks(b"<html>")
    (b'abc', b'<html>')
    """
    parts: list[bytes] = []
    position = 0
    while found := CHUNK_SIZE.match(body, position):
        size = int(found[1], 16)
        if size == 0:
            return b"".join(parts)
        parts.append(body[found.end() : found.end() + size])
        position = found.end() + size + 2
        if position > len(body) + 2:
            break
    if not parts:
        return body
    raise ValueError("its chunks do not fit together")


def page_encoding(place: str, body: bytes, declared: str | None, *, is_html: bool) -> str:
    """The name of the encoding that the page is in, as Python knows it.

    Raises:
        DataError: an encoding that Python does not know.
    """
    mark, marked = byte_order_mark(body, "utf-8")
    if mark:
        return marked
    in_page = META_CHARSET.search(body[:META_BYTES]) if is_html else None
    name = declared or (in_page[1].decode() if in_page else "utf-8")
    try:
        known = codecs.lookup(name.strip("'\" "))
        if not known._is_text_encoding:  # type: ignore[attr-defined]
            raise LookupError(name)
    except LookupError as error:
        raise DataError(f"{place}: a page in the encoding {name!r}, which is unknown", hint=SKIP) from error
    if not declared and not is_single_byte_based(known.name):
        return "utf-8"  # a meta element in ASCII cannot stand in UTF-16: the standard reads it as UTF-8
    return WINDOWS_NAMES.get(known.name, known.name)
