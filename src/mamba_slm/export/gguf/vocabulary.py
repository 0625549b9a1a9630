"""A byte-level BPE tokenizer as GGUF's keys, with the pre-tokenizer named explicitly; and back.

llama.cpp cuts text before merging by rules that are compiled in, by name. A tokenizer is written only where one of them
is the same rule; a file with another one would load and tokenize wrongly without a word.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import tokenizers
from tokenizers import AddedToken, Regex, decoders, models, pre_tokenizers

from mamba_slm.core.errors import DataError
from mamba_slm.text.alphabet import ByteLevel
from mamba_slm.text.tokenizer import IM_END, Tokenizer

NORMAL, CONTROL, USER_DEFINED, UNUSED = 1, 3, 4, 5
"""llama.cpp's token types."""

LLAMA3_CUT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN2_CUT = LLAMA3_CUT.replace(r"\p{N}{1,3}", r"\p{N}")
GPT2_BYTES = ("ByteLevel", True)
BYTES = ("ByteLevel", False)

CUTS: dict[str, tuple[tuple[Any, ...], bool]] = {
    "llama-bpe": ((("Split", LLAMA3_CUT), BYTES), True),
    "dbrx": ((("Split", LLAMA3_CUT), BYTES), False),
    "qwen2": ((("Split", QWEN2_CUT), BYTES), False),
    "gpt-2": ((GPT2_BYTES,), False),
    "smollm": ((("Digits",), GPT2_BYTES), False),
}
"""`tokenizer.ggml.pre`: the steps that cut a text, and whether a piece in the vocabulary skips the merges.

Read in `llm_tokenizer_bpe` and `llama_vocab::impl::load` of llama.cpp at 0c1e57098.
"""
SUPPORTED = "Llama 3 (also every tokenizer of mamba-slm trained with --pre-tokenizer llama3), Qwen2, GPT-2, SmolLM"


@dataclass(frozen=True, kw_only=True)
class Vocabulary:
    """What a GGUF says about its tokenizer."""

    pre: str
    """Name of the pre-tokenizer, a key of `CUTS`."""
    tokens: tuple[str, ...]
    """One per row of the embedding."""
    types: tuple[int, ...]
    merges: tuple[str, ...]
    """Two tokens with a space between, in order of priority."""
    bos_id: int
    eos_id: int
    pad_id: int
    end_of_turn_id: int | None
    """ChatML's end of a message, where the tokenizer has it."""
    notes: tuple[str, ...] = ()
    """What a user should know: where the two tokenizers can differ."""


def vocabulary_of(tokenizer: Tokenizer, size: int) -> Vocabulary:
    """The vocabulary for an embedding of `size` rows; rows without a token get unused ones.

    Raises:
        DataError: llama.cpp has no equal pre-tokenizer, or the tokenizer does something that a GGUF cannot say.
    """
    if not isinstance(tokenizer.alphabet, ByteLevel):
        raise DataError(
            f"a GGUF of this program holds byte-level BPE tokenizers only, and this one is {tokenizer.alphabet.name}",
            hint="export the model for transformers or ONNX Runtime: mamba-slm export hf, mamba-slm export onnx",
        )
    description = json.loads(tokenizer.backend.to_str())
    model = description["model"]
    refuse_unsayable(description)
    pre = pre_tokenizer_of(description)
    added = {token["id"]: token for token in description["added_tokens"]}
    tokens, types = [], []
    for id in range(size):
        text = tokenizer.token_text(id)
        if text is None:
            tokens.append(f"[unused {id}]")
            types.append(UNUSED)
        else:
            tokens.append(text)
            types.append(NORMAL if id not in added else CONTROL if added[id]["special"] else USER_DEFINED)
    if len(set(tokens)) != size:
        raise DataError("two tokens of the tokenizer have the same text", hint="llama.cpp cannot tell them apart")
    return Vocabulary(
        pre=pre,
        tokens=tuple(tokens),
        types=tuple(types),
        merges=tuple(merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]),
        bos_id=tokenizer.bos_id,
        eos_id=tokenizer.eos_id,
        pad_id=tokenizer.pad_id,
        end_of_turn_id=tokenizer.first_id_of([IM_END]),
        notes=notes_about(description),
    )


