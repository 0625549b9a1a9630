"""Which blocks are in use, and by how many."""

from __future__ import annotations

from collections.abc import Iterable


class Blocks:
    """Numbers 0 … count - 1; each is free, or held by one or more owners."""

    def __init__(self, count: int):
        self.count = count
        self._free = list(range(count - 1, -1, -1))
        self._owners = [0] * count
        self.changes = 0
        """How often blocks got or lost an owner beside others: while it stands still, `owners` of those in use does."""

    @property
    def num_free(self) -> int:
        """Blocks that nobody holds."""
        return len(self._free)

    def take(self, count: int) -> list[int] | None:
        """So many free blocks, held once each; None, and nothing has changed, where there are fewer."""
        if count > len(self._free):
            return None
        taken = [self._free.pop() for _ in range(count)]
        for block in taken:
            self._owners[block] = 1
        return taken

    def share(self, blocks: Iterable[int]) -> None:
        """One more owner for each."""
        self.changes += 1
        for block in blocks:
            assert self._owners[block] > 0, "a free block cannot be shared"
            self._owners[block] += 1

    def release(self, blocks: Iterable[int]) -> None:
        """One owner less for each; free without any."""
        self.changes += 1
        for block in blocks:
            self._owners[block] -= 1
            assert self._owners[block] >= 0, "a block was released more often than held"
            if self._owners[block] == 0:
                self._free.append(block)

    def owners(self, block: int) -> int:
        """How many hold it."""
        return self._owners[block]
