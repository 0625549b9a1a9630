"""What the entries of a vocabulary stand for in bytes: two ways to write any byte as text."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

SPACE_MARK = "▁"
"""sentencepiece's letter for a space, U+2581."""
BYTE_ENTRY = re.compile(r"<0x([0-9A-F]{2})>")


class Alphabet(Protocol):
    """How entries are read."""

    @property
    def name(self) -> str:
        """For people: what kind of tokenizer has it."""
        ...

    @property
    def prefix(self) -> bytes:
        """What encoding puts before every text and decoding takes away again."""
        ...

    def bytes_of(self, entry: str) -> bytes:
        """The bytes of text that an ordinary entry stands for."""
        ...


@dataclass(frozen=True)
class ByteLevel:
    """GPT-2's: each byte is one printable letter, so that an entry has as many letters as it stands for bytes."""

    name: str = "byte-level BPE"
    prefix: bytes = b""

    def bytes_of(self, entry: str) -> bytes:
        """One byte per letter."""
        table = byte_of_letter()
        return bytes(table[letter] for letter in entry)


@dataclass(frozen=True)
class ByteFallback:
    """sentencepiece's: entries are characters, with a mark for the space and 256 entries for the bytes of the rest."""

    name: str = "sentencepiece with byte fallback"
    prefix: bytes = b" "

    def bytes_of(self, entry: str) -> bytes:
        """The characters in UTF-8, or the one byte that `<0x0A>` names."""
        byte = BYTE_ENTRY.fullmatch(entry)
        return bytes([int(byte[1], 16)]) if byte else entry.replace(SPACE_MARK, " ").encode()


def alphabet_of(description: Mapping[str, Any]) -> Alphabet | None:
    """The alphabet of a tokenizer.json; None where text would get lost or the alphabet is not known."""
    model, decoder = description["model"], steps_of(description.get("decoder"), "decoders")
    if model.get("type") == "BPE" and any(step["type"] == "ByteLevel" for step in decoder):
        return ByteLevel()
    kinds = [step["type"] for step in decoder]
    if model.get("byte_fallback") and "ByteFallback" in kinds and has_all_bytes(model["vocab"]):
        normalizer = steps_of(description.get("normalizer"), "normalizers")
        prepends = any(step["type"] == "Prepend" for step in normalizer)
        cuts = steps_of(description.get("pre_tokenizer"), "pretokenizers")
        prepends |= any(step["type"] == "Metaspace" and step.get("prepend_scheme") != "never" for step in cuts)
        return ByteFallback(prefix=b" " if prepends else b"")
    return None


def steps_of(part: Mapping[str, Any] | None, key: str) -> list[Mapping[str, Any]]:
    """The steps of a part of a tokenizer.json, which may be none, one, or a sequence."""
    if part is None:
        return []
    if part["type"] == "Sequence":
        return [step for inner in part[key] for step in steps_of(inner, key)]
    return [part]


def without_prefix(description: Mapping[str, Any]) -> dict[str, Any]:
    """The description of the same tokenizer without the space before every text."""
    normalizer = [step for step in steps_of(description["normalizer"], "normalizers") if step["type"] != "Prepend"]
    cuts = [
        {**step, "prepend_scheme": "never"} if step["type"] == "Metaspace" else step
        for step in steps_of(description["pre_tokenizer"], "pretokenizers")
    ]
    return {
        **description,
        "normalizer": {"type": "Sequence", "normalizers": normalizer} if normalizer else None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": cuts} if cuts else None,
    }


def has_all_bytes(vocab: Mapping[str, int] | list[Any]) -> bool:
    """Whether all 256 entries `<0x00>` … `<0xFF>` are there."""
    entries = vocab if isinstance(vocab, Mapping) else {entry for entry, _ in vocab}
    return all(f"<0x{byte:02X}>" in entries for byte in range(256))


def what_gets_lost(description: Mapping[str, Any]) -> tuple[str, ...]:
    """What of a text does not come back from its tokens, in sentences; empty for a tokenizer that keeps everything."""
    found = []
    for step in steps_of(description.get("normalizer"), "normalizers"):
        if step["type"] in ("NFC", "NFD", "NFKC", "NFKD"):
            found.append(f"characters come back in the Unicode normal form {step['type']}")
        elif step["type"] == "Replace" and step["content"] == SPACE_MARK:
            found.append(f"the character {SPACE_MARK} (U+2581), its mark for a space, comes back as a space")
        elif step["type"] != "Prepend":
            found.append(f"text is changed by {step['type']} before it is encoded")
    return tuple(found)


@functools.cache
def byte_of_letter() -> dict[str, int]:
    """The printable letter that byte-level BPE writes for each byte, inverted.

    Source: `bytes_to_unicode` in GPT-2's encoder.py.
    """
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    table = {chr(byte): byte for byte in printable}
    table.update({chr(256 + rank): byte for rank, byte in enumerate(others)})
    return table


@functools.cache
def letter_of_byte() -> dict[int, str]:
    """The printable letter of each byte."""
    return {byte: letter for letter, byte in byte_of_letter().items()}
