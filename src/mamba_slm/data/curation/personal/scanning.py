"""Hits of the triggers in many texts: by hyperscan where it is installed, else by `re`, with the same data found."""

from __future__ import annotations

import bisect
import functools
import itertools
import logging
import threading
from collections.abc import Callable, Sequence

from mamba_slm.core.errors import MissingDependencyError
from mamba_slm.core.optional import require
from mamba_slm.data.curation.personal.triggers import AT, TRIGGERS, Hits, hits_with_re

log = logging.getLogger(__name__)
NAMES = [*(trigger.name for trigger in TRIGGERS), AT]
BEYOND = [*(len(trigger.follow) > 0 for trigger in TRIGGERS), False]

Scan = Callable[[Sequence[str]], dict[int, Hits]]
"""Hits by the number of the text; texts without any are absent."""


@functools.cache
def scan_function() -> Scan:
    """How this process scans texts; says so once, with the reason."""
    try:
        scan = scan_with_hyperscan()
    except MissingDependencyError as error:
        log.warning("personal data=re (%s); hyperscan is 25 times faster", error.message)
        return scan_with_re
    log.info("personal data=hyperscan")
    return scan


def scan_with_re(texts: Sequence[str]) -> dict[int, Hits]:
    """One text after the other."""
    found = {number: hits_with_re(text) for number, text in enumerate(texts)}
    return {number: hits for number, hits in found.items() if hits}


def scan_with_hyperscan() -> Scan:
    """One automaton for all triggers, over all texts at once: no trigger can match across the line ends between them.

    Raises:
        MissingDependencyError: hyperscan is not installed; it exists for Linux on x86-64 only.
    """
    hyperscan = require("hyperscan", extra="data", purpose="finding personal data fast")
    database = hyperscan.Database()
    database.compile(
        expressions=[trigger.bytes_pattern.encode() for trigger in TRIGGERS],
        flags=[hyperscan.HS_FLAG_CASELESS if trigger.is_caseless else 0 for trigger in TRIGGERS],
        ids=list(range(len(TRIGGERS))),
    )
    of_thread = threading.local()

    def collect(number: int, start: int, end: int, flags: int, found: list[tuple[int, int]]) -> None:
        found.append((end - BEYOND[number], number))

    def scan(texts: Sequence[str]) -> dict[int, Hits]:
        if not hasattr(of_thread, "scratch"):
            of_thread.scratch = hyperscan.Scratch(database)
        encoded = [text.encode(errors="surrogatepass") for text in texts]
        content = b"\n".join([*encoded, b""])
        found: list[tuple[int, int]] = []
        database.scan(content, match_event_handler=collect, context=found, scratch=of_thread.scratch)
        place = -1
        while (place := content.find(b"@", place + 1)) >= 0:
            found.append((place + 1, len(TRIGGERS)))
        return by_text(found, texts, encoded) if found else {}

    return scan


def by_text(found: list[tuple[int, int]], texts: Sequence[str], encoded: list[bytes]) -> dict[int, Hits]:
    """Hits of each text, as offsets of its characters.

    Args:
        found: where a hit ends and the number of its trigger, in any order, some several times; offsets of bytes of the
            encoded texts with one byte after each.
        texts: the texts.
        encoded: the same in UTF-8.
    """
    starts = [0, *itertools.accumulate(len(content) + 1 for content in encoded)]
    hits: dict[int, Hits] = {}
    current, characters, done, is_ascii = -1, 0, 0, True
    for end, trigger in sorted(set(found)):
        if end > starts[current + 1] or current < 0:
            current = bisect.bisect_left(starts, end) - 1
            characters, done, is_ascii = 0, 0, len(encoded[current]) == len(texts[current])
        place = end - starts[current]
        if not is_ascii:
            characters += len(encoded[current][done:place].decode(errors="surrogatepass"))
            done, place = place, characters
        hits.setdefault(current, {}).setdefault(NAMES[trigger], []).append(place)
    return hits
