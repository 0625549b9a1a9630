"""The whole way from documents to a result: every document has the fate it must have, whoever dies on the way."""

import json
import os
import re
from dataclasses import replace
from pathlib import Path

import pytest

from data.curation.prose import good_prose, prose, write_jsonl
from mamba_slm.core.errors import ConfigError, DataError, RunLockedError
from mamba_slm.core.files import sha256_of_file
from mamba_slm.data.compressed import open_bytes
from mamba_slm.data.curation.config import CurateConfig, parse_inputs
from mamba_slm.data.curation.curate import curate
from mamba_slm.data.curation.curation import read_curation
from mamba_slm.data.curation.kinds import RulesOfKinds
from mamba_slm.data.curation.personal.config import PersonalConfig
from mamba_slm.data.curation.quantile import document_hashes
from mamba_slm.data.curation.signals.assess import QualityConfig, assess
from mamba_slm.data.curation.signals.rules import WEB, RulesConfig
from mamba_slm.data.engine.manifest import locked
from mamba_slm.data.readers import read_documents
from mamba_slm.data.reading.options import ReadOptions

KEEP_ALL = CurateConfig(drop_share=0.0)
SKIP = ReadOptions(on_error="skip")


def rows_of(folder, pattern):
    """All lines of a result, by id; a name that comes twice is an error."""
    rows = {}
    for file in sorted(Path(folder).glob(pattern)):
        with open_bytes(file) as lines:
            for line in lines:
                row = json.loads(line)
                assert (row["source"], row["id"]) not in rows
                rows[row["source"], row["id"]] = row
    return rows


def kept_rows(folder):
    return rows_of(folder, "part-*.jsonl.zst")


def removed_rows(folder):
    return rows_of(folder, "removed/*.jsonl.zst")


