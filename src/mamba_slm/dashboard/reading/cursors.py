"""Page after page out of something that can only be read from its beginning: where the last page ended is kept open."""

from __future__ import annotations

import threading
import time
import weakref
from collections import OrderedDict
from collections.abc import Callable, Generator, Hashable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

T = TypeVar("T")
MOST_OPEN = 4
MOST_SECONDS = 4.0
"""Of looking for one page; then what was found is shown, and how far it came."""
MOST_SKIPPING_SECONDS = 30.0
"""Of reading up to the first one that is asked for: a number far behind the end keeps nobody waiting."""


@dataclass(frozen=True, kw_only=True)
class Page(Generic[T]):
    """Some items."""

    items: tuple[tuple[int, T], ...]
    """Each with its number in the stream, from 0."""
    next: int
    """Where the next page begins."""
    is_end: bool
    """Nothing comes after it."""


class Cursor(Generic[T]):
    """An open stream, read by one thread of its own from begin to end, as some readers want it."""

    def __init__(self, items: Iterator[T], position: int):
        self.items = items
        self.position = position
        """How many items come before the next one."""
        self.thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="reading")

    def page(self, first: int, most: int, is_wanted: Callable[[T], bool], clock: Callable[[], float]) -> Page[T]:
        """Up to `most` wanted items from number `first` on."""
        return self.thread.submit(self.read, first, most, is_wanted, clock).result()

    def read(self, first: int, most: int, is_wanted: Callable[[T], bool], clock: Callable[[], float]) -> Page[T]:
        """The same, in the thread."""
        begin = clock()
        until, at_most = begin + MOST_SECONDS, begin + MOST_SKIPPING_SECONDS
        found: list[tuple[int, T]] = []
        while len(found) < most and (clock() < until or (self.position <= first and clock() < at_most)):
            try:
                item = next(self.items)
            except StopIteration:
                return Page(items=tuple(found), next=self.position, is_end=True)
            self.position += 1
            if self.position > first and is_wanted(item):
                found.append((self.position - 1, item))
        return Page(items=tuple(found), next=self.position, is_end=False)

    def close(self) -> None:
        """End the stream and its thread; does not wait for them."""
        if isinstance(self.items, Generator):
            self.thread.submit(self.items.close)
        self.thread.shutdown(wait=False)


class Cursors(Generic[T]):
    """The streams that were read last. Several threads may ask at once."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.open: OrderedDict[tuple[Hashable, int], Cursor[T]] = OrderedDict()
        weakref.finalize(self, close_all, self.open).atexit = False

    def read(
        self,
        key: Hashable,
        begin: Callable[[int], tuple[Iterator[T], int]],
        *,
        first: int,
        most: int,
        is_wanted: Callable[[T], bool],
        clock: Callable[[], float] = time.monotonic,
    ) -> Page[T]:
        """Up to `most` wanted items from number `first` on; fewer when the time is up.

        Args:
            key: of the stream; changes when it would begin otherwise.
            begin: opens it for an item, with the number of the first one that comes: that one, or an earlier one.
        """
        cursor = self.take(key, first) or Cursor(*begin(first))
        try:
            page = cursor.page(first, most, is_wanted, clock)
        except BaseException:
            cursor.close()
            raise
        if page.is_end:
            cursor.close()
        else:
            self.keep(key, cursor)
        return page

    def take(self, key: Hashable, first: int) -> Cursor[T] | None:
        """The open stream that is nearest before an item; nobody else has it meanwhile."""
        with self.lock:
            fitting = [at for at in self.open if at[0] == key and at[1] <= first]
            return self.open.pop(max(fitting, key=lambda at: at[1])) if fitting else None

    def keep(self, key: Hashable, cursor: Cursor[T]) -> None:
        """Keep a stream open, and close the one that was not asked for the longest time."""
        with self.lock:
            gone = [self.open.pop((key, cursor.position), None)]
            self.open[key, cursor.position] = cursor
            while len(self.open) > MOST_OPEN:
                gone.append(self.open.popitem(last=False)[1])
        for other in gone:
            if other is not None:
                other.close()


def close_all(cursors: Mapping[tuple[Hashable, int], Cursor[Any]]) -> None:
    """End all streams, each by its own thread."""
    for cursor in cursors.values():
        cursor.close()
