"""Profanity is judged by density, in the language that a text is written in; ordinary text stays."""

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mamba_slm.core.errors import ConfigError, UnknownNameError
from mamba_slm.data.curation.phrases.definition import MAX_PHRASE_WORDS, words_of
from mamba_slm.data.curation.profanity.config import ProfanityConfig
from mamba_slm.data.curation.profanity.judge import Profanity
from mamba_slm.data.curation.profanity.lexicon import FOLDER, LANGUAGES, TIERS, entries_of, lexicon_of

SHARED = Path(__file__).parents[4].parent / "shared" / "data"
needs_data = pytest.mark.skipif(not SHARED.is_dir(), reason="needs ../shared/data, which is not here")
PLAIN = "the house of the old man was in the village and it had a garden that they liked for the trees in it"
JUDGE = Profanity()


def rule(text, judge=JUDGE):
    (removed,) = judge.removed([text])
    return removed and removed.rule


def repeated(text, num_words):
    words = text.split()
    return [words[i % len(words)] for i in range(num_words)]


def test_there_are_lists_of_25_languages_with_every_tier_and_no_contradiction():
    assert len(LANGUAGES) == 25 == len(list(FOLDER.glob("*.txt")))
    for language in LANGUAGES:
        entries = entries_of(language)
        assert all(entries.values()), language
        assert len(entries["function"]) >= 15
        assert sum(map(len, entries.values())) >= 150
        bad = entries["mild"] | entries["strong"] | entries["severe"]
        assert not entries["function"] & bad, language
        assert max(map(len, bad)) <= MAX_PHRASE_WORDS
        assert () not in bad


def test_one_strong_word_in_an_ordinary_text_is_no_reason_and_a_text_full_of_them_is():
    words = repeated(PLAIN, 300)
    assert rule(" ".join(words)) is None
    assert rule(" ".join([*words, "fuck"])) is None
    assert rule(" ".join([*words, "Fuck!", "SHIT", "Bullshit."])) == "profanity.strong"


def test_a_share_at_the_limit_stays_and_above_it_goes():
    judge = Profanity(ProfanityConfig(max_strong_share=0.01, min_strong=1))
    at_the_limit = [*repeated(PLAIN, 297), *["shit"] * 3]
    assert rule(" ".join(at_the_limit), judge) is None
    (removed,) = judge.removed([" ".join([*at_the_limit[1:], "shit"])])
    assert str(removed) == "profanity.strong: 0.0133333, allowed is at most 0.01"
    assert rule("shit", judge) == "profanity.strong"
    assert rule("shit", Profanity(ProfanityConfig(min_strong=2, min_any=2))) is None


def test_severe_words_weigh_more_and_mild_ones_less():
    words = repeated(PLAIN, 400)
    assert rule(" ".join([*words, "kike", "kikes"])) == "profanity.severe"
    assert rule(" ".join([*words, *["damn"] * 5])) is None
    assert rule(" ".join([*words, *["damn"] * 10])) == "profanity.any"


def test_a_novel_may_say_more_than_a_page_of_the_web():
    text = " ".join([*repeated(PLAIN, 1000), *["nigger"] * 3])
    assert rule(text) == "profanity.severe"
    assert rule(text, Profanity(None, "books")) is None


@pytest.mark.parametrize(
    "text",
    [
        "Vi kom till slut fram, och det var slut på fart och fart, sade han, för att det är så det slutar. slut fart",
        "Der Hund ist nicht dick, und das Buch ist auch dick, aber wenn er dick ist, ist die Katze nicht dick.",
        "Cum laude and cum grano salis were written in the book for them; it is said that she was a tit of a bird.",
        "The retarded potential and the retarded Green function are used in the theory of the field, and they are old.",
        "len strip god guido sex: a list of words that are in all of the ordinary documents, from which it was made",
        "The gay and lesbian, Jewish and black people of the town, and the queer and trans people, met in the hall.",
        "The penis, the vagina, the breast and the rectum are parts of the body, and sex is how it is that we breed.",
    ],
)
def test_what_means_something_else_or_nobody_any_harm_stays(text):
    assert rule(text) is None


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_language_has_its_own_words_judged(language):
    entries = {tier: [" ".join(phrase) for phrase in sorted(found)] for tier, found in entries_of(language).items()}
    plain = repeated(" ".join(entries["function"]), 200)
    assert rule(" ".join(plain)) is None
    strong = entries["strong"][:: max(1, len(entries["strong"]) // 12)]
    assert rule(" ".join([*plain, *strong])) in ("profanity.strong", "profanity.severe")
    assert rule(" ".join([*plain * 5, *entries["severe"][:12]])) in ("profanity.severe", "profanity.strong")


PIECES = (
    "the",
    "and",
    "och",
    "att",
    "det",
    "fuck",
    "Fücks",
    "slut",
    "son",
    "of a bitch",
    "kuk",
    "damn",
    "漢",
    "的",
    "操你妈",
)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.lists(st.sampled_from(PIECES), max_size=30).map(" ".join), max_size=4))
def test_counts_are_those_of_the_definition(texts):
    counts, num_words = JUDGE.counts(texts)
    for text, found, words in zip(texts, counts, num_words, strict=True):
        assert words == len(words_of(text))
        expected = np.zeros_like(found)
        for name, phrases in JUDGE.found(text).items():
            language, tier = name.split(".")
            expected[LANGUAGES.index(language), TIERS.index(tier)] = phrases.total()
        assert np.array_equal(found, expected)
    assert JUDGE.removed(texts) == [JUDGE.removed([text])[0] for text in texts]


