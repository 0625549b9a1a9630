"""The commands of docs/guides/data.md, run in order in a folder with small files of every kind, print what it shows."""

import bz2
import contextlib
import gzip
import io
import json
import re
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
import zstandard

from data.curation.prose import good_prose, write_jsonl
from data_hub import Hub
from mamba_slm.cli.main import main
from promises.documents import REPOSITORY, our_commands

GUIDE = REPOSITORY / "docs" / "guides" / "data.md"
PAGE = (
    "<page><title>Tea</title><ns>0</ns><id>7</id><revision><id>1</id><text>'''Tea''' is a "
    "[[drink]].</text></revision></page>"
)
REDIRECT = '<page><title>Chai</title><ns>0</ns><id>8</id><redirect title="Tea" /></page>'
QUESTION = '<row Id="1" PostTypeId="1" Score="5" Title="Why tea?" Body="&lt;p&gt;Why?&lt;/p&gt;" Tags="&lt;tea&gt;" />'
ANSWER = '<row Id="2" PostTypeId="2" ParentId="1" Score="3" Body="&lt;p&gt;Because.&lt;/p&gt;" />'
HTML = "<html><body><nav>Menu</nav><article><p>All about tea, in one paragraph.</p></article></body></html>"
HTTP = f"HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\n\r\n{HTML}"
WARC = f"WARC/1.0\r\nWARC-Type: response\r\nContent-Length: {len(HTTP)}\r\n\r\n{HTTP}\r\n\r\n"


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    """The files of the guide, and a hub on this machine with one gated and one open source."""
    monkeypatch.chdir(tmp_path)
    lines = [json.dumps({"content": f"Record number {number} is about tea."}) for number in range(40)]
    lines[20] = '{"content": "cut o'
    (tmp_path / "web.jsonl.zst").write_bytes(zstandard.compress("\n".join(lines).encode()))
    table = pyarrow.table({"text": [f"Chapter {number} of a book." for number in range(30)], "page": list(range(30))})
    pyarrow.parquet.write_table(table, tmp_path / "books.parquet")
    dump = f"<mediawiki>{PAGE}{REDIRECT}</mediawiki>".encode()
    (tmp_path / "enwiki-pages-articles.xml.bz2").write_bytes(bz2.compress(dump))
    (tmp_path / "Posts.xml").write_text(f"<posts>\n{QUESTION}\n{ANSWER}\n</posts>\n")
    (tmp_path / "crawl.warc.gz").write_bytes(gzip.compress(WARC.encode()))
    (tmp_path / "old.txt").write_bytes("Café in Malmö".encode("latin-1"))
    pages(good_prose(60))
    hub = Hub()
    stories = "".join(json.dumps({"text": f"Once there was a cup, number {number}."}) + "\n" for number in range(400))
    hub.faults["/api/datasets/bigcode/starcoderdata/revision/main"].append(401)
    hub.files = {f"stories/{part}.jsonl": stories.encode() for part in range(8)}
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    monkeypatch.delenv("HF_TOKEN", raising=False)
    yield tmp_path
    hub.close()


def pages(good):
    """A crawl with a copy, a page that is nearly another, a menu, shouting, and somebody's address; a manual."""
    foreign = [good[3], good[5].replace("the", "a", 1), "Home | About | Contact", "BUY NOW! " * 80]
    address = "Questions? Write to ann.miller@wide-river.org or call 202-555-0143."
    write_jsonl(Path("crawl/pages.jsonl"), [*good[:40], *foreign, f"{good[41]}\n\n{address}"])
    Path("manual").mkdir()
    for number, text in enumerate(good[45:51]):
        Path(f"manual/{number}.md").write_text(f"# Part {number}\n\n{text}")


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```", GUIDE.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


def run(words):
    out, talk = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(talk):
        code = main(words)
    return code, out.getvalue(), talk.getvalue()


def test_every_command_of_the_guide_prints_what_the_guide_shows(workplace):
    for name, content in zip(("my-sources.yaml", "strict.yaml"), blocks("yaml"), strict=False):
        (workplace / name).write_text(content)
    compared = 0
    for block in blocks("console"):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            line, _, shown = part.partition("\n")
            for words in our_commands(line):
                code, out, talk = run(words)
                failed = "error: " in shown
                assert (code != 0) == failed, f"{line}\n{talk}"
                for expected in shown.splitlines():
                    compared += 1
                    assert expected.rstrip() in re.sub(r" +$", "", out + talk, flags=re.MULTILINE).splitlines(), line
    assert compared > 50
