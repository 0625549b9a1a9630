"""What a cache of states holds, and what it answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from mamba_slm.serving.cache.counts import Miss


class Kept(Protocol):
    """A state as the cache sees it."""

    @property
    def num_bytes(self) -> int: ...

    @property
    def blocks(self) -> Sequence[int]: ...


class Memory(Protocol):
    """Who knows how many hold a block."""

    def owners(self, block: int) -> int: ...

    @property
    def changes(self) -> int: ...


@dataclass(eq=False)
class Entry:
    """One state."""

    kept: Kept
    logits: object | None
    """After the last token, where they are known: then not even that one needs to be read."""
    used: int
    """When, counted in prompts."""
    is_guess: bool = False
    """Whether it lies on a grid, and was never used."""
    rank: float = 0.0
    """As it was when somebody looked."""


@dataclass(frozen=True, kw_only=True)
class Found:
    """What the cache has for a prompt."""

    length: int
    """Tokens that need no reading; 0: none."""
    entry: Entry | None
    branch: int
    """Up to there the prompt agrees with an earlier one; a state is worth keeping there."""
    miss: Miss | None
