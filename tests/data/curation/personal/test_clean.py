"""Masking, dropping, keeping; what is outside the spans never changes."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.curation.personal.cases import MADE, framed
from mamba_slm.core.errors import ConfigError
from mamba_slm.data.curation.personal.clean import PersonalData
from mamba_slm.data.curation.personal.config import PersonalConfig
from mamba_slm.data.curation.personal.span import DATA, Span, without_overlaps

BOTH = "Write to ann@site.org or call (212) 555-0187 today."


def test_each_datum_is_replaced_by_its_kind_and_counted():
    (cleaned,) = PersonalData(PersonalConfig()).clean([BOTH])
    assert cleaned.text == "Write to [EMAIL] or call [PHONE] today."
    assert cleaned.found == {"email": 1, "phone": 1}
    assert cleaned.removed is None


def test_a_kind_that_drops_removes_the_document_with_its_rule_and_count():
    personal = PersonalData(PersonalConfig(ssn="drop"))
    twice, other = personal.clean(["SSN 408-53-4272 and 219-44-1234", BOTH])
    assert twice.removed is not None and twice.removed.rule == "personal.ssn"
    assert str(twice.removed) == "personal.ssn: 2, allowed is at most 0"
    assert other.removed is None


def test_a_kind_that_is_kept_stays_in_the_text_and_is_counted():
    (cleaned,) = PersonalData(PersonalConfig(email="keep")).clean([BOTH])
    assert cleaned.text == "Write to ann@site.org or call [PHONE] today."
    assert cleaned.found == {"email": 1, "phone": 1}


def test_a_kept_card_is_not_masked_as_the_phone_that_its_digits_may_be():
    (cleaned,) = PersonalData(PersonalConfig(card="keep")).clean(["Phone or card: 4111 1111 1111 1111"])
    assert cleaned.text == "Phone or card: 4111 1111 1111 1111"
    assert cleaned.found == {"card": 1}


def test_texts_without_personal_data_are_returned_as_they_are():
    texts = ["", "\0", "In 1998 there were 12,345,678 of them.", "\ud800", "a @ b"]
    assert [cleaned.text for cleaned in PersonalData(PersonalConfig()).clean(texts)] == texts


def test_each_text_is_judged_alone():
    personal = PersonalData(PersonalConfig())
    texts = [BOTH, "ssn", "408534272", "SSN 408 53 4272", "-----BEGIN PRIVATE KEY-----", BOTH]
    assert personal.clean(texts) == [personal.clean([text])[0] for text in texts]


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(sorted(MADE)), st.integers(0, 10**6)), max_size=5),
    st.lists(st.text(max_size=20), min_size=6, max_size=6),
)
def test_what_is_outside_the_spans_is_unchanged(data, between):
    generator = random.Random(0)
    text = between[0] + "".join(
        framed(generator, MADE[kind](random.Random(seed)))[0] + rest
        for (kind, seed), rest in zip(data, between[1:], strict=False)
    )
    personal = PersonalData(PersonalConfig())
    (cleaned,), spans = personal.clean([text]), personal.spans(text)
    pieces, done = [], 0
    for span in spans:
        assert done <= span.start < span.end <= len(text)
        pieces += [text[done : span.start], f"[{span.kind.upper()}]"]
        done = span.end
    assert cleaned.text == "".join([*pieces, text[done:]])
    assert cleaned.found == {kind: n for kind in DATA if (n := sum(span.kind == kind for span in spans))}


def test_cleaning_what_was_cleaned_finds_nothing_more():
    personal = PersonalData(PersonalConfig())
    generator = random.Random(5)
    texts = [framed(generator, MADE[kind](generator))[0] for kind in MADE for _ in range(30)]
    texts += ['password = "Tr0ub4dor&3"', "postgres://app:q7Lw99zz@db.site.org/shop"]
    once = [cleaned.text for cleaned in personal.clean(texts)]
    assert [cleaned.text for cleaned in personal.clean(once)] == once


def test_of_overlapping_spans_the_stronger_kind_stays_whatever_their_order():
    spans = [Span(0, 9, "phone"), Span(2, 18, "card"), Span(17, 30, "phone"), Span(30, 34, "ip"), Span(31, 33, "ip")]
    for _ in range(10):
        random.Random(_).shuffle(spans)
        assert without_overlaps(spans) == [Span(2, 18, "card"), Span(30, 34, "ip")]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"email": "hide"}, "email must be mask, drop or keep, got 'hide'"),
        ({"mask": "user@site.org"}, "mask 'user@site.org' has a digit or an @"),
        ({"mask": "[{kind} 1]"}, "has a digit"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings, message):
    with pytest.raises(ConfigError, match=message.replace("[", r"\[")):
        PersonalConfig(**settings)


def test_the_mask_may_be_any_words():
    (cleaned,) = PersonalData(PersonalConfig(mask="|||{kind}|||")).clean([BOTH])
    assert cleaned.text == "Write to |||EMAIL||| or call |||PHONE||| today."


HOSTILE = (
    *(
        "1",
        "@",
        "a@",
        "a@b.",
        "1 ",
        "+1",
        "-",
        " ",
        ":",
        "1:",
        "1.",
        "(2",
        "eyJ-",
        "GB82 ",
        "password=",
        "://a:b@",
        "0 ",
    ),
    *("-----BEGIN PRIVATE KEY-----", "4111 1111 1111 1111 ", "a.b@c.org,", "\0", "中", "AKIA", "token: 'a1b2", "2606:"),
)


@pytest.mark.parametrize("piece", HOSTILE)
def test_a_long_text_of_one_repetition_ends(piece):
    """The test's time limit would stop what grows with the square of a text: 400,000 characters."""
    text = piece * (400_000 // len(piece))
    (cleaned,) = PersonalData(PersonalConfig()).clean([text])
    assert cleaned.removed is None
