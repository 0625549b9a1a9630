"""What one request got in one step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from mamba_slm.core.errors import MambaSlmError
from mamba_slm.serving.engine.request import Piece


@dataclass
class Drawn:
    """Filled token by token."""

    before: float | None
    """When the token before was made; None: there is none."""
    pieces: list[Piece] = field(default_factory=list)
    error: MambaSlmError | None = None
    """Why there is no more."""

    def is_as_guessed(self, guesses: Sequence[int], place: int) -> bool:
        """Whether the token at `place` is the one that was guessed and the text goes on behind it."""
        return (
            place < len(guesses)
            and place < len(self.pieces)
            and self.error is None
            and self.pieces[place].token == guesses[place]
            and self.pieces[place].finish_reason is None
        )
