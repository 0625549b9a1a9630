import gzip
import zlib
from pathlib import Path

import pytest

from mamba_slm.core.errors import DataError

CRAWLS = Path(__file__).parents[3].parent / "shared" / "data" / "curation" / "warc"
needs_shared_data = pytest.mark.skipif(not CRAWLS.is_dir(), reason="needs ../shared/data, which is not here")
TEXT = "This paragraph is the article, with a word that tells encodings apart: café."
PAGE = f"<html><head><title>T</title></head><body><nav>Menu</nav><article><p>{TEXT}</p></article></body></html>"


def record(content, *, kind="response", url="https://example.org/"):
    head = f"WARC/1.0\r\nWARC-Type: {kind}\r\nWARC-Target-URI: <{url}>\r\nContent-Length: {len(content)}\r\n\r\n"
    return head.encode() + content + b"\r\n\r\n"


def response(body=PAGE, *, status="200 OK", headers="Content-Type: text/html; charset=utf-8", **settings):
    body = body if isinstance(body, bytes) else body.encode()
    return record(f"HTTP/1.1 {status}\r\n{headers}\r\n\r\n".encode() + body, **settings)


def test_pages_come_out_as_text_and_other_records_are_counted(read):
    records = [
        record(b"software: x", kind="warcinfo"),
        response(),
        response("plain café", headers="Content-Type: text/plain"),
    ]
    records += [response(status="404 Not Found"), response(b"\x89PNG", headers="Content-Type: image/png")]
    records += [record(b"GET / HTTP/1.1\r\n\r\n", kind="request"), record(b"example.org. IN A", kind="response")]
    for name, content in (("a.warc", b"".join(records)), ("b.warc.gz", b"".join(map(gzip.compress, records)))):
        found = read(name, content)
        assert found.texts == [TEXT, "plain café"] and found.ids == [f"{name}:2", f"{name}:3"]
        assert found.documents[0].metadata["url"] == "https://example.org/"
        assert found.report.left_out == {
            "warcinfo records of a web archive": 1,
            "request records of a web archive": 1,
            "responses with an error or redirect": 1,
            "responses that are neither HTML nor text": 1,
            "responses that are not HTTP": 1,
        }
    assert read("a.warc", records[1], markup="raw").texts == [PAGE]


@pytest.mark.parametrize(
    ("encoding", "header", "meta"),
    [
        ("utf-8", "text/html", ""),
        ("utf-8", "text/html; charset=utf-8", "<meta charset=latin-1>"),
        ("latin-1", "text/html; charset=ISO-8859-1", ""),
        ("cp1252", "text/html", '<meta http-equiv="Content-Type" content="text/html; charset=windows-1252">'),
        ("utf-16", "text/html; charset=latin-1", ""),
        ("utf-8", "text/html", "<meta charset=utf-16>"),
        ("shift_jis", "text/html; charset=Shift_JIS", ""),
    ],
)
def test_the_encoding_is_what_mark_server_or_page_say_in_this_order(read, encoding, header, meta):
    text = "これは記事の本文です。" if encoding == "shift_jis" else TEXT
    body = PAGE.replace("<title>", meta + "<title>").replace(TEXT, text).encode(encoding)
    assert read("a.warc", response(body, headers=f"Content-Type: {header}")).texts == [text]


def test_a_wrong_encoding_is_reported_or_repaired_on_request_never_guessed(read, tmp_path):
    content = response(PAGE.encode("latin-1")) + response()
    found = read("a.warc", content)
    assert found.texts == [TEXT] and found.problems[0].startswith(f"{tmp_path}/a.warc:1 is not utf-8: byte 0xe9")
    assert read("a.warc", content, encoding_errors="repair").texts == [TEXT, TEXT]
    unknown = read("a.warc", response(headers="Content-Type: text/html; charset=klingon") + response())
    assert unknown.problems == [f"{tmp_path}/a.warc:1: a page in the encoding 'klingon', which is unknown"]


def test_chunks_and_compression_of_the_transfer_are_undone(read):
    body = PAGE.encode()
    chunked = b"5\r\n" + body[:5] + b"\r\n" + b"%x;x=y\r\n" % (len(body) - 5) + body[5:] + b"\r\n0\r\n\r\n"
    html = "Content-Type: text/html; charset=utf-8\r\n"
    records = [
        response(chunked, headers=html + "Transfer-Encoding: chunked"),
        response(body, headers=html + "Transfer-Encoding: chunked"),  # the crawler undid it and kept the header
        response(gzip.compress(body), headers=html + "Content-Encoding: gzip"),
        response(body, headers=html + "Content-Encoding: gzip"),
        response(zlib.compress(body), headers=html + "Content-Encoding: deflate"),
    ]
    assert read("a.warc", b"".join(records)).texts == [TEXT] * 5


def test_a_page_that_cannot_be_had_costs_only_itself(read):
    html = "Content-Type: text/html\r\n"
    bomb = gzip.compress(bytes(50_000_000))
    records = [
        response(gzip.compress(PAGE.encode())[:-20], headers=html + "Content-Encoding: gzip"),
        response(b"x", headers=html + "Content-Encoding: br"),
        response(b"5\r\nabc", headers=html + "Transfer-Encoding: chunked"),
        response(bomb, headers=html + "Content-Encoding: gzip"),
        response("x" * 2_000_000),
        response(),
    ]
    found = read("a.warc", b"".join(records), max_document_bytes=1_000_000)
    assert found.texts == [TEXT] and len(found.problems) == 5
    reasons = ["cut off", "content encoding 'br'", "do not fit", "the page is longer", "the record is longer"]
    assert all(reason in problem for problem, reason in zip(found.problems, reasons, strict=True))


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda content: content[:-40], "the file ends inside the record"),
        (lambda content: content + b"garbage\r\n", "no WARC record begins here, but b'garbage"),
        (lambda content: content + b"WARC/1.0\r\nWARC-Type: response\r\n\r\n", "a record without a length"),
    ],
)
def test_a_damaged_archive_says_where(read, damage, reason):
    found = read("a.warc", damage(response() + response()))
    assert found.texts[0] == TEXT and reason in found.problems[0]
    with pytest.raises(DataError, match="no WARC record begins here"):
        read("a.warc", "just text", on_error="stop")


@needs_shared_data
def test_real_crawls_are_read(read):
    found = read(CRAWLS)
    assert len(found.documents) == 37 and not found.report.num_problems
    texts = {document.metadata["url"]: document.text for document in found.documents}
    page = texts["https://www.cs.washington.edu/people/faculty/weld"]
    assert "Daniel S. Weld is Professor Emeritus at the Paul G. Allen School" in page
    assert not any("<div" in text or "<script" in text for text in texts.values())
    assert sum(map(len, texts.values())) > 150_000
