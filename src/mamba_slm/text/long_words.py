"""Words of megabytes, such as Chinese without punctuation or one letter a million times, merged window by window.

Merging takes more than linear time and much memory for one piece of text. Two facts about byte pair encoding allow to
look at a window at a time: what stands between two token borders of an encoding is encoded the same way alone; and
tokens of which every two neighbours are encoded as these two are the encoding of their text, for the first merge across
a border would be one of its two neighbours alone, too. So a window that begins at a token border of the one before it,
and with the token that goes on there, continues it: any two neighbours were neighbours in a window.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable

import numpy as np

from mamba_slm.text.alphabet import ByteLevel, parts_of, steps_of
from mamba_slm.text.cutting import ends_words
from mamba_slm.text.tokenizer import Tokenizer
from mamba_slm.text.vocabularies.tiktoken_ranks import O200K_CUT

LONG_WORD = 1 << 17
WINDOW_BYTES = 1 << 16
OVERLAP_BYTES = 1 << 12


class LongWords:
    """Finds and encodes them, for tokenizers that keep letters together whatever they are."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        *,
        long_word: int = LONG_WORD,
        window_bytes: int = WINDOW_BYTES,
        overlap_bytes: int = OVERLAP_BYTES,
    ):
        """
        Args:
            long_word: letters in a row from which on it is worth it.
            window_bytes: merged at once.
            overlap_bytes: what the end of a window could still change lies within them.
        """
        self.tokenizer = tokenizer
        self.word = re.compile(rf"[^\W\d_]{{{long_word},}}")
        self.window_bytes, self.overlap_bytes = window_bytes, overlap_bytes
        parts = parts_of(tokenizer.backend)
        self.composes = parts["normalizer"] is not None
        patterns = [step.get("pattern") for step in steps_of(parts["pre_tokenizer"], "pretokenizers")]
        added = tokenizer.backend.get_added_tokens_decoder().values()
        self.is_possible = (
            isinstance(tokenizer.alphabet, ByteLevel)
            and ends_words(parts)
            and {"Regex": O200K_CUT} not in patterns  # which cuts between small and capital letters
            and not any(token.content.isalpha() for token in added if not token.special)
        )

    def encode(self, text: str, encode: Callable[[str], np.ndarray]) -> np.ndarray | None:
        """Ids of a text with such words in it; None for any other, or where windows do not fit together.

        Args:
            text: any.
            encode: ids of a short text.
        """
        words = [found.span() for found in self.word.finditer(text) if found[0].isalpha()] if self.is_possible else []
        if not words or (self.composes and not unicodedata.is_normalized("NFC", text)):
            return None
        found, start = [], 0
        for begin, end in words:  # a token ends where a word does
            ids = self.encode_word(text[start:begin].encode(), text[begin:end].encode(), encode)
            if ids is None:
                return None
            found.append(ids)
            start = end
        return np.concatenate([*found, encode(text[start:])])

    def encode_word(self, before: bytes, word: bytes, encode: Callable[[str], np.ndarray]) -> np.ndarray | None:
        """Ids of a word and the text before it, whose last character may belong to the word's first token."""
        text = before + word
        start, least = 0, len(before) + 1
        expected: int | None = None
        found = []
        while True:
            end = character_border(text, max(start, least) + self.window_bytes)
            ids = encode(text[start:end].decode())
            if expected is not None and ids[0] != expected:
                return None
            if end == len(text):
                return np.concatenate([*found, ids])
            ends = start + np.cumsum(self.lengths[ids])
            last = int(np.searchsorted(ends, end - self.overlap_bytes, side="right")) - 1
            while last >= 0 and character_border(text, int(ends[last])) != ends[last]:
                last -= 1
            if last < 0 or ends[last] < max(start + 1, least):
                return None
            found.append(ids[: last + 1])
            start, expected = int(ends[last]), int(ids[last + 1])

    @property
    def lengths(self) -> np.ndarray:
        """Bytes of each token."""
        if not hasattr(self, "known_lengths"):
            self.known_lengths = np.asarray(self.tokenizer.token_byte_lengths())
        return self.known_lengths


def character_border(text: bytes, place: int) -> int:
    """The last place at or before this one where a character of UTF-8 begins, or the end.

    >>> character_border("aé".encode(), 2), character_border(b"ab", 9)
    (1, 2)
    """
    if place >= len(text):
        return len(text)
    while place and text[place] & 0xC0 == 0x80:
        place -= 1
    return place
