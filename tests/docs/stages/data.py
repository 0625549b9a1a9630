"""docs/guides/data.md: files of every kind, and a hub on this machine with one gated and one open source."""

import bz2
import gzip
import json

import pyarrow
import pyarrow.parquet
import zstandard

from data.curation.prose import good_prose, write_jsonl
from data_hub import Hub

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


def prepare(stage):
    stage.exact = True
    lines = [json.dumps({"content": f"Record number {number} is about tea."}) for number in range(40)]
    lines[20] = '{"content": "cut o'
    stage.file("web.jsonl.zst", zstandard.compress("\n".join(lines).encode()))
    table = pyarrow.table({"text": [f"Chapter {number} of a book." for number in range(30)], "page": list(range(30))})
    pyarrow.parquet.write_table(table, stage.path("books.parquet"))
    dump = f"<mediawiki>{PAGE}{REDIRECT}</mediawiki>".encode()
    stage.file("enwiki-pages-articles.xml.bz2", bz2.compress(dump))
    stage.file("Posts.xml", f"<posts>\n{QUESTION}\n{ANSWER}\n</posts>\n")
    stage.file("crawl.warc.gz", gzip.compress(WARC.encode()))
    stage.file("old.txt", "Café in Malmö".encode("latin-1"))
    pages(stage, good_prose(60))
    hub = Hub()
    stage.at_end(hub.close)
    stories = "".join(json.dumps({"text": f"Once there was a cup, number {number}."}) + "\n" for number in range(400))
    hub.faults["/api/datasets/bigcode/starcoderdata/revision/main"].append(401)
    hub.files = {f"stories/{part}.jsonl": stories.encode() for part in range(8)}
    stage.sets("HF_ENDPOINT", hub.url)
    stage.sets("HF_HUB_OFFLINE", "0")
    stage.unsets("HF_TOKEN")


def pages(stage, good):
    """A crawl with a copy, a page that is nearly another, a menu, shouting, and somebody's address; a manual."""
    foreign = [good[3], good[5].replace("the", "a", 1), "Home | About | Contact", "BUY NOW! " * 80]
    address = "Questions? Write to ann.miller@wide-river.org or call 202-555-0143."
    write_jsonl(stage.path("crawl/pages.jsonl"), [*good[:40], *foreign, f"{good[41]}\n\n{address}"])
    for number, text in enumerate(good[45:51]):
        stage.file(f"manual/{number}.md", f"# Part {number}\n\n{text}")
