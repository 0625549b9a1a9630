"""Personal data of one text: where triggers hit, each detector confirms or not."""

from __future__ import annotations

import re
from collections.abc import Iterator

from mamba_slm.data.curation.personal.addresses import find_addresses
from mamba_slm.data.curation.personal.assignments import find_assigned
from mamba_slm.data.curation.personal.cards import find_cards, find_ssns
from mamba_slm.data.curation.personal.ibans import find_ibans
from mamba_slm.data.curation.personal.ips import find_ipv4, find_ipv6
from mamba_slm.data.curation.personal.keys import find_keys, find_pems
from mamba_slm.data.curation.personal.phones import find_phones
from mamba_slm.data.curation.personal.runs import runs
from mamba_slm.data.curation.personal.span import Span, without_overlaps
from mamba_slm.data.curation.personal.triggers import HEX_COLON, KEY_CHARACTERS, NUMBER_CHARACTERS, Hits

AROUND = {
    "number": (NUMBER_CHARACTERS, (find_cards, find_ssns, find_phones)),
    "ipv4": ("0123456789.", (find_ipv4,)),
    "ipv6": (HEX_COLON, (find_ipv6,)),
    "key": (KEY_CHARACTERS, (find_keys,)),
}
"""Detectors that look at the run of these characters around a hit."""

AFTER = {"at": find_addresses, "iban": find_ibans, "pem": find_pems, "secret": find_assigned}
"""Detectors that take the ends of hits."""


SHORTEST_CARD = 12
NEAR = 12
WORD_BEFORE = re.compile(r"[^\w]{0,10}[^\W\d]")


def find_spans(text: str, hits: Hits) -> list[Span]:
    """The personal data of a text, in its order, without overlaps."""
    return without_overlaps(list(candidates(text, hits)))


def candidates(text: str, hits: Hits) -> Iterator[Span]:
    """What any detector finds; may overlap."""
    for trigger, places in hits.items():
        if trigger in AFTER:
            yield from AFTER[trigger](text, places)
            continue
        characters, detectors = AROUND[trigger]
        for start, end in runs(text, places, characters):
            if trigger == "number" and is_bare_among_numbers(text, start, end):
                continue
            for detector in detectors:
                yield from detector(text, start, end)


def is_bare_among_numbers(text: str, start: int, end: int) -> bool:
    """Whether a run of number characters is one group of digits, too few for a card, and no word is near that could
    name it. Tables are full of such, which need no second look.

    >>> is_bare_among_numbers("1,2345678,3", 2, 9), is_bare_among_numbers("fax: 2345678,3", 4, 12)
    (True, False)
    """
    piece = text[start:end].strip(" ().-/")
    if not piece.isdigit() or len(piece) >= SHORTEST_CARD:
        return False
    return not WORD_BEFORE.match(text[max(0, start - NEAR) : start][::-1]) and not text[end : end + 1].isalpha()
