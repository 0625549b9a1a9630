"""The few words that signals look for, compared by their core: no ASCII punctuation around it, in lower case.

Sources: stop words of Gopher (arXiv:2112.11446, A1.1); phrases of C4's cleaning (arXiv:1910.10683, 2.2, and its code),
here whole words inside one line instead of parts of words, so that "javascript-free" is not taken for "javascript".
"""

from __future__ import annotations

import string

STOP_WORDS = ("the", "be", "to", "of", "and", "that", "have", "with")

PHRASES: dict[str, tuple[tuple[str, ...], ...]] = {
    "javascript": (("javascript",),),
    "lorem_ipsum": (("lorem", "ipsum"),),
    "policy": (
        *(("terms", "of", "use"), ("privacy", "policy"), ("cookie", "policy")),
        *(("uses", "cookies"), ("use", "of", "cookies"), ("use", "cookies")),
    ),
}
"""Families of phrases: a line has a family when one of its phrases stands in it."""

PHRASE_WORDS = sorted({word for phrases in PHRASES.values() for phrase in phrases for word in phrase})
VOCABULARY = (*STOP_WORDS, *(word for word in PHRASE_WORDS if word not in STOP_WORDS))
"""All words with a number of their own: their place here, plus 1; 0 is every other word."""

MAX_CORE_BYTES = 16
MAX_PHRASE_WORDS = 3
assert max(map(len, VOCABULARY)) <= MAX_CORE_BYTES

PUNCTUATION = string.punctuation.encode()


def core_of(word: str) -> bytes:
    """A word without the ASCII punctuation around it, ASCII letters in lower case, in UTF-8.

    >>> core_of('"The'), core_of("don't!"), core_of("É.")
    (b'the', b"don't", b'\\xc3\\x89')
    """
    return word.encode(errors="surrogatepass").strip(PUNCTUATION).lower()
