"""Just enough of protobuf's wire format to read a message whose fields are known.

Source: https://protobuf.dev/programming-guides/encoding.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5


def fields_of(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """(number, value) of each field: an integer for varints, the raw bytes for everything else.

    Raises:
        ValueError: the bytes are not a message.
    """
    place = 0
    while place < len(message):
        key, place = varint_at(message, place)
        number, kind = key >> 3, key & 7
        if kind == VARINT:
            value, place = varint_at(message, place)
            yield number, value
            continue
        if kind == BYTES:
            size, place = varint_at(message, place)
        elif kind in (FIXED64, FIXED32):
            size = 8 if kind == FIXED64 else 4
        else:
            raise ValueError(f"wire type {kind} at byte {place}")
        if place + size > len(message):
            raise ValueError(f"field {number} ends beyond the file")
        yield number, message[place : place + size]
        place += size


def varint_at(message: bytes, place: int) -> tuple[int, int]:
    """An integer of variable length and the place after it."""
    value = shift = 0
    while True:
        if place >= len(message) or shift > 63:
            raise ValueError(f"no integer at byte {place}")
        byte = message[place]
        value |= (byte & 0x7F) << shift
        place, shift = place + 1, shift + 7
        if byte < 0x80:
            return value, place


def float_of(value: bytes) -> float:
    """A field of 32 bits as a float."""
    return struct.unpack("<f", value)[0]
