"""What each row of a batch has read and made, as the penalties need it.

Letters: `b` rows, `v` vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


class History:
    """The prompt and the new tokens of every row. The tables are made when somebody asks, and then kept up to date."""

    def __init__(self, prompts: Sequence[Sequence[int]], *, vocab_size: int, device: torch.device | str = "cpu"):
        self.prompts = [tuple(prompt) for prompt in prompts]
        self.made: list[tuple[int, ...]] = [() for _ in prompts]
        """New tokens of each row."""
        self._vocab_size = vocab_size
        self._device = device
        self._seen: Tensor | None = None
        self._counts: Tensor | None = None

    @property
    def num_rows(self) -> int:
        """Rows."""
        return len(self.prompts)

    def tokens(self, row: int) -> tuple[int, ...]:
        """Everything in one row: its prompt, then what was made."""
        return self.prompts[row] + self.made[row]

    @property
    def seen(self) -> Tensor:
        """[b v] bool: True where the token occurs in the prompt or in what was made."""
        if self._seen is None:
            self._seen = self._table(torch.bool)
            for row in range(self.num_rows):
                self._seen[row, torch.tensor(self.tokens(row), device=self._device)] = True
        return self._seen

    @property
    def counts(self) -> Tensor:
        """[b v] float32: how often each token was made, the prompt left out."""
        if self._counts is None:
            self._counts = self._table(torch.float32)
            for row in range(self.num_rows):
                made = torch.tensor(self.made[row], dtype=torch.int64, device=self._device)
                self._counts[row].index_add_(0, made, torch.ones_like(made, dtype=torch.float32))
        return self._counts

    def append(self, tokens: Sequence[int]) -> None:
        """One new token per row."""
        self.made = [(*made, token) for made, token in zip(self.made, tokens, strict=True)]
        column = torch.tensor(tokens, device=self._device)[:, None]
        if self._seen is not None:
            self._seen = self._seen.scatter(1, column, True)
        if self._counts is not None:
            self._counts = self._counts.scatter_add(1, column, torch.ones_like(column, dtype=torch.float32))

    def select(self, rows: Sequence[int]) -> History:
        """The given rows, in the given order, as a new history; a row may appear several times or not at all."""
        chosen = History([self.prompts[row] for row in rows], vocab_size=self._vocab_size, device=self._device)
        chosen.made = [self.made[row] for row in rows]
        index = torch.tensor(rows, dtype=torch.int64, device=self._device)
        chosen._seen = None if self._seen is None else self._seen[index]
        chosen._counts = None if self._counts is None else self._counts[index]
        return chosen

    def _table(self, dtype: torch.dtype) -> Tensor:
        return torch.zeros(self.num_rows, self._vocab_size, dtype=dtype, device=self._device)
