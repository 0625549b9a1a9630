"""tiktoken's files: one line per token, its bytes in base64 and its rank.

    IQ== 0
    Ig== 1

The file says neither how text is cut before merging nor what the special tokens are; both belong to the encoding, which
is known by the SHA-256 of the file. Source: tiktoken 0.14, `tiktoken_ext/openai_public.py`.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

import tokenizers
from tokenizers import Regex, decoders, models, pre_tokenizers

from mamba_slm.core.errors import DataError
from mamba_slm.text.alphabet import letter_of_byte
from mamba_slm.text.vocabularies.special import with_special_tokens

FIRST_LINE = re.compile(rb"[A-Za-z0-9+/]+=* \d+\r?\n")
END_OF_TEXT = "<|endoftext|>"
FILL_IN = ("<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>")

GPT2_CUT = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
# tiktoken writes these patterns with possessive quantifiers, which Oniguruma reads as something else after {1,3}. They
# only keep the engine from backtracking: what is matched is the same, as the tests compare.
CL100K_CUT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
O200K_CUT = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


@dataclass(frozen=True, kw_only=True)
class Encoding:
    """What a file of ranks does not say."""

    name: str
    """As tiktoken calls it."""

    cut: str
    """How text is cut before merging, for Oniguruma."""

    special_tokens: dict[str, int]
    """Ids by name."""


ENCODINGS: dict[str, Encoding] = {
    "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7": Encoding(
        name="cl100k_base",
        cut=CL100K_CUT,
        special_tokens={END_OF_TEXT: 100257, **dict(zip(FILL_IN, range(100258, 100261), strict=True))}
        | {"<|endofprompt|>": 100276},
    ),
    "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d": Encoding(
        name="o200k_base", cut=O200K_CUT, special_tokens={END_OF_TEXT: 199999, "<|endofprompt|>": 200018}
    ),
    "306cd27f03c1a714eca7108e03d66b7dc042abe8c258b44c199a7ed9838dd930": Encoding(
        name="r50k_base", cut=GPT2_CUT, special_tokens={END_OF_TEXT: 50256}
    ),
    "94b5ca7dff4d00767bc256fdd1b27e5b17361d7b8a5f968547f9f23eb70d2069": Encoding(
        name="p50k_base", cut=GPT2_CUT, special_tokens={END_OF_TEXT: 50256}
    ),
}
"""By the SHA-256 of the file of ranks."""


def is_tiktoken(content: bytes) -> bool:
    """Whether a file begins as tiktoken's do."""
    return FIRST_LINE.match(content) is not None


def read_tiktoken(file: Path) -> tokenizers.Tokenizer:
    """The tokenizer of a .tiktoken file.

    Raises:
        DataError: a damaged file, or ranks whose way of cutting text is not known.
    """
    content = file.read_bytes()
    ranks = parse_ranks(content, file)
    encoding = ENCODINGS.get(hashlib.sha256(content).hexdigest())
    if encoding is None:
        known = ", ".join(encoding.name for encoding in ENCODINGS.values())
        raise DataError(
            f"{file} holds {len(ranks)} ranks of no known encoding ({known}), and does not say how it cuts text",
            hint="use the tokenizer.json of the same model: it says both, and is on the model's page",
        )
    return tokenizer_of_ranks(ranks, encoding)


def parse_ranks(content: bytes, file: Path) -> dict[bytes, int]:
    """Rank of each token.

    Raises:
        DataError: a line that is not a token in base64 and a number; names it.
    """
    ranks: dict[bytes, int] = {}
    for number, line in enumerate(content.splitlines(), start=1):
        if not line.strip():
            continue
        token, _, rank = line.partition(b" ")
        try:
            ranks[base64.b64decode(token, validate=True)] = int(rank)
        except (ValueError, binascii.Error) as error:
            raise DataError(f"{file}:{number} is no token with its rank", hint="copy the file again") from error
    return ranks


def tokenizer_of_ranks(ranks: dict[bytes, int], encoding: Encoding) -> tokenizers.Tokenizer:
    """The same tokenizer with merges in place of ranks.

    tiktoken joins whatever two neighbours make the token of the lowest rank; so every way to make a token of two others
    becomes a merge, in the order of the ranks. A piece that is a token as a whole is not merged at all in both.
    """
    letters = letter_of_byte()
    entries = {token: "".join([letters[byte] for byte in token]) for token in ranks}
    merges: list[tuple[str, str]] = []
    for token in sorted(ranks, key=ranks.__getitem__):
        halves = [(token[:place], token[place:]) for place in range(1, len(token))]
        ways = [(left, right) for left, right in halves if left in ranks and right in ranks]
        ways.sort(key=lambda way: (ranks[way[0]], ranks[way[1]]))
        merges += [(entries[left], entries[right]) for left, right in ways]
    used = {*ranks.values(), *encoding.special_tokens.values()}
    special = {f"<|reserved_{id}|>": id for id in range(max(used)) if id not in used} | encoding.special_tokens
    # The special tokens stand in the vocabulary, too, or the library would number them itself. No piece of text is
    # ever equal to one, for the patterns cut between letters and other characters.
    vocab = {entries[token]: rank for token, rank in ranks.items()} | special
    backend = tokenizers.Tokenizer(models.BPE(vocab=vocab, merges=merges, ignore_merges=True))
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(encoding.cut), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    backend.decoder = decoders.ByteLevel()
    return with_special_tokens(backend, special, begin=END_OF_TEXT)