def test_only_the_languages_asked_for_are_looked_for():
    swedish = Profanity(ProfanityConfig(languages=("sv",)))
    text = " ".join([*repeated("och att det som inte har", 100), *["kuk"] * 5])
    assert rule(text, swedish) == "profanity.strong"
    assert rule(text, Profanity(ProfanityConfig(languages=("en",)))) is None
    assert lexicon_of(("sv",)).num_classes == 4
    assert rule("anything at all", Profanity(ProfanityConfig(languages=()))) is None


def test_settings_that_cannot_work_are_refused():
    with pytest.raises(UnknownNameError, match="unknown language 'english'"):
        ProfanityConfig(languages=("english",))
    with pytest.raises(ConfigError, match="max_any_share"):
        ProfanityConfig(max_any_share=2)
    with pytest.raises(UnknownNameError, match="kind of source"):
        ProfanityConfig.of("webs")  # type: ignore[arg-type]


def ordinary_texts():
    """Name, kind and texts of corpora that nobody would call profane."""
    corpora = SHARED / "corpora"
    for path in sorted((corpora / "gutenberg").glob("*.txt")):
        text = path.read_bytes().decode(errors="replace")
        yield path.name, "books", [text[start : start + 100_000] for start in range(0, len(text), 100_000)]
    crawl = []
    for path in sorted((corpora / "c4").glob("olmo*.json.gz")):
        crawl += [json.loads(line)["text"] for line in gzip.decompress(path.read_bytes()).splitlines()]
    yield "c4", "web", crawl
    wiki = (corpora / "wikitext-2" / "test.txt").read_text(encoding="utf-8").split("\n \n = ")
    yield "wikitext", "web", wiki
    stories = (corpora / "tinystories" / "mini_gpt_tinystories.txt").read_text(encoding="utf-8")
    yield "stories", "books", [stories[start : start + 2000] for start in range(0, len(stories), 2000)]
    library = sorted(Path(json.__file__).parents[1].glob("*.py"))
    yield "code", "code", [path.read_text(encoding="utf-8", errors="replace") for path in library]
    guides = sorted((Path(__file__).parents[4] / "docs").rglob("*.md"))
    yield "docs", "docs", [path.read_text(encoding="utf-8") for path in guides]
    for path in sorted((SHARED / "curation" / "langid").glob("*.txt")):
        lines = path.read_text(encoding="utf-8").splitlines()
        yield path.name, "web", ["\n".join(lines[start : start + 10]) for start in range(0, len(lines), 10)]


@needs_data
def test_of_ordinary_documents_at_most_two_in_a_hundred_are_flagged_in_any_corpus():
    every = []
    for name, kind, texts in ordinary_texts():
        found = [removed for removed in Profanity(None, kind).removed(texts) if removed]
        every += found
        assert len(found) <= 0.02 * len(texts), (name, len(texts), found[:5])
    assert len(every) < 20


@needs_data
def test_most_of_what_another_projects_lists_have_is_found():
    """The rest of those lists are words that mean other things too (martillo, torneira), or name bodies and people."""
    found = listed = 0
    for path in sorted((SHARED / "curation" / "badwords").glob("*")):
        if path.name in LANGUAGES:
            words = [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
            counts = JUDGE.counts(words)[0][:, LANGUAGES.index(path.name), 1:].sum(axis=1)
            found, listed = found + int((counts > 0).sum()), listed + len(words)
    assert listed > 2000 and found / listed >= 0.5
