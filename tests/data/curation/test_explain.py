import json
from dataclasses import replace
from pathlib import Path

import pytest

from data.curation.prose import good_prose, write_jsonl
from mamba_slm.core.errors import DataError
from mamba_slm.data.curation.config import CurateConfig, parse_inputs
from mamba_slm.data.curation.curate import DEFAULT_OPTIONS, curate
from mamba_slm.data.curation.explain import explain
from mamba_slm.data.curation.kinds import RulesOfKinds
from mamba_slm.data.curation.plan import plan_of
from mamba_slm.data.curation.signals.rules import WEB, RulesConfig


@pytest.fixture
def plan(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    good = good_prose(20)
    write_jsonl(Path("web/a.jsonl"), [*good, good[0], "\x1b[31mtoo short"])
    return plan_of(parse_inputs(["web"], "web"), CurateConfig(), DEFAULT_OPTIONS)


def test_a_document_that_breaks_a_rule_is_explained_with_every_limit(plan):
    found = explain(plan, "a.jsonl:22", None)
    assert found.verdict == "removed by signals.min_characters: 14, allowed is at least 100"
    text = str(found)
    assert "✗ characters 14 (at least 100)" in text and "✓ characters 14 (at most 1e+06)" in text
    assert "\x1b" not in text and "\\x1b[31mtoo short" in text


def test_before_the_run_only_what_a_document_shows_by_itself_is_known(plan):
    assert "depend on all documents: curate first" in explain(plan, "a.jsonl:1", Path("out")).verdict


def test_after_the_run_every_document_says_where_it_is_and_why(plan):
    done = curate(["web"], "out", kind="web")
    verdicts = [explain(plan, f"a.jsonl:{number}", Path("out")).verdict for number in range(1, 23)]
    assert (
        sum("and is in part-00000.jsonl.zst" in verdict for verdict in verdicts) == done.funnel.total.written.documents
    )
    assert sum("removed by quality.bottom: 0." in verdict for verdict in verdicts) == 6
    assert sum("removed by duplicates.exact: of a.jsonl:" in verdict for verdict in verdicts) == 1


def test_other_settings_can_be_tried_on_a_document_without_a_new_run(plan):
    curate(["web"], "out", kind="web")
    strict = replace(plan, config=replace(plan.config, rules=RulesOfKinds(web=replace(WEB, min_words=1000))))
    assert "removed by signals.min_words" in explain(strict, "a.jsonl:1", Path("out")).verdict
    lax = replace(plan, config=replace(plan.config, drop_share=0.0))
    assert "was made of other input or with other settings" in explain(lax, "a.jsonl:1", Path("out")).verdict


def test_the_part_of_a_book_can_be_asked_about(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("novel.txt").write_text("\n\n".join(good_prose(4)))
    rules = RulesOfKinds(books=replace(RulesConfig(**dict.fromkeys(WEB.limits)), max_characters=2000))
    plan = plan_of(parse_inputs(["books=novel.txt"]), CurateConfig(rules=rules), DEFAULT_OPTIONS)
    assert "passes every stage" in explain(plan, "novel.txt#2", None).verdict
    for unknown in ("novel.txt#9", "novel.txt#2#1", "other.txt"):
        with pytest.raises(DataError, match="no document"):
            explain(plan, unknown, None)


def test_an_explanation_is_json_too(plan):
    found = json.loads(json.dumps(explain(plan, "a.jsonl:1", None).to_dict()))
    assert found["id"] == "a.jsonl:1" and "signals" in found["stages"]
