import json

from mamba_slm.data.curation.funnel import Funnel
from mamba_slm.data.curation.tally import Tally
from mamba_slm.data.curation.verdict import Removed


def funnel():
    """Two kinds; 10 documents of 410 bytes each, of which 3 go."""
    web, code = Tally(), Tally()
    for number in range(8):
        web.count_read(410)
        if number < 2:
            removed = Removed(rule=("duplicates.near", "signals.min_words")[number])
            web.count_removed(removed, id=f"w{number}", source="web", text="x", num_bytes=410)
        else:
            web.count_written(400)
            web.cleaned_bytes += 10
    web.changes["e-mail"] = 7
    for _ in range(2):
        code.count_read(410)
    code.count_written(410)
    code.count_removed(Removed(rule="signals.min_words"), id="c1", source="src", text="y", num_bytes=410)
    code.unread["not readable"] = 1
    code.problems.append("src/a.py is not utf-8")
    return Funnel(kinds={"code": code, "web": web}, quarantined=("big.jsonl[5:9]: killed",))


def test_rules_come_in_the_order_of_the_stages_with_the_sums_of_all_kinds():
    rows = funnel().rows()
    assert [(row.rule, row.amount.documents) for row in rows] == [("signals.min_words", 2), ("duplicates.near", 1)]
    assert {example.id for example in rows[0].examples} == {"w1", "c1"}


def test_the_table_says_what_went_in_what_each_rule_removed_and_what_came_out():
    lines = str(funnel()).splitlines()
    assert lines[0].split() == ["documents", "tokens", "of", "all"]
    assert lines[1].split() == ["read", "10", "1.00k", "100.0%"]
    assert lines[2].split()[:5] == ["-", "signals.min_words", "2", "200", "20.0%"]
    assert lines[4].split()[:7] == ["-", "taken", "out", "of", "documents", "that", "stay"]
    assert lines[4].endswith("1.5%  7 e-mail")
    assert lines[5].split() == ["=", "written", "7", "685", "70.0%"]
    assert "not counted: 1 not readable" in lines and "  src/a.py is not utf-8" in lines
    assert "left out after all attempts failed: big.jsonl[5:9]: killed" in lines


def test_a_funnel_survives_json():
    assert Funnel.from_dict(json.loads(json.dumps(funnel().to_dict()))) == funnel()


def test_an_empty_funnel_is_a_table_too():
    assert "= written" in str(Funnel(kinds={}))
