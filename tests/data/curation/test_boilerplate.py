"""Lines that stand in many of the documents that stay are taken out of web pages, and counted to the last byte."""

import json
from pathlib import Path

import numpy as np
import pytest

from data.curation.prose import good_prose, write_jsonl
from mamba_slm.data.compressed import open_bytes
from mamba_slm.data.curation.boilerplate import without_boilerplate
from mamba_slm.data.curation.config import CurateConfig
from mamba_slm.data.curation.curate import curate
from mamba_slm.data.curation.lines.config import LinesConfig
from mamba_slm.data.curation.lines.definition import hash_of
from mamba_slm.data.curation.lines.find import Boilerplate
from mamba_slm.data.curation.phrases.definition import words_of
from mamba_slm.data.curation.tally import Tally
from mamba_slm.data.curation.verdict import Removed

BANNER = "We use cookies to make this site better for you."
KEEP_ALL = CurateConfig(drop_share=0.0)


def texts_of(folder):
    """The texts of a result, by id."""
    found = {}
    for file in sorted(Path(folder).glob("part-*.jsonl.zst")):
        with open_bytes(file) as lines:
            for line in lines:
                row = json.loads(line)
                found[row["id"]] = row["text"]
    return found


@pytest.fixture
def pages(tmp_path, monkeypatch):
    """Twelve texts, eight of them with a banner, in two files below the current folder."""
    monkeypatch.chdir(tmp_path)
    texts = good_prose(12)
    write_jsonl(Path("web/a.jsonl"), [f"{BANNER}\n\n{text}" for text in texts[:5]])
    write_jsonl(Path("web/b.jsonl"), [*(f"{text}\n\n{BANNER.upper()}" for text in texts[5:8]), *texts[8:]])
    return texts


def test_a_banner_of_many_pages_is_taken_out_of_all_and_nothing_else(pages):
    done = curate(["web"], "out", kind="web", config=KEEP_ALL)
    found = texts_of("out")
    assert sorted(text.rstrip("\n") for text in found.values()) == sorted(text.rstrip("\n") for text in pages)
    total = done.funnel.total
    assert total.changes["lines of many documents"] == 8
    assert total.read.bytes == total.written.bytes + total.cleaned_bytes
    assert total.written.bytes == sum(len(text.encode()) for text in found.values())


@pytest.mark.parametrize("kind", ["books", "docs", "chat"])
def test_other_kinds_keep_lines_that_come_again(pages, kind):
    done = curate(["web"], "out", kind=kind, config=KEEP_ALL)
    assert "lines of many documents" not in done.funnel.total.changes


def test_the_stage_can_be_left_out_and_its_limit_be_raised(pages):
    curate(["web"], "none", kind="web", config=CurateConfig(drop_share=0.0, lines=None))
    curate(["web"], "ten", kind="web", config=CurateConfig(drop_share=0.0, lines=LinesConfig(max_documents=10)))
    for folder in ("none", "ten"):
        assert sum(BANNER in text for text in texts_of(folder).values()) == 5


def test_copies_of_a_page_do_not_make_its_lines_boilerplate(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    texts = good_prose(4)
    write_jsonl(Path("web/a.jsonl"), [texts[0]] * 9 + texts[1:])
    done = curate(["web"], "out", kind="web", config=KEEP_ALL)
    assert sorted(texts_of("out").values()) == sorted(texts)
    assert "lines of many documents" not in done.funnel.total.changes


def test_the_number_of_workers_and_parts_changes_nothing(pages):
    curate(["web"], "one", kind="web", config=KEEP_ALL)
    small = CurateConfig(drop_share=0.0, part_bytes=2000)
    curate(["web"], "two", kind="web", config=small, workers=2)
    assert texts_of("two") == texts_of("one")


def test_what_is_too_short_afterwards_goes_with_the_reason_and_what_goes_anyway_is_not_touched():
    config = LinesConfig()
    hashes = np.array([hash_of(words_of(BANNER))], np.uint64)
    gone = Removed(rule="duplicates.exact")
    documents = [
        (f"{BANNER}\nA text.".encode(), b"short", b"{}", None),
        (f"{BANNER}\nA text that is long enough.".encode(), b"long", b"{}", None),
        (BANNER.encode(), b"gone", b"{}", gone),
        (b"Nothing to take out.", b"other", b"{}", None),
    ]
    tally = Tally()
    boilerplate = Boilerplate(config=config, hashes=hashes)
    done = list(without_boilerplate(documents, boilerplate, tally, min_characters=20))
    assert [text for text, *_ in done] == [
        documents[0][0],
        b"A text that is long enough.",
        *(d[0] for d in documents[2:]),
    ]
    reasons = [reason and str(reason) for *_, reason in done]
    assert reasons == ["lines.min_characters: 7, allowed is at least 20", None, "duplicates.exact", None]
    assert tally.cleaned_bytes == len(BANNER) + 1 and tally.changes == {"lines of many documents": 1}
