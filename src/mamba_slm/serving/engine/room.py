"""Slots and blocks for requests: free ones, and those that the cache gives up for them."""

from __future__ import annotations

from collections.abc import Iterable

from mamba_slm.serving.cache.entry import Found
from mamba_slm.serving.cache.prefix_cache import PrefixCache
from mamba_slm.serving.memory.pool import Parked, Pool, Sequence, Snapshot
from mamba_slm.serving.scheduler.job import Job, Limits


class Room:
    """The memory of an engine. Running requests come before what is kept for later ones."""

    def __init__(self, pool: Pool, cache: PrefixCache, limits: Limits):
        self._pool, self._cache, self._limits = pool, cache, limits

    def blocks_for(self, jobs: Iterable[Job]) -> int:
        """Blocks that these can have: the free ones and, only where those do not suffice for all, the cache's."""
        free = self._pool.blocks.num_free
        if free < sum(self._limits.blocks(job.tokens + job.unread + 1) for job in jobs):
            free += self._cache.reclaimable_blocks()
        return free

    def open(self, found: Found, prompt_tokens: int) -> Sequence:
        """A slot that continues what the cache found for a prompt; its `num_tokens` are what needs no reading."""
        snapshot = None if found.entry is None else found.entry.kept
        sequence = None
        if snapshot is not None:
            assert isinstance(snapshot, Snapshot)
            self._pool.blocks.share(snapshot.blocks)  # making room must not take it away
            try:
                self._make(self._limits.blocks(prompt_tokens) - found.length // self._limits.block_tokens)
                sequence = self._pool.open(snapshot)
            finally:
                self._pool.blocks.release(snapshot.blocks)
        if sequence is None:  # nothing was found, or the last free block is the one that would have to be copied
            self._make(self._limits.blocks(prompt_tokens))
            sequence = self._pool.open()
        assert sequence is not None, "the scheduler promised a slot and blocks"
        return sequence

    def unpark(self, parked: Parked) -> Sequence | None:
        """A state that was moved away in a slot again; None where there is none."""
        self._make(self._limits.blocks(parked.num_tokens))
        return self._pool.unpark(parked)

    def grow(self, sequence: Sequence, new_tokens: int) -> bool:
        """Blocks for more tokens; False where there are none, for which the scheduler will find a way."""
        self._make(self._limits.blocks(sequence.num_tokens + new_tokens) - len(sequence.blocks))
        return self._pool.grow(sequence, new_tokens)

    def _make(self, num_blocks: int) -> None:
        """Let the cache give up blocks until so many are free."""
        missing = num_blocks - self._pool.blocks.num_free
        if missing > 0:
            self._cache.give_up(missing)
