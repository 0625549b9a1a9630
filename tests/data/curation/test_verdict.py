"""A reason says which rule, what was measured and what is allowed."""

from mamba_slm.data.curation.verdict import KINDS, Removed


def test_a_reason_names_rule_value_and_threshold():
    reason = Removed(rule="signals.max_link_share", value=0.7531, threshold=0.3, detail="at most")
    assert str(reason) == "signals.max_link_share: 0.7531, allowed is at most 0.3"


def test_a_reason_without_a_number_names_the_detail():
    assert str(Removed(rule="duplicates.exact", detail="of a.jsonl:3")) == "duplicates.exact: of a.jsonl:3"
    assert str(Removed(rule="language")) == "language"


def test_the_kinds_of_source_are_five():
    assert KINDS == ("web", "books", "code", "docs", "chat")