def refuse_unsayable(description: Mapping[str, Any]) -> None:
    """Raise DataError where the tokenizer does more than cut, merge and look up."""
    model, normalizer = description["model"], description.get("normalizer")
    if not model["merges"]:
        raise DataError("the tokenizer has no merges, and llama.cpp loads none without", hint="train a larger one")
    for key in ("dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix", "byte_fallback"):
        if model.get(key):
            raise DataError(f"the tokenizer uses {key} = {model[key]!r}, which a GGUF cannot say")
    if normalizer is not None and normalizer["type"] != "NFC":
        raise DataError(f"the tokenizer normalises text with {normalizer['type']}, which llama.cpp does not")
    for token in description["added_tokens"]:
        strips = [flag for flag in ("lstrip", "rstrip", "single_word") if token[flag]]
        if strips and not token["special"]:
            raise DataError(f"the token {token['content']!r} has {strips[0]}, which a GGUF cannot say")


def notes_about(description: Mapping[str, Any]) -> tuple[str, ...]:
    """Differences that a text must have something special to show."""
    if description.get("normalizer") is None:
        return ()
    return ("the tokenizer composes characters first (NFC) and llama.cpp does not: other text is tokenized otherwise",)


def pre_tokenizer_of(description: Mapping[str, Any]) -> str:
    """The name of llama.cpp's equal of the pre-tokenizer.

    Raises:
        DataError: there is none; shows what the tokenizer does and what is supported.
    """
    steps = tuple(steps_of(description.get("pre_tokenizer")))
    ignore_merges = bool(description["model"].get("ignore_merges"))
    for name, rule in CUTS.items():
        if rule == (steps, ignore_merges):
            return name
    shown = json.dumps(description.get("pre_tokenizer"))
    raise DataError(
        f"llama.cpp has no pre-tokenizer that cuts text like this tokenizer's: {shown[:300]}",
        hint=f"supported: {SUPPORTED}; train one with: mamba-slm data train-tokenizer --pre-tokenizer llama3",
    )


def steps_of(pre_tokenizer: Mapping[str, Any] | None) -> list[tuple[Any, ...]]:
    """The steps of a pre-tokenizer in a form that can be compared."""
    if pre_tokenizer is None:
        return []
    kind = pre_tokenizer["type"]
    if kind == "Sequence":
        return [step for inner in pre_tokenizer["pretokenizers"] for step in steps_of(inner)]
    plain_split = pre_tokenizer.get("behavior") == "Isolated" and not pre_tokenizer.get("invert")
    if kind == "Split" and plain_split and "Regex" in pre_tokenizer["pattern"]:
        return [("Split", pre_tokenizer["pattern"]["Regex"])]
    if kind == "ByteLevel" and not pre_tokenizer["add_prefix_space"]:
        return [("ByteLevel", pre_tokenizer.get("use_regex", True))]
    if kind == "Digits" and pre_tokenizer["individual_digits"]:
        return [("Digits",)]
    return [(kind, json.dumps(pre_tokenizer, sort_keys=True))]


def tokenizer_from_keys(given: Mapping[str, Any]) -> Tokenizer | None:
    """The tokenizer behind the keys of a file; None where it is none that we know.

    Special tokens that are not among our names for begin and end are told by the ids in the keys.
    """
    pre, tokens = given.get("tokenizer.ggml.pre"), given.get("tokenizer.ggml.tokens")
    if given.get("tokenizer.ggml.model") != "gpt2" or pre not in CUTS or tokens is None:
        return None
    steps, ignore_merges = CUTS[pre]
    types = given.get("tokenizer.ggml.token_type", [NORMAL] * len(tokens))
    merges = [tuple(merge.split(" ", 1)) for merge in given.get("tokenizer.ggml.merges", [])]
    vocab = {text: id for id, (text, type) in enumerate(zip(tokens, types, strict=True)) if type != UNUSED}
    backend = tokenizers.Tokenizer(models.BPE(vocab=vocab, merges=merges, ignore_merges=ignore_merges))
    backend.pre_tokenizer = pre_tokenizers.Sequence([step_named(step) for step in steps])
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens([AddedToken(text, special=True) for text in of_type(tokens, types, CONTROL)])
    backend.add_tokens([AddedToken(text, normalized=False) for text in of_type(tokens, types, USER_DEFINED)])
    try:
        return Tokenizer(backend)
    except DataError:  # none of the names we know ends a document; logits can be compared without a tokenizer
        return None


def of_type(tokens: list[str], types: list[int], type: int) -> list[str]:
    """The tokens of one type."""
    return [text for text, found in zip(tokens, types, strict=True) if found == type]


def step_named(step: tuple[Any, ...]) -> Any:
    """A step of `CUTS` as the `tokenizers` library makes it."""
    if step[0] == "Split":
        return pre_tokenizers.Split(Regex(step[1]), "isolated")
    if step[0] == "Digits":
        return pre_tokenizers.Digits(individual_digits=True)
    return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=step[1])
