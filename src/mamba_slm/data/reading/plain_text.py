"""Plain text: one document per file; a file longer than the limit becomes several, cut at line ends."""

from __future__ import annotations

from collections.abc import Iterator

from mamba_slm.core.errors import DataError
from mamba_slm.data.decoding import byte_order_mark, is_single_byte_based, refuse_binary
from mamba_slm.data.document import Document
from mamba_slm.data.reading.source_file import SourceFile

FIRST_LOOK_BYTES = 1 << 16


def text_documents(source: SourceFile) -> Iterator[Document | DataError]:
    """The file as one document, without a number in its id; the parts of a very long one are `name:1`, `name:2`, …

    Memory: the limit, twice.
    """
    limit = source.options.max_document_bytes
    place = str(source.file)
    with source.open() as stream:
        start = stream.read(min(limit + 1, FIRST_LOOK_BYTES))
        mark, encoding = byte_order_mark(start, source.options.encoding)
        if not mark:
            refuse_binary(start, place, encoding)  # before the rest is in memory
        content = start + stream.read(limit + 1 - len(start))
        if len(content) <= limit:
            yield source.document(source.decode(content, place), None)
            return
        if not is_single_byte_based(encoding):
            yield source.too_long(None, f"text in {encoding}")
            return
        number = 0
        while content:
            number += 1
            cut = len(content) if len(content) <= limit else content.rfind(b"\n", 0, limit) + 1
            if cut == 0:
                yield source.too_long(number, "a line of the text")
                return
            text = source.decode(content[:cut], source.place(number), at_start=number == 1, encoding=encoding)
            yield source.document(text, number)
            content = content[cut:] + stream.read(cut)
