"""Advertisements and lists of links go, articles about the same things stay."""

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mamba_slm.core.errors import ConfigError, UnknownNameError
from mamba_slm.data.curation.phrases.definition import find_longest, words_of
from mamba_slm.data.curation.spam.config import SpamConfig
from mamba_slm.data.curation.spam.judge import Spam, sections, spam_phrases

SHARED = Path(__file__).parents[4].parent / "shared" / "data"
needs_data = pytest.mark.skipif(not SHARED.is_dir(), reason="needs ../shared/data, which is not here")
PLAIN = "the house of the old man was in the village and it had a garden that they liked for the trees in it"
JUDGE = Spam()


def rule(text, judge=JUDGE):
    (removed,) = judge.removed([text])
    return removed and removed.rule


def filled(phrases, num_words):
    words = PLAIN.split()
    return " ".join([*(words[i % len(words)] for i in range(num_words)), *phrases])


def test_an_advertisement_goes_by_its_offers():
    text = (
        "Cheap shoes! Buy now, free shipping on all orders. Best prices, order online today. Click here for a discount "
        "code: limited time offer, satisfaction guaranteed. Shop now!"
    )
    assert rule(text) == "spam.offers"
    assert rule("Click here. " + filled([], 100)) is None


def test_an_article_about_a_topic_stays_and_one_that_sells_it_goes():
    article = filled(["casino"] * 6, 194)
    assert rule(article) is None
    assert rule(f"{article} Sign up now! Click here. Free trial.") == "spam.topic_with_offers"
    assert rule(filled(["casino"] * 8, 100)) == "spam.topic"
    assert rule(filled(["casino", "viagra", "escort", "backlink"] * 2, 100)) is None


def test_a_list_of_links_goes_and_documentation_may_have_more():
    links = ["https://www.example.org/a", "http://example.org"] * 12
    text = filled(links, 150)
    assert rule(text) == "spam.links"
    assert rule(text, Spam(None, "docs")) is None
    assert rule(filled(links, 0), Spam(None, "docs")) == "spam.links"
    assert rule(filled(links, 0), Spam(None, "code")) is None


def test_a_share_at_the_limit_stays_and_few_phrases_are_no_reason():
    judge = Spam(SpamConfig(max_offer_share=0.1, min_phrases=2))
    (removed,) = judge.removed([filled(["wholesale"] * 11, 89)])
    assert str(removed) == "spam.offers: 0.11, allowed is at most 0.1"
    assert rule(filled(["wholesale"] * 10, 90), judge) is None
    assert rule("wholesale", judge) is None and rule("wholesale clearance", judge) == "spam.offers"
    assert rule("", judge) is None


def test_what_was_counted_can_be_shown():
    assert JUDGE.measured("Online casino! Online casino, see https://www.x.y") == (
        "gambling: online casino 2; links: https www 1"
    )


PIECES = (
    "casino",
    "online",
    "Casino bonus",
    "buy",
    "Buy now",
    "free",
    "shipping",
    "https://www.",
    "the",
    "no",
    "deposit",
)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.lists(st.sampled_from(PIECES), max_size=30).map(" ".join), max_size=4))
def test_counts_are_those_of_the_definition_and_every_text_is_judged_alone(texts):
    counts, num_words = spam_phrases().counts(texts)
    for text, found, words in zip(texts, counts, num_words, strict=True):
        assert words == len(words_of(text))
        expected = np.zeros_like(found)
        for _, phrase in find_longest(words_of(text), spam_phrases().classes_of):
            expected[list(spam_phrases().classes_of[phrase])] += 1
        assert np.array_equal(found, expected)
    assert JUDGE.removed(texts) == [JUDGE.removed([text])[0] for text in texts]


def test_every_section_has_phrases_and_the_last_are_offers_and_links():
    assert len(sections()) == 11
    assert {classes for classes in spam_phrases().classes_of.values()} == {(number,) for number in range(11)}


def test_settings_that_cannot_work_are_refused():
    with pytest.raises(ConfigError, match="max_link_share"):
        SpamConfig(max_link_share=-1)
    with pytest.raises(ConfigError, match="min_phrases"):
        SpamConfig(min_phrases=0)
    with pytest.raises(UnknownNameError, match="kind of source"):
        SpamConfig.of("mail")  # type: ignore[arg-type]


@needs_data
def test_ordinary_documents_stay():
    corpora = SHARED / "corpora"
    crawl = []
    for path in sorted((corpora / "c4").glob("olmo*.json.gz")):
        crawl += [json.loads(line)["text"] for line in gzip.decompress(path.read_bytes()).splitlines()]
    found = [removed for removed in JUDGE.removed(crawl) if removed]
    assert 0 < len(found) <= 0.01 * len(crawl)  # three of 1,000 pages of C4 sell hosting, casinos and insurance
    wiki = (corpora / "wikitext-2" / "test.txt").read_text(encoding="utf-8").split("\n \n = ")
    assert not any(JUDGE.removed(wiki))
    books = [path.read_bytes().decode(errors="replace") for path in sorted((corpora / "gutenberg").glob("*"))[:12]]
    assert not any(Spam(None, "books").removed([book[at : at + 50_000] for book in books for at in (0, 100_000)]))
    guides = sorted((Path(__file__).parents[4] / "docs").rglob("*.md"))
    texts = [path.read_text(encoding="utf-8") for path in guides]
    assert sum(removed is not None for removed in Spam(None, "docs").removed(texts)) <= 0.02 * len(texts)