def bytes_of(folder):
    """All files but the one with times."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(Path(folder).rglob("*"))
        if path.is_file() and path.name != "timing.json"
    }


@pytest.fixture
def corpus(tmp_path, monkeypatch):
    """Web pages in three files, and a book, below the current folder."""
    monkeypatch.chdir(tmp_path)
    good = good_prose(90)
    write_jsonl(Path("web/a.jsonl"), good[:40])
    write_jsonl(Path("web/b.jsonl"), [*good[40:80], good[3], good[7].replace("the", "a", 1), "Too short."])
    write_jsonl(Path("web/deep/c.jsonl"), ["http://x.y/z " * 60, "Buy now! " * 200, *good[80:]])
    Path("books").mkdir()
    Path("books/novel.txt").write_text("\n\n".join(prose(5000 + n) for n in range(30)))
    return tmp_path


def test_every_document_has_the_fate_it_must_have(corpus):
    done = curate(["web"], "out", kind="web", config=KEEP_ALL)
    kept, removed = kept_rows("out"), removed_rows("out")
    fates = {id: row["removed"]["rule"] for (_, id), row in removed.items()}
    copy, near = ({"a.jsonl:4", "b.jsonl:41"} & fates.keys(), {"a.jsonl:8", "b.jsonl:42"} & fates.keys())
    assert len(copy) == len(near) == 1
    assert fates.pop(*copy) == "duplicates.exact" and fates.pop(*near) == "duplicates.near"
    assert fates.pop("b.jsonl:43") == "signals.min_characters"
    assert fates.pop("deep/c.jsonl:1") == "signals.max_mean_word_length"
    assert fates.pop("deep/c.jsonl:2").startswith("signals.")
    assert not fates
    texts = good_prose(90)
    assert len(kept) == 90 and {row["text"] for row in kept.values()} >= {
        texts[i] for i in range(90) if i not in (3, 7)
    }
    assert done.funnel.total.written.documents == 90 and done.funnel.total.read.documents == 95


def test_a_kept_document_has_its_text_and_name_and_metadata_with_quality_and_kind(corpus):
    curate(["web"], "out", kind="web", config=KEEP_ALL)
    row = kept_rows("out")["web", "a.jsonl:1"]
    text = good_prose(90)[0]
    assert row["text"] == text and row["metadata"]["number"] == 0 and row["metadata"]["kind"] == "web"
    steps = assess([text], QualityConfig.of("web")).steps[0]
    assert row["metadata"]["quality"] == round(steps / 65535, 5)


def test_everything_read_is_written_or_removed_or_taken_out_to_the_last_byte(corpus):
    done = curate(["web", "books=books"], "out", kind="web")
    total = done.funnel.total
    removed = sum(row.bytes for row in total.removed.values())
    assert total.read.bytes == total.written.bytes + removed + total.cleaned_bytes
    assert total.read.documents == total.written.documents + sum(row.documents for row in total.removed.values())
    assert total.written.documents == len(kept_rows("out")) and not kept_rows("out").keys() & removed_rows("out").keys()
    assert total.written.bytes == sum(len(row["text"].encode()) for row in kept_rows("out").values())
    assert len(removed_rows("out")) == total.read.documents - total.written.documents


def test_of_each_kind_exactly_the_worst_share_goes(corpus):
    done = curate(["web", "books=books"], "out", kind="web", config=CurateConfig(drop_share=0.25, duplicates=None))
    for kind, tally in done.funnel.kinds.items():
        gone = {rule: row.documents for rule, row in tally.removed.items()}
        dropped = gone.pop("quality.bottom", 0)
        assert dropped == (tally.read.documents - sum(gone.values())) // 4, kind
    scores = {
        id: row["metadata"]["quality"] for (_, id), row in kept_rows("out").items() if row["metadata"]["kind"] == "web"
    }
    lost = [
        (row["removed"]["value"], int(document_hashes([id])[0]))
        for (_, id), row in removed_rows("out").items()
        if row["removed"]["rule"] == "quality.bottom" and row["metadata"]["kind"] == "web"
    ]
    assert max(value for value, _ in lost) <= min(scores.values()) + 1e-5


def test_a_long_book_is_cut_into_parts_that_joined_are_the_book(corpus):
    no_rules = replace(RulesConfig(**dict.fromkeys(WEB.limits)), max_characters=2000)
    config = CurateConfig(drop_share=0.0, duplicates=None, rules=RulesOfKinds(books=no_rules))
    curate(["books"], "out", kind="books", config=config)
    rows = kept_rows("out")
    ids = sorted((id for _, id in rows), key=lambda id: int(id.partition("#")[2]))
    assert len(ids) > 1 and ids == [f"novel.txt#{n}" for n in range(1, len(ids) + 1)]
    assert "".join(rows["books", id]["text"] for id in ids) == Path("books/novel.txt").read_text()


def test_workers_and_the_order_of_inputs_change_no_byte(corpus):
    small = CurateConfig(part_bytes=20_000)
    curate(["web/a.jsonl", "web/b.jsonl", "books=books"], "one", kind="web", config=small)
    curate(["books=books", "web/b.jsonl", "web/a.jsonl"], "two", kind="web", config=small, workers=2)
    one, two = bytes_of("one"), bytes_of("two")
    assert one == two and sum(name.startswith("part-") for name in one) > 3


def test_how_the_input_is_cut_does_not_change_what_stays(corpus):
    curate(["web"], "whole", kind="web", config=CurateConfig())
    curate(["web"], "cut", kind="web", config=CurateConfig(part_bytes=9_000))
    assert kept_rows("whole") == kept_rows("cut") and removed_rows("whole") == removed_rows("cut")
    assert read_curation(Path("whole")).funnel == read_curation(Path("cut")).funnel


def test_the_same_call_again_returns_at_once_and_another_is_refused(corpus):
    first = curate(["web"], "out", kind="web")
    before = {path: path.stat().st_mtime_ns for path in Path("out").rglob("*")}
    again = curate(["web"], "out", kind="web", workers=7)
    assert again.fingerprint == first.fingerprint and again.funnel == first.funnel
    assert {path: path.stat().st_mtime_ns for path in Path("out").rglob("*")} == before
    with pytest.raises(DataError, match="other input or with other settings"):
        curate(["web"], "out", kind="web", config=KEEP_ALL)
    assert not Path("out.work").exists()


def test_two_processes_do_not_make_one_result(corpus):
    Path("out.work").mkdir()
    descriptor = locked(Path("out.work"))
    try:
        with pytest.raises(RunLockedError):
            curate(["web"], "out", kind="web")
    finally:
        os.close(descriptor)


def test_work_of_other_settings_is_not_continued(corpus):
    (corpus / "out.work").mkdir()
    (corpus / "out.work" / "plan.json").write_text("{}")
    done = {"stage": "chained", "task": "000000", "state": "done", "configuration": "other"}
    (corpus / "out.work" / "manifest.jsonl").write_text(json.dumps(done) + "\n")
    with pytest.raises(DataError, match=r"unfinished curation of other input"):
        curate(["web"], "out", kind="web")


def test_after_a_bad_line_is_mended_the_same_command_works(corpus):
    path = write_jsonl(Path("pages/p.jsonl"), good_prose(5))
    whole = path.read_text()
    path.write_text(whole + '{"text": "cut o')
    with pytest.raises(DataError, match=r"p.jsonl:6"):
        curate(["pages"], "out", kind="web", config=KEEP_ALL)
    path.write_text(whole)
    assert curate(["pages"], "out", kind="web", config=KEEP_ALL).funnel.total.written.documents == 5
    assert not Path("out.work").exists()


def test_rejects_keep_their_texts_only_when_asked(corpus):
    curate(["web"], "out", kind="web")
    assert all("text" not in row for row in removed_rows("out").values())
    done = curate(["web"], "texts", kind="web", config=CurateConfig(keep_rejects=True))
    removed = removed_rows("texts")
    assert removed["web", "b.jsonl:43"]["text"] == "Too short."
    assert all(row["text"] for row in removed.values()) and removed.keys() == removed_rows("out").keys()
    assert kept_rows("texts") == kept_rows("out")
    assert done.fingerprint != read_curation(Path("out")).fingerprint


def test_what_cannot_be_read_is_counted_with_its_place_and_the_rest_goes_on(corpus):
    write_jsonl(Path("web/bad.jsonl"), good_prose(100)[90:])
    with Path("web/bad.jsonl").open("ab") as file:
        file.write(b'{"text": "cut o\n{"no text": 1}\n{"text": "lone \\ud800 surrogate"}\n')
    Path("web/program.bin.txt").write_bytes(bytes(range(256)) * 20)
    with pytest.raises(DataError, match=r"bad.jsonl:11"):
        curate(["web"], "stopped", kind="web")
    done = curate(["web"], "out", kind="web", options=SKIP, config=KEEP_ALL)
    assert done.funnel.total.unread["not readable"] == 4 and len(done.funnel.total.problems) == 4
    assert len([id for source, id in kept_rows("out") if id.startswith("bad.jsonl")]) == 10


def test_documents_that_are_hostile_are_judged_like_others(corpus):
    hostile = [
        "\x00" * 500,
        "a" * 1_000_000,
        " ".join(["word"] * 400_000),
        "\u202e" * 300,
        "漢字" * 400,
        "\n" * 400 + "x",
    ]
    write_jsonl(Path("hostile/h.jsonl"), hostile)
    done = curate(["hostile", "web"], "out", kind="web", config=KEEP_ALL)
    assert {id for source, id in removed_rows("out") if source == "hostile"} == {f"h.jsonl:{n}" for n in range(1, 7)}
    assert done.funnel.total.written.documents == 90


def test_an_input_of_which_nothing_stays_ends_in_a_funnel_too(corpus):
    write_jsonl(Path("bad/b.jsonl"), ["short", "shorter"])
    done = curate(["bad"], "out", kind="web")
    assert done.funnel.total.written.documents == 0 and not kept_rows("out")
    assert len(removed_rows("out")) == 2 and Path("out/report.html").is_file()


def test_the_record_says_settings_sources_licences_and_checksums(corpus):
    manifest = {"licence": "CC0", "page": "https://x", "commit": "c0ffee", "tokens_wanted": None}
    Path("web/download.manifest").write_text(json.dumps(manifest))
    done = curate(["web"], "out", kind="web")
    assert done.record["sources"] == [
        {"name": "web", "kind": "web", "licence": "CC0", "page": "https://x", "commit": "c0ffee"}
    ]
    assert done.record["settings"]["rules"]["web"]["min_words"] == 50
    for file in done.record["files"]:
        assert sha256_of_file(Path("out") / file["name"]) == file["sha256"]
    assert re.fullmatch(r"[0-9a-f]{32}", done.fingerprint)


def test_a_kind_is_needed_and_must_be_known():
    with pytest.raises(ConfigError, match="what kind of text is pages"):
        parse_inputs(["pages"])
    with pytest.raises(ConfigError, match="did you mean 'books'"):
        parse_inputs(["pages"], "boks")
    with pytest.raises(ConfigError, match="unknown kind of source 'wbe'"):
        parse_inputs(["wbe=pages"])


def test_who_reads_the_folder_of_a_result_gets_the_text_that_stays_and_nothing_else(corpus):
    curate(["web"], "out", kind="web", config=CurateConfig(keep_rejects=True, part_bytes=9_000))
    texts = sorted(document.text for document in read_documents("out"))
    assert texts == sorted(row["text"] for row in kept_rows("out").values())
    removed = list(read_documents("out", ReadOptions(pattern="removed/*")))
    assert len(removed) == len(removed_rows("out"))


KEEPING = PersonalConfig(card="keep", email="keep", phone="keep")
PERSONAL = "Write to ann.miller@wide-river.org or call 202-555-0143 about card 4111 1111 1111 1111."


def test_personal_data_is_masked_in_what_stays_and_in_what_is_shown(corpus):
    write_jsonl(Path("pages/p.jsonl"), [good_prose(1)[0] + "\n\n" + PERSONAL, PERSONAL, PERSONAL * 9])
    done = curate(["pages"], "out", kind="web", config=KEEP_ALL)
    row = kept_rows("out")["pages", "p.jsonl:1"]
    assert row["text"].endswith("Write to [EMAIL] or call [PHONE] about card [CARD].")
    assert done.funnel.total.changes == {"email masked": 1, "phone masked": 1, "card masked": 1}
    for file in ("funnel.json", "report.html"):
        assert "wide-river" not in Path("out", file).read_text() and "[EMAIL]" in Path("out", file).read_text()


def test_personal_data_can_be_a_reason_to_go_or_stay_as_it_is(corpus):
    write_jsonl(Path("pages/p.jsonl"), [good_prose(1)[0] + "\n\n" + PERSONAL, good_prose(2)[1]])
    strict = replace(KEEP_ALL, personal=PersonalConfig(card="drop", email="keep"))
    done = curate(["pages"], "strict", kind="web", config=strict)
    assert not done.funnel.total.changes
    kept = curate(["pages"], "kept", kind="web", config=replace(KEEP_ALL, personal=KEEPING))
    assert kept.funnel.total.changes == {"email kept": 1, "phone kept": 1, "card kept": 1}
    assert {row["removed"]["rule"] for row in removed_rows("strict").values()} == {"personal.card"}
    curate(["pages"], "raw", kind="web", config=replace(KEEP_ALL, personal=None))
    assert kept_rows("raw")["pages", "p.jsonl:1"]["text"].endswith(PERSONAL)


def test_profanity_and_questions_of_benchmarks_are_reasons_to_go(corpus):
    good = good_prose(8)
    question = "If a hiker walks seven miles over the ridge and then turns back after the third bridge, where is she?"
    write_jsonl(Path("bench/quiz.jsonl"), [question])
    foul = good[7].replace("old", "fucking").replace("quiet", "shitty").replace("green", "asshole")
    write_jsonl(Path("pages/p.jsonl"), [*good[:5], f"{good[5]} {question} {good[6]}", foul])
    done = curate(["pages"], "out", kind="web", config=KEEP_ALL, benchmarks=["bench"])
    removed = {id: row["removed"] for (_, id), row in removed_rows("out").items()}
    assert removed.keys() == {"p.jsonl:6", "p.jsonl:7"} and removed["p.jsonl:7"]["rule"].startswith("profanity.")
    assert removed["p.jsonl:6"]["rule"].startswith("contamination.") and "quiz" in removed["p.jsonl:6"]["detail"]
    assert done.record["benchmarks"]["files"][0]["questions"] == 1
    with pytest.raises(DataError, match="other input or with other settings"):
        curate(["pages"], "out", kind="web", config=KEEP_ALL)


FRENCH = (
    "Le vieux jardin de la maison était plein de roses, et les enfants jouaient sous les arbres. "
    "Dans la cuisine, la grand-mère préparait le repas du soir avec des légumes du marché. "
    "Personne ne savait encore que le facteur apporterait une lettre de la capitale le lendemain. "
)
ADVERTISING = (
    "Online casino bonus: free spins and jackpot! Buy now, free shipping, limited time offer on replica watches. "
    "Sign up now for the casino, order now and get the best price, click here for cheap pills with free shipping. "
)


def test_other_languages_and_advertising_go_but_code_is_not_judged_by_them(corpus):
    write_jsonl(Path("pages/p.jsonl"), [*good_prose(3, kind="docs"), FRENCH, ADVERTISING])
    program = ["def résumé_de(texte):", "    # enlève les espaces au début et à la fin", "    return texte.strip()"] * 3
    write_jsonl(Path("src/c.jsonl"), ["\n".join(program)])
    curate(["pages", "code=src"], "out", kind="docs", config=KEEP_ALL)
    removed = {id: row["removed"]["rule"] for (_, id), row in removed_rows("out").items()}
    assert removed.pop("p.jsonl:4") == "language.not_english" and removed.pop("p.jsonl:5").startswith("spam.")
    assert not removed


def test_a_stage_can_be_left_out(corpus):
    write_jsonl(Path("pages/p.jsonl"), [FRENCH, ADVERTISING])
    left_out = replace(KEEP_ALL, language=None, spam=None, profanity=None)
    done = curate(["pages"], "out", kind="docs", config=left_out)
    rules = {rule.partition(".")[0] for rule in done.funnel.total.removed}
    assert done.funnel.total.written.documents and not rules & {"language", "spam"}
