"""What the entries of a vocabulary stand for in bytes: two ways to write any byte as text."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Container, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import tokenizers
from tokenizers import models

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


def parts_of(backend: tokenizers.Tokenizer) -> dict[str, Any]:
    """What surrounds the model of a tokenizer, as in its tokenizer.json; that may be megabytes and is not made here."""
    parts = {"normalizer": backend.normalizer, "pre_tokenizer": backend.pre_tokenizer, "decoder": backend.decoder}
    return {name: None if part is None else json.loads(part.__getstate__()) for name, part in parts.items()}


def alphabet_of(backend: tokenizers.Tokenizer, parts: Mapping[str, Any]) -> Alphabet | None:
    """The alphabet of a tokenizer; None where text would get lost or the alphabet is not known.

    Args:
        backend: the tokenizer.
        parts: its `parts_of`.
    """
    if not isinstance(backend.model, models.BPE):
        return None
    kinds = [step["type"] for step in steps_of(parts["decoder"], "decoders")]
    if "ByteLevel" in kinds:
        return ByteLevel()
    if backend.model.byte_fallback and "ByteFallback" in kinds and has_all_bytes(backend.get_vocab()):
        prepends = any(step["type"] == "Prepend" for step in steps_of(parts["normalizer"], "normalizers"))
        cuts = steps_of(parts["pre_tokenizer"], "pretokenizers")
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


def has_all_bytes(entries: Container[str]) -> bool:
    """Whether all 256 entries `<0x00>` … `<0xFF>` are there."""
    return all(f"<0x{byte:02X}>" in entries for byte in range(256))


def what_gets_lost(parts: Mapping[str, Any]) -> tuple[str, ...]:
    """What of a text does not come back from its tokens, in sentences; empty for a tokenizer that keeps everything."""
    found = []
    for step in steps_of(parts["normalizer"], "normalizers"):
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
