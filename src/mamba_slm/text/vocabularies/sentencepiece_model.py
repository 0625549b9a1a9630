"""sentencepiece's `.model`: pieces with scores, and how text is written before it is cut into them.

The pairs of a BPE model are joined in the order of the scores of what they make, which merges can say exactly. Without
byte fallback a character outside the vocabulary is lost, and with a normalizer (most Unigram models have NFKC) many
are replaced: such models are refused, for what is trained on could not be read back.

Source: sentencepiece 0.2.1, `sentencepiece_model.proto`, `bpe_model.cc`, `normalizer.cc`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import tokenizers
from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers

from mamba_slm.core.errors import DataError
from mamba_slm.text.alphabet import SPACE_MARK, has_all_bytes
from mamba_slm.text.vocabularies.protobuf import fields_of, float_of
from mamba_slm.text.vocabularies.special import with_special_tokens

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)
UNIGRAM, BPE = 1, 2
WORDS = f"{SPACE_MARK}*[^{SPACE_MARK}]+|{SPACE_MARK}+"


@dataclass(kw_only=True)
class Model:
    """What the file says."""

    pieces: list[tuple[str, float, int]] = field(default_factory=list)
    """Text, score and type of each id."""

    algorithm: int = UNIGRAM
    """UNIGRAM or BPE."""

    character_map: bytes = b""
    """Compiled replacements of characters; empty for none."""

    adds_prefix: bool = True
    """Whether a space is put before every text."""

    removes_spaces: bool = True
    """Whether runs of spaces become one, and those at the ends none."""

    marks_spaces: bool = True
    """Whether a space is written as U+2581."""

    suffix_spaces: bool = False
    """Whether a space belongs to the word before it."""


def is_sentencepiece(content: bytes) -> bool:
    """Whether a file begins as a model does: with a first piece (field 1, of bytes) that has a text (field 1, too)."""
    return len(content) > 2 and content[0] == content[2] == 0x0A


def read_sentencepiece(file: Path) -> tokenizers.Tokenizer:
    """The tokenizer of a .model file.

    Raises:
        DataError: a damaged file, or a model that loses text; says what gets lost.
    """
    try:
        model = parse_model(file.read_bytes())
    except (ValueError, TypeError) as error:
        raise DataError(f"{file} is not a sentencepiece model: {error}", hint="copy the file again") from error
    if lost := what_is_lost(model):
        raise DataError(
            f"{file} cannot be used: {lost}",
            hint="use a vocabulary that keeps every text: Llama's and Mistral's do, and every byte-level BPE",
        )
    return tokenizer_of_model(model)


def parse_model(content: bytes) -> Model:
    """Read the message `ModelProto`."""
    model = Model()
    for number, value in fields_of(content):
        if not isinstance(value, bytes):
            continue
        if number == 1:
            found = dict(fields_of(value))
            model.pieces.append((text_of(found[1]), score_of(found.get(2)), int(found.get(3, NORMAL))))
        elif number == 2:  # TrainerSpec
            trainer = dict(fields_of(value))
            model.algorithm = int(trainer.get(3, UNIGRAM))
            model.suffix_spaces = bool(trainer.get(24, 0))
        elif number == 3:  # NormalizerSpec
            normalizer = dict(fields_of(value))
            character_map = normalizer.get(2, b"")
            model.character_map = character_map if isinstance(character_map, bytes) else b""
            model.adds_prefix = bool(normalizer.get(3, 1))
            model.removes_spaces = bool(normalizer.get(4, 1))
            model.marks_spaces = bool(normalizer.get(5, 1))
    if not model.pieces:
        raise ValueError("it has no pieces")
    return model


def text_of(value: int | bytes) -> str:
    """A field of text."""
    if isinstance(value, int):
        raise ValueError("the text of a piece is a number")
    return value.decode()


def score_of(value: int | bytes | None) -> float:
    """A field of 32 bits."""
    return float_of(value) if isinstance(value, bytes) else 0.0


def what_is_lost(model: Model) -> str | None:
    """Why a text would not survive encoding, or None."""
    if model.algorithm != BPE:
        return "it is a Unigram model, and only BPE models are read exactly"
    if model.character_map:
        return "it replaces characters by others (its normalizer has a character map)"
    if model.removes_spaces:
        return "it removes spaces that are more than one"
    if not model.marks_spaces or model.suffix_spaces:
        return "it writes spaces in a way that is not known here"
    if not has_all_bytes({text: id for id, (text, _, type) in enumerate(model.pieces) if type == BYTE}):
        return "it has no byte fallback, so that characters outside its vocabulary get lost"
    return None


def tokenizer_of_model(model: Model) -> tokenizers.Tokenizer:
    """The same tokenizer as the `tokenizers` library describes it."""
    vocab = {text: id for id, (text, _, _) in enumerate(model.pieces)}
    unknown = next((text for text, _, type in model.pieces if type == UNKNOWN), None)
    merges = list(merges_of(model))
    backend = tokenizers.Tokenizer(
        models.BPE(vocab=vocab, merges=merges, unk_token=unknown, fuse_unk=True, byte_fallback=True)
    )
    steps: list[normalizers.Normalizer] = [normalizers.Prepend(SPACE_MARK)] if model.adds_prefix else []
    backend.normalizer = normalizers.Sequence([*steps, normalizers.Replace(" ", SPACE_MARK)])
    if not any(SPACE_MARK in text.lstrip(SPACE_MARK) for text, _, type in model.pieces if type == NORMAL):
        # No token reaches from a word into the space after it: words may be merged one by one, which is faster.
        backend.pre_tokenizer = pre_tokenizers.Split(Regex(WORDS), "isolated")
    strip = [decoders.Strip(content=" ", left=1, right=0)] if model.adds_prefix else []
    backend.decoder = decoders.Sequence(
        [decoders.Replace(SPACE_MARK, " "), decoders.ByteFallback(), decoders.Fuse(), *strip]
    )
    special = {text: id for id, (text, _, type) in enumerate(model.pieces) if type in (UNKNOWN, CONTROL)}
    return with_special_tokens(backend, special, begin="<s>" if "<s>" in special else None)


def merges_of(model: Model) -> Iterator[tuple[str, str]]:
    """Every way to make a piece of two others, in the order in which sentencepiece would join them."""
    ids = {text: id for id, (text, _, type) in enumerate(model.pieces) if type in (NORMAL, USER_DEFINED)}
    by_score = sorted(ids, key=lambda text: (-model.pieces[ids[text]][1], ids[text]))
    for text in by_score:
        halves = ((text[:place], text[place:]) for place in range(1, len(text)))
        ways = [(left, right) for left, right in halves if left in ids and right in ids]
        yield from sorted(ways, key=lambda way: (ids[way[0]], ids[way[1]]))
