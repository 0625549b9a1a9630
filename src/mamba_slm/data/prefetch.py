"""Batches read ahead in a thread, so that a step finds its rows in memory.

What is read ahead is no state: the loader below stands where the last batch that was taken left it, and a run resumed
from there reads the next ones again.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any

from mamba_slm.core.errors import ConfigError
from mamba_slm.data.loader import Batch, BatchLoader


class PrefetchingLoader(Iterator[Batch]):
    """The batches of a loader, of which up to `ahead` are ready or being made before they are asked for.

    An error while reading is raised where its batch would have come; asking again reads again.

    Args:
        loader: says what comes and where it stands; nobody else may take batches from it.
        ahead: batches kept in memory, at least one.

    Raises:
        ConfigError: `ahead` is below one.
    """

    def __init__(self, loader: BatchLoader, *, ahead: int = 2):
        if ahead < 1:
            raise ConfigError(f"ahead must be at least 1, got {ahead}")
        self.loader = loader
        self.ahead = ahead
        self.reader = ThreadPoolExecutor(max_workers=1, thread_name_prefix="read-ahead")
        self.coming: deque[Future[Batch]] = deque()
        self.waited_seconds = 0.0
        """How long `next` waited for rows in all."""

    @property
    def sample(self) -> int:
        """Samples that were taken, over all processes."""
        return self.loader.sample

    def __next__(self) -> Batch:
        self.read_ahead()
        start = time.perf_counter()
        try:
            batch = self.coming.popleft().result()
        except BaseException:
            self.forget()
            raise
        self.waited_seconds += time.perf_counter() - start
        self.loader.sample += self.loader.samples_per_batch
        self.read_ahead()
        return batch

    def read_ahead(self) -> None:
        """Ask for the batches that are to be ready."""
        while len(self.coming) < self.ahead:
            first = self.loader.sample + len(self.coming) * self.loader.samples_per_batch
            self.coming.append(self.reader.submit(self.loader.batch_at, first))

    def forget(self) -> None:
        """Drop what was read ahead, and wait until nothing is being read."""
        for batch in self.coming:
            batch.cancel()
        wait(self.coming)
        self.coming.clear()

    def state_dict(self) -> dict[str, Any]:
        """The loader's, after the last batch that was taken."""
        return self.loader.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue with the batch that would have followed; see the loader's."""
        self.forget()
        self.loader.load_state_dict(state)

    def close(self) -> None:
        """End the thread."""
        self.forget()
        self.reader.shutdown()
