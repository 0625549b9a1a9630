import bz2
from pathlib import Path

import pytest

from mamba_slm.core.errors import DataError

SHARED = Path(__file__).parents[3].parent / "shared" / "data" / "corpora" / "wikipedia"
needs_shared_data = pytest.mark.skipif(not SHARED.is_dir(), reason="needs ../shared/data, which is not here")
FILES = '<namespace key="6" case="x">Datei</namespace>'
HEAD = f'<mediawiki xml:lang="de">\n<siteinfo><namespaces>{FILES}</namespaces></siteinfo>\n'


def page(number, text, *, title="Title", ns=0, extra=""):
    return (
        f"<page>\n<title>{title}</title>\n<ns>{ns}</ns>\n<id>{number}</id>\n{extra}<revision><id>9</id>"
        f"<timestamp>2020-01-01T00:00:00Z</timestamp><model>wikitext</model><text>{text}</text></revision>\n</page>\n"
    )


def test_articles_come_out_with_title_and_licence_and_the_rest_is_counted(read):
    content = (
        HEAD
        + page(1, "'''One''' [[Datei:x.png]]&lt;ref>r&lt;/ref>.")
        + page(2, "#REDIRECT", extra='<redirect title="x" />')
    )
    content += (
        page(3, "talk", ns=1) + page(4, "{{only a template}}") + page(5, "Five.", title="A &amp; B") + "</mediawiki>"
    )
    found = read("dump.xml", content)
    assert found.texts == ["Title\n\nOne .", "A & B\n\nFive."] and found.ids == ["dump.xml:1", "dump.xml:5"]
    assert found.documents[1].metadata == {
        "title": "A & B",
        "page": 5,
        "revision": "9",
        "timestamp": "2020-01-01T00:00:00Z",
        "license": "CC BY-SA 4.0 and GFDL",
    }
    assert found.report.left_out == {"redirects of a wiki": 1, "wiki pages that are no articles": 1}
    assert found.report.num_empty == 1
    assert read("dump.xml", content, markup="raw").texts[0] == "'''One''' [[Datei:x.png]]<ref>r</ref>."


def test_a_broken_page_costs_only_itself(read, tmp_path):
    content = HEAD + page(1, "one") + page(2, "two <b> & three") + page(3, "three") + "</mediawiki>"
    found = read("dump.xml", content)
    assert found.ids == ["dump.xml:1", "dump.xml:3"]
    assert found.problems == [
        f"{tmp_path}/dump.xml:9 is not valid XML: not well-formed (invalid token) at line 13, column 102"
    ]


def test_a_dump_that_was_cut_off_says_where(read, tmp_path):
    content = HEAD + page(1, "one") + page(2, "two")[:60]
    found = read("dump.xml", content)
    assert found.ids == ["dump.xml:1"]
    assert found.problems == [f"{tmp_path}/dump.xml:9: the file ends inside the record that begins here"]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32", "iso-8859-1"])
def test_the_encoding_is_what_mark_or_declaration_say(read, encoding):
    head = f'<?xml version="1.0" encoding="{encoding}"?>' if encoding.startswith("iso") else ""
    assert read("a.xml", (head + HEAD + page(1, "Größe")).encode(encoding)).texts == ["Title\n\nGröße"]


def test_wrong_bytes_are_reported_or_repaired_on_request(read):
    content = (HEAD + page(1, "Gr\udcf6\udcdfe") + page(2, "gut")).encode(errors="surrogateescape")
    found = read("a.xml", content)
    assert found.texts == ["Title\n\ngut"] and "is not utf-8: byte 0xf6" in found.problems[0]
    found = read("a.xml", content, encoding_errors="repair")
    assert found.texts[0] == "Title\n\nGröße" and found.report.num_repaired_characters == 2
    wide = (HEAD + page(1, "x")).encode("utf-16") + b"\x00\xd8\x00"
    with pytest.raises(DataError, match="is not utf-16-le: "):
        read("b.xml", wide, on_error="stop")


def test_a_page_longer_than_the_limit_is_passed_over_in_bounded_memory(read):
    import tracemalloc

    content = bz2.compress((HEAD + page(1, "word " * 1_000_000) + page(2, "short") + "</mediawiki>").encode())
    tracemalloc.start()
    found = read("a.xml.bz2", content, max_document_bytes=1 << 20)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found.ids == ["a.xml.bz2:2"] and "the record that begins here is longer than 1.00 MiB" in found.problems[0]
    assert peak < 8 << 20


def test_the_streams_of_a_multistream_dump_follow_each_other(read):
    parts = [HEAD, page(1, "one") + page(2, "two"), page(3, "three"), "</mediawiki>"]
    found = read("enwiki-pages-articles1.xml-p1p3.bz2", b"".join(bz2.compress(part.encode()) for part in parts))
    assert found.ids == [f"enwiki-pages-articles1.xml-p1p3.bz2:{number}" for number in (1, 2, 3)]


def test_xml_that_is_no_dump_is_text(read):
    assert read("a.xml", "<rss>news</rss>").texts == ["<rss>news</rss>"]


@needs_shared_data
def test_real_dumps_are_read_in_two_encodings(read):
    found = read(SHARED, pattern="*.bz2")
    assert len(found.documents) == 107 and not found.report.num_problems
    assert found.report.left_out == {"redirects of a wiki": 99, "wiki pages that are no articles": 3}
    texts = {document.metadata["title"]: document.text for document in found.documents}
    assert texts["Anarchism"].startswith("Anarchism\n\nAnarchism is a political philosophy that advocates")
    assert texts["Григориански календар"].startswith("Григориански календар\n\nГригорианският календар (понякога")
    for mark in ("[[", "]]", "{|", "|}", "<ref", "''", "&nbsp;", "__TOC__"):
        assert not any(mark in text for text in texts.values()), mark
    assert len(set(found.ids)) == 107
