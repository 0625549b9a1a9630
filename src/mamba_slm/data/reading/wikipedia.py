"""Wikipedia's dumps (`…-pages-articles….xml`, usually .bz2): one document per article, in plain text.

Pages outside the namespace of articles and redirects are left out and counted. A multistream dump is one, too: its
streams are read one after another.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from xml.etree.ElementTree import Element

from mamba_slm.core.errors import DataError
from mamba_slm.data.document import Document
from mamba_slm.data.reading.source_file import SourceFile
from mamba_slm.data.reading.wikitext import DROPPED_NAMESPACES, plain_wikitext
from mamba_slm.data.reading.xml_records import utf8_pieces, xml_records

ARTICLES = "0"
LICENSE = "CC BY-SA 4.0 and GFDL"
TEXT_MODELS = (None, "", "wikitext")


def wikipedia_documents(source: SourceFile) -> Iterator[Document | DataError]:
    """Articles in the order of the file; their ids are `name:PAGE`, with the number of the page in the wiki."""
    dropped = namespaces_without_text(source)
    with source.open() as stream:
        for line, page in xml_records(source, stream, begin=b"<page>", end=b"</page>"):
            found = page if isinstance(page, DataError) else article(source, page, line, dropped)
            if found is not None:
                yield found


def namespaces_without_text(source: SourceFile) -> frozenset[str]:
    """What files and categories are called in the language of this wiki: the head of the dump says it."""
    with source.open() as stream:
        _, pieces = utf8_pieces(source, stream)
        head = next(pieces).partition(b"</namespaces>")[0].decode(errors="replace")
    names = re.findall(r'<namespace key="(?:-2|6|14)"[^>]*>([^<]+)</namespace>', head)
    return DROPPED_NAMESPACES | {name.lower() for name in names}


def article(source: SourceFile, page: Element, line: int, dropped: frozenset[str]) -> Document | DataError | None:
    """The document of a page; None for what is none."""
    if page.findtext("ns", ARTICLES) != ARTICLES:
        source.leave_out("wiki pages that are no articles")
        return None
    if page.find("redirect") is not None:
        source.leave_out("redirects of a wiki")
        return None
    revision = page.find("revision")
    number, title = page.findtext("id"), page.findtext("title")
    if revision is None or not number or not title:
        return DataError(f"{source.place(line)}: a page without title, id or revision", hint="is the dump complete?")
    if revision.findtext("model") not in TEXT_MODELS:
        source.leave_out("wiki pages that hold no text")
        return None
    text = revision.findtext("text") or ""
    if source.options.markup == "plain":
        text = plain_wikitext(text, dropped=dropped)
        if text:
            text = f"{title}\n\n{text}"
    metadata = {
        "title": title,
        "page": int(number) if number.isdecimal() else number,
        "revision": revision.findtext("id"),
        "timestamp": revision.findtext("timestamp"),
        "license": LICENSE,
    }
    return source.document(text, number, metadata)
