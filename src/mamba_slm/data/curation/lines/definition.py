"""The definition, slow and plain: the fast ways equal it.

A line is what stands between two "\\n". Two lines are the same if they have the same words in the same order
(`phrases/definition.py`), so that case, accents and punctuation do not count. A line of at least `min_words` words that
stands in more than `max_documents` documents, however often in each, is boilerplate, and is taken out of every one of
them. Nothing depends on the order of documents. A paragraph of which nothing stays goes with the blank lines behind it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence

from mamba_slm.data.curation.duplicates.definition import GOLDEN, MASK, mix, random_words, word_hash
from mamba_slm.data.curation.lines.config import LinesConfig
from mamba_slm.data.curation.phrases.definition import Phrase, words_of
from mamba_slm.data.curation.signals.repeats import paragraphs_and_gaps

(LENGTH_SEED,) = random_words(7, 1)


def key_of(line: str, config: LinesConfig) -> Phrase | None:
    """What a line is known by; None for one that is too short.

    >>> key_of("  We use COOKIES, friend! ", LinesConfig())
    ('we', 'use', 'cookies', 'friend')
    """
    words = tuple(words_of(line))
    return words if len(words) >= config.min_words else None


def boilerplate_of(texts: Iterable[str], config: LinesConfig) -> set[Phrase]:
    """The lines that stand in too many documents.

    >>> boilerplate_of(["We use cookies here"] * 6, LinesConfig())
    {('we', 'use', 'cookies', 'here')}
    """
    documents: Counter[Phrase] = Counter()
    for text in texts:
        documents.update({key for line in text.split("\n") if (key := key_of(line, config)) is not None})
    return {key for key, count in documents.items() if count > config.max_documents}


def without(text: str, boilerplate: Collection[Phrase], config: LinesConfig) -> str:
    """The text without boilerplate; the same object where there is none.

    >>> without("We use cookies here\\n\\nA text.", {("we", "use", "cookies", "here")}, LinesConfig())
    'A text.'
    """
    lines = text.split("\n")
    return without_lines(text, [key_of(line, config) in boilerplate for line in lines])


def without_lines(text: str, goes: Sequence[bool]) -> str:
    """The text without some of its lines, and without the paragraphs of which none stays.

    Args:
        goes: for each line, blank ones too, whether it is taken out.
    """
    if not any(goes):
        return text
    kept: list[str] = []
    number = 0
    for lines, blank_lines in paragraphs_and_gaps(text):
        stay = [line for line, one_goes in zip(lines, goes[number : number + len(lines)], strict=True) if not one_goes]
        number += len(lines) + len(blank_lines)
        if stay or not lines:
            kept += stay + blank_lines
    return "\n".join(kept)


def line_hash(hashes: Sequence[int]) -> int:
    """64 bits of the word hashes of a line in their order, and of their number."""
    total = sum(mix(value + place * GOLDEN & MASK) for place, value in enumerate(hashes, start=1)) & MASK
    return mix(total ^ mix(len(hashes) + LENGTH_SEED & MASK))


def hash_of(line: Sequence[str]) -> int:
    """`line_hash` of words."""
    return line_hash([word_hash(word) for word in line])
