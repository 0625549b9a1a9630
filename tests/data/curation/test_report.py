import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from data.curation.prose import good_prose, write_jsonl
from mamba_slm.data.curation.config import CurateConfig
from mamba_slm.data.curation.curate import curate

HOSTILE = "</pre><script>alert(1)</script><img src=x onerror=alert(1)> \x1b[31m {{ 7 * 7 }} & short"
VOID = {"meta", "img", "br", "link", "hr", "input"}


@pytest.fixture
def page(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_jsonl(Path("<b>web</b>/a.jsonl"), [*good_prose(30), HOSTILE, *good_prose(2)])
    write_jsonl(Path("docs/d.jsonl"), good_prose(5, kind="docs"))
    done = curate(["web=<b>web</b>", "docs=docs"], "out", config=CurateConfig(drop_share=0.2))
    return done, Path("out/report.html").read_text(encoding="utf-8")


class Tags(HTMLParser):
    """Checks that elements are closed in order, and collects ids and links."""

    def __init__(self):
        super().__init__()
        self.open, self.ids, self.links, self.names = [], [], [], []

    def handle_starttag(self, tag, attrs):
        self.names.append(tag)
        found = dict(attrs)
        self.ids += [found["id"]] if "id" in found else []
        self.links += [found["href"]] if "href" in found else []
        assert not {"src", "onerror"} & found.keys()
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_page_is_whole_and_fetches_nothing(page):
    tags = Tags()
    tags.feed(page[1])
    assert not tags.open and len(tags.ids) == len(set(tags.ids))
    assert all(link.startswith("#") and link[1:] in tags.ids for link in tags.links)
    assert not {"script", "img", "link", "iframe"} & set(tags.names)
    assert "default-src &#39;none&#39;" in page[1]


def test_what_documents_and_names_hold_is_only_shown(page):
    assert "<script>" not in page[1] and "&lt;script&gt;alert(1)" in page[1] and "\x1b" not in page[1]
    assert "&lt;b&gt;web" in page[1] and "{{ 7 * 7 }}" in page[1]


def test_the_page_shows_every_rule_with_its_numbers_and_examples(page):
    done, text = page
    for row in done.funnel.rows():
        assert f'<td class="number">{row.amount.documents:,}</td>' in text
        for example in row.examples:
            assert example.id in text
    assert re.search(r"<h1>[^<]*docs", text) and f"{done.funnel.total.written.documents} of 38 documents stay" in text
    assert "drop_share" in text and "default 0.3" in text and done.fingerprint in text
    assert "Quality of web" in text and "Quality of docs" in text
