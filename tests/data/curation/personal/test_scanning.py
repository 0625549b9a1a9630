"""Hyperscan and `re` lead to the same data, on any text; the choice says its reason."""

import logging
import random
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.curation.personal.cases import MADE, secret
from data.curation.personal.lookalikes import NOT_MADE
from mamba_slm.core import optional
from mamba_slm.core.errors import MissingDependencyError
from mamba_slm.data.curation.personal import scanning
from mamba_slm.data.curation.personal.clean import PersonalData
from mamba_slm.data.curation.personal.config import PersonalConfig
from mamba_slm.data.curation.personal.find import find_spans
from mamba_slm.data.curation.personal.scanning import scan_function, scan_with_re
from mamba_slm.data.curation.personal.triggers import WIDE_SEPARATORS

pytest.importorskip("hyperscan", reason="hyperscan exists for Linux on x86-64 only")
scan_fast = scanning.scan_with_hyperscan()

PIECES = (
    *(" ", "  ", "\n", "\t", "\0", "\x7f", "é", "中", "🙂", "\ud800", "ſ", "\u212a", "٣", *WIDE_SEPARATORS),
    *(
        "0",
        "12",
        "555",
        "1234",
        "0187",
        "4111",
        "00",
        "+1",
        "+44",
        "(",
        ")",
        "-",
        ".",
        "/",
        ":",
        "::",
        "@",
        "=",
        "x",
        "_",
    ),
    *(
        "a",
        "ann",
        "org",
        "GB82",
        "WEST",
        "de89",
        "2606",
        "fe80",
        "81.2.69.142",
        "AKIA",
        "sk-",
        "eyJ",
        "password",
        "token",
    ),
    *(
        "Password=",
        '"',
        "'",
        "Bearer ",
        "-----BEGIN PRIVATE KEY-----",
        "-----END PRIVATE KEY-----",
        "://",
        "ssn ",
        "phone ",
    ),
)
pieces = st.lists(st.sampled_from(PIECES), max_size=40).map("".join)
made = st.builds(
    lambda kind, seed, before, after: before + MADE[kind](random.Random(seed)) + after,
    *(st.sampled_from(sorted(MADE)), st.integers(0, 10**6), pieces, pieces),
)
unlike = st.builds(
    lambda kind, seed: NOT_MADE[kind](random.Random(seed)), st.sampled_from(sorted(NOT_MADE)), st.integers(0, 999)
)
hostile = st.one_of(pieces, made, unlike, st.text(st.characters(), max_size=100))


def found_by(scan, texts):
    hits = scan(texts)
    return [find_spans(text, hits.get(number, {})) for number, text in enumerate(texts)]


def assert_same(*texts):
    found = found_by(scan_fast, texts)
    assert found == found_by(scan_with_re, texts), texts
    return found


@settings(max_examples=400, deadline=None)
@given(st.lists(hostile, max_size=4))
def test_both_engines_find_the_same_spans_in_any_texts(texts):
    assert_same(*texts)


@settings(max_examples=200, deadline=None)
@given(st.lists(hostile, max_size=5))
def test_texts_that_are_scanned_together_are_judged_alone(texts):
    assert found_by(scan_fast, texts) == [found_by(scan_fast, [text])[0] for text in texts]


def test_both_engines_find_the_same_secrets():
    generator = random.Random(3)
    for _ in range(300):
        assert_same(f"x{secret(generator)[0]}\n{secret(generator)[0]}")


def test_a_match_may_end_with_the_text():
    for text in ("call 212-555-0187", "81.2.69.142", "ann@site.org", "2606:4700::6810:85e5", "DE89370400440532013000"):
        assert all(assert_same(text, text))


def test_places_are_counted_in_characters_not_in_bytes():
    text = "é中🙂 " * 50 + "212-555-0187"
    ((span,),) = assert_same(text)
    assert text[span.start : span.end] == "212-555-0187"


def test_threads_may_share_what_was_compiled():
    text = "call 212-555-0187, or 81.2.69.142 " * 200
    expected = found_by(scan_fast, [text])
    found = []
    threads = [threading.Thread(target=lambda: found.append(found_by(scan_fast, [text]))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [expected] * 4


def test_without_hyperscan_the_standard_library_finds_the_same_and_says_so(monkeypatch, caplog):
    def absent(module, *, extra, purpose):
        raise MissingDependencyError(f"{purpose} needs {module}")

    text = "Write to ann@site.org or call 212-555-0187."
    expected = PersonalData(PersonalConfig()).clean([text])
    monkeypatch.setattr(scanning, "require", absent)
    scan_function.cache_clear()
    try:
        with caplog.at_level(logging.WARNING):
            assert PersonalData(PersonalConfig()).clean([text]) == expected
            PersonalData(PersonalConfig())
        (record,) = caplog.records
        assert record.getMessage().startswith("personal data=re (finding personal data fast needs hyperscan)")
    finally:
        scan_function.cache_clear()
    assert optional.require is not absent
