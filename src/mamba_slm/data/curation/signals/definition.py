"""The signals of Gopher, C4 and FineWeb, as integers, in plain Python: the definition that `signals.cpp` equals.

    word        a longest run of characters that are not white space (Python's `str.split`)
    line        what stands between two "\\n", without the white space around it; blank lines do not count
    paragraph   lines without a blank line between them, from the first one's first to the last one's last character
    character   a Unicode code point

Only counts are measured; shares are quotients of two of them (`ratios.py`), so that they are equal everywhere to the
last bit. Sources: Gopher, arXiv:2112.11446, A1.1; C4, arXiv:1910.10683, 2.2; FineWeb, arXiv:2406.17557, 3.6.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable
from dataclasses import dataclass, fields
from itertools import groupby

from mamba_slm.data.curation.signals.characters import (
    ALPHABETIC,
    BULLET,
    CLOSER,
    DASH,
    DIGIT,
    SENTENCE_END,
    UPPER,
    has_class,
)
from mamba_slm.data.curation.signals.ngrams import duplicate_ngram_characters, top_ngram_characters
from mamba_slm.data.curation.signals.vocabulary import PHRASES, STOP_WORDS, core_of

STOP_CORES = frozenset(word.encode() for word in STOP_WORDS)
RUN_CHARACTERS = 5
SHORT_LINE_CHARACTERS = 30
FEW_WORDS = 5


@dataclass(frozen=True, kw_only=True)
class Signals:
    """Counts of one text. The fields are the columns of the matrix, in this order."""

    characters: int = 0
    """Code points, white space included."""

    word_characters: int = 0
    """Code points in words."""

    words: int = 0
    """Words."""

    distinct_words: int = 0
    """Different words, as they stand."""

    alphabetic_words: int = 0
    """Words with at least one letter (Gopher)."""

    stop_words: int = 0
    """Words whose core is one of the eight stop words."""

    distinct_stop_words: int = 0
    """How many of the eight stop words occur (Gopher wants two)."""

    sentences: int = 0
    """Words that end a sentence: before closing quotes and brackets stands `.`, `!`, `?` or a relative (C4)."""

    alphabetic_characters: int = 0
    """Letters."""

    digit_characters: int = 0
    """Decimal digits."""

    upper_characters: int = 0
    """Letters in upper case."""

    hash_marks: int = 0
    """`#` (Gopher's first symbol)."""

    ellipses: int = 0
    """`...` and `…` (Gopher's second)."""

    curly_brackets: int = 0
    """`{` and `}` (C4)."""

    run_characters: int = 0
    """Characters in runs of five and more equal ones."""

    longest_run: int = 0
    """Length of the longest run of equal characters inside a word."""

    link_words: int = 0
    """Words with `://` inside or a core that begins with `www.`."""

    link_characters: int = 0
    """Characters in those."""

    newlines: int = 0
    """`\\n` (FineWeb compares them with the words: lists have many)."""

    lines: int = 0
    """Lines that are not blank."""

    line_characters: int = 0
    """Characters in them."""

    longest_line: int = 0
    """Characters of the longest line (StarCoder, arXiv:2305.06161, 3.1)."""

    duplicate_lines: int = 0
    """Lines equal to an earlier one (Gopher, FineWeb)."""

    duplicate_line_characters: int = 0
    """Characters in those."""

    bullet_lines: int = 0
    """Lines that begin with a bullet, or with a dash, `*` or `+` standing alone (Gopher)."""

    ellipsis_lines: int = 0
    """Lines that end with an ellipsis (Gopher)."""

    terminal_lines: int = 0
    """Lines whose last word ends a sentence (C4, FineWeb)."""

    short_lines: int = 0
    """Lines of at most 30 characters (FineWeb)."""

    few_word_lines: int = 0
    """Lines of fewer than 5 words (C4)."""

    javascript_lines: int = 0
    """Lines with the word JavaScript (C4)."""

    lorem_ipsum_lines: int = 0
    """Lines with "lorem ipsum" (C4)."""

    policy_lines: int = 0
    """Lines with "terms of use", "privacy policy", "uses cookies" and the like (C4)."""

    paragraphs: int = 0
    """Paragraphs."""

    paragraph_characters: int = 0
    """Characters in them, line ends included."""

    duplicate_paragraphs: int = 0
    """Paragraphs equal to an earlier one (Gopher)."""

    duplicate_paragraph_characters: int = 0
    """Characters in those."""

    top_2gram_characters: int = 0
    """Characters in words covered by the most frequent pair of words (Gopher); `ngrams.py` defines all of these."""

    top_3gram_characters: int = 0
    """The same for three words."""

    top_4gram_characters: int = 0
    """The same for four words."""

    duplicate_5gram_characters: int = 0
    """Characters in words covered by runs of five words equal to an earlier run (Gopher)."""

    duplicate_6gram_characters: int = 0
    """The same for six words."""

    duplicate_7gram_characters: int = 0
    """The same for seven words."""

    duplicate_8gram_characters: int = 0
    """The same for eight words."""

    duplicate_9gram_characters: int = 0
    """The same for nine words."""

    duplicate_10gram_characters: int = 0
    """The same for ten words."""


NAMES = tuple(field.name for field in fields(Signals))
COLUMN = {name: column for column, name in enumerate(NAMES)}


def measure(text: str) -> Signals:
    """All signals of a text. Half a megabyte per second; `native.measure_texts` gives the same numbers fast."""
    words = text.split()
    times = Counter(words)
    characters = Counter(text)
    cores = {word: core_of(word) for word in times}
    lines = [stripped for line in text.split("\n") if (stripped := line.strip())]
    blocks = paragraphs_of(text)
    runs = {word: list(run_lengths(word)) for word in times}
    links = [word for word in words if "://" in word or cores[word].startswith(b"www.")]
    stop_words = Counter(cores[word] for word in words if cores[word] in STOP_CORES)
    line_cores = [[cores[word] for word in line.split()] for line in lines]
    return Signals(
        characters=len(text),
        word_characters=sum(map(len, words)),
        words=len(words),
        distinct_words=len(set(words)),
        alphabetic_words=sum(n for word, n in times.items() if any(has_class(c, ALPHABETIC) for c in word)),
        stop_words=stop_words.total(),
        distinct_stop_words=len(stop_words),
        sentences=sum(n for word, n in times.items() if ends_sentence(word)),
        alphabetic_characters=sum(n for c, n in characters.items() if has_class(c, ALPHABETIC)),
        digit_characters=sum(n for c, n in characters.items() if has_class(c, DIGIT)),
        upper_characters=sum(n for c, n in characters.items() if has_class(c, UPPER)),
        hash_marks=text.count("#"),
        ellipses=text.count("...") + text.count("…"),
        curly_brackets=text.count("{") + text.count("}"),
        run_characters=sum(length for word in words for length in runs[word] if length >= RUN_CHARACTERS),
        longest_run=max(map(max, runs.values()), default=0),
        link_words=len(links),
        link_characters=sum(map(len, links)),
        newlines=text.count("\n"),
        lines=len(lines),
        line_characters=sum(map(len, lines)),
        longest_line=max(map(len, lines), default=0),
        duplicate_lines=len(repeated(lines)),
        duplicate_line_characters=sum(map(len, repeated(lines))),
        bullet_lines=sum(map(has_bullet, lines)),
        ellipsis_lines=sum(line.endswith(("...", "…")) for line in lines),
        terminal_lines=sum(ends_sentence(line) for line in lines),
        short_lines=sum(len(line) <= SHORT_LINE_CHARACTERS for line in lines),
        few_word_lines=sum(len(of_line) < FEW_WORDS for of_line in line_cores),
        javascript_lines=sum(has_phrase(of_line, "javascript") for of_line in line_cores),
        lorem_ipsum_lines=sum(has_phrase(of_line, "lorem_ipsum") for of_line in line_cores),
        policy_lines=sum(has_phrase(of_line, "policy") for of_line in line_cores),
        paragraphs=len(blocks),
        paragraph_characters=sum(map(len, blocks)),
        duplicate_paragraphs=len(repeated(blocks)),
        duplicate_paragraph_characters=sum(map(len, repeated(blocks))),
        top_2gram_characters=top_ngram_characters(words, 2),
        top_3gram_characters=top_ngram_characters(words, 3),
        top_4gram_characters=top_ngram_characters(words, 4),
        duplicate_5gram_characters=duplicate_ngram_characters(words, 5),
        duplicate_6gram_characters=duplicate_ngram_characters(words, 6),
        duplicate_7gram_characters=duplicate_ngram_characters(words, 7),
        duplicate_8gram_characters=duplicate_ngram_characters(words, 8),
        duplicate_9gram_characters=duplicate_ngram_characters(words, 9),
        duplicate_10gram_characters=duplicate_ngram_characters(words, 10),
    )


def paragraphs_of(text: str) -> list[str]:
    """The paragraphs: groups of lines that are not blank, without the white space around the group."""
    groups = groupby(text.split("\n"), key=lambda line: bool(line.strip()))
    return ["\n".join(group).strip() for is_text, group in groups if is_text]


def run_lengths(word: str) -> Iterable[int]:
    """Lengths of the longest runs of equal characters: "aabb" has 2, 2."""
    return (sum(1 for _ in group) for _, group in groupby(word))


def repeated(items: list[str]) -> list[str]:
    """The items that are equal to an earlier one."""
    seen: set[Hashable] = set()
    return [item for item in items if item in seen or seen.add(item)]


def ends_sentence(text: str) -> bool:
    """Whether the last character that does not close a quote or a bracket ends a sentence."""
    last = next((c for c in reversed(text) if not has_class(c, CLOSER)), "")
    return bool(last) and has_class(last, SENTENCE_END)


def has_bullet(line: str) -> bool:
    """Whether a line is an item of a list."""
    first = line.split()[0]
    return has_class(first[0], BULLET) or (len(first) == 1 and has_class(first, DASH))


def has_phrase(cores: list[bytes], family: str) -> bool:
    """Whether the cores of a line's words contain a phrase of the family."""
    return any(
        tuple(cores[place : place + len(phrase)]) == tuple(word.encode() for word in phrase)
        for phrase in PHRASES[family]
        for place in range(len(cores))
    )
