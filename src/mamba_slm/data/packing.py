"""Cut rows of equal length from the concatenation of documents, keeping the borders.

    documents   A A A A A | B B B | C C …          a row of 4 context tokens is 5 tokens of the stream
    row 1       inputs A A A A    targets A A A A
    row 2       inputs A B B B    targets - B B -   the last token of row 1 is the first input of row 2
                                                    "-" is -100: the next token belongs to another document

Nothing is lost and nothing doubled: every token of the stream is an input exactly once, and, unless it begins a
document, a target exactly once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from mamba_slm.core.errors import ConfigError
from mamba_slm.data.mixture import DrawnDocument

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


class Packer:
    """Cuts rows from a stream of documents.

    Args:
        next_document: returns the next document, or None when the stream has ended.
        context_tokens: length of a row.
    """

    def __init__(self, next_document: Callable[[], DrawnDocument | None], *, context_tokens: int):
        if context_tokens < 1:
            raise ConfigError(f"context_tokens must be at least 1, got {context_tokens}")
        self.next_document = next_document
        self.context_tokens = context_tokens
        self.document: DrawnDocument | None = None
        self.offset = 0

    def next_row(self) -> Row | None:
        """The next row, or None when the stream has ended.

        The last row of a stream that ends is filled up with its last token; the filling has no targets and a document
        id of its own.
        """
        size = self.context_tokens + 1
        tokens = np.empty(size, dtype=np.int64)
        document_ids = np.empty(size, dtype=np.int32)
        filled = document_id = 0
        while filled < size:
            if self.document is None or self.offset == len(self.document.tokens):
                following = self.next_document()
                if following is None:
                    break
                document_id += filled > 0
                self.document, self.offset = following, 0
            taken = self.document.tokens[self.offset : self.offset + size - filled]
            tokens[filled : filled + len(taken)] = taken
            document_ids[filled : filled + len(taken)] = document_id
            filled += len(taken)
            self.offset += len(taken)
        if filled < 2:  # nothing, or only the last token of the row before, which has no successor
            return None
        if filled == size:
            self.offset -= 1  # the last token is the first input of the next row
        tokens[filled:] = tokens[filled - 1]
        document_ids[filled:] = document_id + 1
        targets = np.where(document_ids[1:] == document_ids[:-1], tokens[1:], NO_TARGET)
        targets[filled - 1 :] = NO_TARGET
        return Row(inputs=tokens[:-1], targets=targets, document_ids=document_ids[:-1])
