"""Personal data of one text: where triggers hit, each detector confirms or not."""

from __future__ import annotations

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
            for detector in detectors:
                yield from detector(text, start, end)
