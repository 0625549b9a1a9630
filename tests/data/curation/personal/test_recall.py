"""What is promised of finding: recall per kind, few false alarms, on made-up data and on published sets."""

import gzip
import json
import random
from pathlib import Path

import pytest

from data.curation.personal.cases import MADE, framed, named_phone, secret
from data.curation.personal.lookalikes import NOT_MADE
from mamba_slm.data.curation.personal.clean import PersonalData
from mamba_slm.data.curation.personal.config import PersonalConfig

SHARED = Path(__file__).parents[5] / "shared" / "data"
PUBLISHED = SHARED / "curation" / "pii"
needs_data = pytest.mark.skipif(not PUBLISHED.is_dir(), reason="needs ../shared/data, which is not here")

TIMES = 300
LEAST_RECALL, MOST_FALSE = 0.95, 0.02
NAMED = ("Phone: {}", "Please call me at {} tomorrow", "Fax {}", "my number is {}.", "mobile:\n{}", "{} office")
KINDS = {
    "EMAIL_ADDRESS": "email",
    "PHONE_NUMBER": "phone",
    "CREDIT_CARD": "card",
    "IBAN_CODE": "iban",
    "US_SSN": "ssn",
    "IP_ADDRESS": "ip",
}


@pytest.fixture(scope="module")
def personal():
    return PersonalData(PersonalConfig())


def found_exactly(personal, text, start, datum, kind):
    spans = personal.spans(text)
    return any((span.kind, span.start, span.end) == (kind, start, start + len(datum)) for span in spans)


@pytest.mark.parametrize("kind", MADE)
def test_data_of_every_form_is_found_from_its_first_to_its_last_character(personal, kind):
    generator = random.Random(kind)
    found = 0
    for _ in range(TIMES):
        datum = MADE[kind](generator)
        text, start = framed(generator, datum)
        found += found_exactly(personal, text, start, datum, kind)
    assert found >= LEAST_RECALL * TIMES


def test_assigned_secrets_are_found_without_the_names_and_quotes_around_them(personal):
    generator = random.Random(7)
    found = 0
    for _ in range(TIMES):
        written, value = secret(generator)
        text, start = framed(generator, written)
        found += found_exactly(personal, text, start + written.index(value), value, "secret")
    assert found >= LEAST_RECALL * TIMES


def test_phones_of_weak_form_are_found_beside_a_word_that_names_them_and_only_there(personal):
    generator = random.Random(8)
    found = alone = 0
    for _ in range(TIMES):
        datum = named_phone(generator)
        before, after = generator.choice(NAMED).split("{}")
        found += found_exactly(personal, before + datum + after, len(before), datum, "phone")
        alone += bool(personal.spans(f"there were {datum} of them"))
    assert found >= LEAST_RECALL * TIMES
    assert alone <= MOST_FALSE * TIMES


@pytest.mark.parametrize("kind", NOT_MADE)
def test_what_only_looks_like_a_datum_is_left_alone(personal, kind):
    generator = random.Random(kind)
    texts = [framed(generator, NOT_MADE[kind](generator))[0] for _ in range(TIMES)]
    false = [text for text in texts if personal.spans(text)]
    assert len(false) <= MOST_FALSE * TIMES, false


@needs_data
@pytest.mark.parametrize("kind", KINDS.values())
def test_the_marked_spans_of_presidio_research_are_found(personal, kind):
    marked = found = 0
    for name in ("synth_dataset_v2.json", "generated_small.json"):
        for record in json.loads((PUBLISHED / name).read_text(encoding="utf-8")):
            spans = [span for span in personal.spans(record["full_text"]) if span.kind == kind]
            for truth in record["spans"]:
                if KINDS.get(truth["entity_type"]) == kind:
                    start, end = truth["start_position"], truth["end_position"]
                    marked += 1
                    found += any(span.start <= start and end <= span.end for span in spans)
    assert marked >= 16
    assert found >= LEAST_RECALL * marked


@needs_data
def test_what_presidio_research_marks_as_something_else_or_not_at_all_stays(personal):
    false = sentences = 0
    for record in json.loads((PUBLISHED / "synth_dataset_v2.json").read_text(encoding="utf-8")):
        marked = [(span["start_position"], span["end_position"]) for span in record["spans"] if personal_kind(span)]
        spans = personal.spans(record["full_text"])
        sentences += 1
        false += any(all(span.end <= start or end <= span.start for start, end in marked) for span in spans)
    assert false <= MOST_FALSE * sentences


def personal_kind(span):
    return KINDS.get(span["entity_type"])


@needs_data
def test_the_demonstration_of_presidio_is_masked_and_its_private_address_stays(personal):
    cleaned = personal.clean([(PUBLISHED / "presidio_demo.txt").read_text(encoding="utf-8")])[0]
    assert cleaned.found == {"email": 2, "phone": 1, "card": 1, "iban": 1, "ssn": 1}
    assert "192.168.0.1" in cleaned.text and "191280342" in cleaned.text
    assert "(212) 555-1234" not in cleaned.text and "4095-2609-9393-4932" not in cleaned.text


@needs_data
def test_the_documents_of_dolma_lose_the_addresses_that_it_is_sure_of(personal):
    texts = lines(PUBLISHED / "dolma_provided_documents_000.json.gz")
    expected = lines(PUBLISHED / "dolma_expected_email-spans.json.gz")
    seen = 0
    for document, truth in zip(texts, expected, strict=True):
        found = {(span.start, span.end) for span in personal.spans(document["text"]) if span.kind == "email"}
        marks = truth["attributes"].get("pii", {}).get("email", [])
        sure = {(start, end) for start, end, score in marks if score >= 0.8}
        assert sure <= found
        seen += len(sure)
    assert seen >= 3


def lines(path):
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


@needs_data
def test_in_books_and_stories_only_their_publishers_addresses_are_found(personal):
    """Project Gutenberg prints its own address and phone number below each book."""
    characters = 0
    for path in sorted((SHARED / "corpora" / "gutenberg").rglob("*.txt"))[:12]:
        text = path.read_bytes().decode(errors="replace")
        characters += len(text)
        found = {text[span.start : span.end] for span in personal.spans(text)}
        foreign = {datum for datum in found if not datum.endswith("pglaf.org") and datum != "(801) 596-1887"}
        assert not foreign, path
    assert characters > 1_000_000
