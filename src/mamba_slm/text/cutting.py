"""Cut a long text where no token reaches across, so that the pieces' tokens are the text's.

Where that is depends on how the tokenizer cuts text itself before it merges. Every pattern of `KNOWN_CUTS` ends a token
after the last letter of a word, before a character that is no letter: on from there it looks only at what follows. So a
text may be cut between a letter and a character that is neither letter nor apostrophe (which may belong to the word, as
in "don't"), of those that no Unicode normal form joins. Between a line end and a letter after it, every byte-level
pattern that is known cuts. sentencepiece has no pattern; there, a vocabulary in which no entry reaches from a word into
the space after it joins nothing across that place.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from mamba_slm.text.alphabet import SPACE_MARK, ByteFallback, parts_of, steps_of
from mamba_slm.text.tokenizer import Tokenizer
from mamba_slm.text.train_tokenizer import PRE_TOKENIZERS
from mamba_slm.text.vocabularies.sentencepiece_model import WORDS
from mamba_slm.text.vocabularies.tiktoken_ranks import CL100K_CUT, GPT2_CUT, O200K_CUT

PIECE_CHARACTERS = 1 << 18
LINE_END = re.compile(r"(?<=[^\s]\n)(?=[A-Za-z])")
WORD_END = re.compile(r"(?<=[A-Za-z])(?=[\t-\r !-&(-/:-@\[-`{-~0-9])|(?<=[A-Za-z一-鿿])(?=[，。、；：？！])")
WORD_SPACE = re.compile(r"(?<=[A-Za-z]) (?=[A-Za-z])")
NOWHERE = re.compile(r"(?!)")
KNOWN_CUTS = frozenset({*PRE_TOKENIZERS.values(), CL100K_CUT, GPT2_CUT, O200K_CUT})


class Cutter:
    """Cuts texts for one tokenizer."""

    def __init__(self, tokenizer: Tokenizer):
        parts = parts_of(tokenizer.backend)
        self.place = LINE_END
        if isinstance(tokenizer.alphabet, ByteFallback):
            # Encoding puts back the space that is cut away, where it puts one before every text and no token joins
            # a word with the space after it.
            apart = bool(tokenizer.alphabet.prefix) and words_are_apart(tokenizer, parts)
            self.place = WORD_SPACE if apart else NOWHERE
        elif ends_words(parts):
            self.place = WORD_END

    def cut(self, text: str, piece_characters: int = PIECE_CHARACTERS) -> list[str]:
        """Pieces of about this length; a text without a place to cut stays whole."""
        pieces, start = [], 0
        while len(text) - start > piece_characters:
            found = self.place.search(text, start + piece_characters)
            if found is None:
                break
            pieces.append(text[start : found.start()])
            start = found.end()
        pieces.append(text[start:])
        return pieces


def ends_words(parts: Mapping[str, Any]) -> bool:
    """Whether the tokenizer cuts text by a pattern that is known."""
    steps = steps_of(parts["pre_tokenizer"], "pretokenizers")
    if not steps or steps[-1]["type"] != "ByteLevel" or steps[-1]["add_prefix_space"]:
        return False
    if any(step["type"] != "NFC" for step in steps_of(parts["normalizer"], "normalizers")):
        return False
    if len(steps) == 1:
        return bool(steps[0].get("use_regex", True))  # GPT-2's pattern is built in
    first = steps[0]
    return (
        len(steps) == 2
        and first["type"] == "Split"
        and first["behavior"] == "Isolated"
        and not first["invert"]
        and first["pattern"].get("Regex") in KNOWN_CUTS
    )


def words_are_apart(tokenizer: Tokenizer, parts: Mapping[str, Any]) -> bool:
    """Whether text is merged as it is or cut at spaces only, and no entry holds a space after another character."""
    steps = steps_of(parts["pre_tokenizer"], "pretokenizers")
    cuts_at_spaces = all(step["type"] == "Split" and step["pattern"].get("Regex") == WORDS for step in steps)
    entries = tokenizer.backend.get_vocab(with_added_tokens=False)
    return cuts_at_spaces and not any(SPACE_MARK in entry.lstrip(SPACE_MARK) for entry in entries)
