"""Rows of equal length from parts of documents, with their borders kept.

A part is n + 1 tokens in a row of one document: n inputs, each with the token after it as its target.

    parts               A A A | B B B B            a row of 6 places
    inputs              A A B B B B                "-" is -100: nothing is to be predicted here
    targets             A A B B B -                the last place is filled up with the token before it
    document ids        0 0 1 1 1 2
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from mamba_slm.core.errors import ConfigError

NO_TARGET = -100


@dataclass(frozen=True, kw_only=True)
class Row:
    """One row of a batch."""

    inputs: np.ndarray
    """[t] int64 token ids."""

    targets: np.ndarray
    """[t] int64: the token after each input, or `NO_TARGET` where that belongs to another document."""

    document_ids: np.ndarray
    """[t] int32: 0 for the first document of the row, 1 for the second, …"""


def row_of_parts(parts: Iterable[np.ndarray], context_tokens: int) -> Row:
    """Lay parts side by side; what stays empty has no targets and a document id of its own.

    Args:
        parts: [n + 1] token ids each; together at most `context_tokens` inputs, and at least one.
    """
    inputs = np.empty(context_tokens, dtype=np.int64)
    targets = np.full(context_tokens, NO_TARGET, dtype=np.int64)
    document_ids = np.empty(context_tokens, dtype=np.int32)
    filled = number = 0
    for number, part in enumerate(parts, 1):
        end = filled + len(part) - 1
        inputs[filled:end] = part[:-1]
        targets[filled:end] = part[1:]
        document_ids[filled:end] = number - 1
        filled = end
    inputs[filled:] = inputs[filled - 1]
    document_ids[filled:] = number
    return Row(inputs=inputs, targets=targets, document_ids=document_ids)


def rows_end_to_end(documents: Iterable[np.ndarray], *, context_tokens: int) -> Iterator[Row]:
    """Cut rows from the concatenation of documents.

    Every token is an input once, and a target once unless it begins a document. The end of a document is an
    input without a target. The last row is filled up.

    Args:
        documents: [n] token ids each.
        context_tokens: length of a row.

    Raises:
        ConfigError: `context_tokens` is below 1.
    """
    if context_tokens < 1:
        raise ConfigError(f"context_tokens must be at least 1, got {context_tokens}")
    size = context_tokens + 1
    stream = iter(documents)
    document, offset = np.empty(0, dtype=np.int64), 0
    while True:
        tokens = np.empty(size, dtype=np.int64)
        document_ids = np.empty(size, dtype=np.int32)
        filled = number = 0
        while filled < size:
            if offset == len(document):
                following = next(stream, None)
                if following is None:
                    break
                number += filled > 0
                document, offset = following, 0
            taken = document[offset : offset + size - filled]
            tokens[filled : filled + len(taken)] = taken
            document_ids[filled : filled + len(taken)] = number
            filled += len(taken)
            offset += len(taken)
        if filled < 2:  # nothing, or only the last token of the row before, which has no successor
            return
        if filled == size:
            offset -= 1  # the last token is the first input of the next row
        tokens[filled:] = tokens[filled - 1]
        document_ids[filled:] = number + 1
        targets = np.where(document_ids[1:] == document_ids[:-1], tokens[1:], NO_TARGET)
        targets[filled - 1 :] = NO_TARGET
        yield Row(inputs=tokens[:-1], targets=targets, document_ids=document_ids[:-1])
