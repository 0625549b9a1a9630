"""The tokens that two versions of a model are compared on: random ones, and real text where there is a tokenizer."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

TEXT = """\
A lake is a body of water that is surrounded by land. Most lakes are fed and drained by rivers, and the water in them \
moves slowly; some have no outlet at all, and become salt as the water leaves them only into the air.

def mean(values: list[float]) -> float:
    \"\"\"The arithmetic mean; raises ValueError for an empty list.\"\"\"
    if not values:
        raise ValueError("mean of nothing")
    return sum(values) / len(values)

| year | people | area (km²) |
|------|-------:|-----------:|
| 1871 |  1,204 |       18.5 |
| 1925 |  9,870 |       21.0 |

"Où est la gare ?" demanda-t-elle. — Там, за мостом. 駅はあそこです。
It's 10:45 already, isn't it? We'll be 3.5 % too late… 🚂
https://example.org/a_b?c=1&d=%20  \t<b>tabs</b>  and   spaces\r\n
"""
"""Prose, code, a table, several scripts, numbers, quotes and odd spaces: what tokenizers disagree about."""
NUM_RANDOM = 2
SEED = 20


def random_sequences(vocab_size: int, num_tokens: int, *, count: int = NUM_RANDOM, seed: int = SEED) -> list[list[int]]:
    """`count` sequences of `num_tokens` tokens, drawn evenly from the vocabulary."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, vocab_size, (count, num_tokens), generator=generator).tolist()


def text_sequences(
    encode: Callable[[str], list[int] | None], num_tokens: int, *, text: str = TEXT, count: int = 1
) -> list[list[int]]:
    """The first `count` pieces of `num_tokens` tokens of a text; the last may be shorter, none is below 2 tokens."""
    ids: Sequence[int] = encode(text) or []
    pieces = [list(ids[start : start + num_tokens]) for start in range(0, len(ids), num_tokens)]
    return [piece for piece in pieces[:count] if len(piece) > 1]


def probe_sequences(
    vocab_size: int,
    encode: Callable[[str], list[int] | None] | None = None,
    *,
    num_tokens: int = 64,
    max_tokens: int | None = None,
    text: str = TEXT,
) -> list[list[int]]:
    """Random tokens and, with `encode`, real text; none is longer than `max_tokens`."""
    length = num_tokens if max_tokens is None else min(num_tokens, max_tokens)
    found = random_sequences(vocab_size, length)
    return found if encode is None else [*found, *text_sequences(encode, length, text=text)]
