"""Examples side by side in rows, so that hardly any place is padding.

Best fit, on the histogram of lengths (`data.best_fit`). Whole examples only: what one row holds is never cut.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mamba_slm.core.errors import ConfigError, DataError
from mamba_slm.data.best_fit import best_fit
from mamba_slm.finetuning.examples import EncodedExample

Row = tuple[EncodedExample, ...]


@dataclass(frozen=True, kw_only=True)
class PackedRows(Sequence[Row]):
    """Rows of examples; a data set for transformers' Trainer, together with `collate.packed_batch`."""

    rows: tuple[Row, ...]
    row_tokens: int
    """Most tokens in a row."""

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index):  # type: ignore[no-untyped-def, override]
        return self.rows[index]

    @property
    def num_tokens(self) -> int:
        """In all rows, without padding."""
        return sum(len(example.tokens) for row in self.rows for example in row)

    def __str__(self) -> str:
        examples, places = sum(map(len, self.rows)), len(self.rows) * self.row_tokens
        return (
            f"{examples:,} examples packed into {len(self.rows):,} rows of {self.row_tokens:,} tokens: "
            f"{self.num_tokens / max(1, places):.1%} of the places hold tokens, {examples / max(1, len(self)):.1f} "
            "examples in a row, kept apart in attention, convolution and scan"
        )


def packed_rows(examples: Sequence[EncodedExample], *, row_tokens: int, seed: int = 0) -> PackedRows:
    """Put every example into a row with others.

    Args:
        row_tokens: most tokens in a row, no fewer than the longest example has.
        seed: which of the examples of one length share a row, and in what order the rows come.

    Raises:
        ConfigError: an example does not fit.
        DataError: no examples.
    """
    if not examples:
        raise DataError("there are no examples to pack")
    longest = max(examples, key=lambda example: len(example.tokens))
    if len(longest.tokens) > row_tokens:
        raise ConfigError(
            f"{longest.origin} has {len(longest.tokens):,} tokens and does not fit into a row of {row_tokens:,}",
            hint="longer rows, or a shorter context for the examples",
        )
    draw = random.Random(seed)
    order = list(range(len(examples)))
    draw.shuffle(order)
    of_length: dict[int, list[int]] = {}
    for index in order:
        of_length.setdefault(len(examples[index].tokens), []).append(index)
    rows: list[Row] = [(examples[index],) for index in of_length.pop(row_tokens, ())]
    counts = np.zeros(row_tokens, dtype=np.int64)
    for length, indices in of_length.items():
        counts[length] = len(indices)
    for group in best_fit(counts, row_tokens):
        for number in range(group.rows):
            row: list[int] = []
            for slot in group.slots:
                first = slot.first_piece + (group.first_row + number - slot.first_row) * slot.pieces
                row += of_length[slot.length][first : first + slot.pieces]
            draw.shuffle(row)
            rows.append(tuple(examples[index] for index in row))
    draw.shuffle(rows)
    return PackedRows(rows=tuple(rows), row_tokens=row_tokens)
