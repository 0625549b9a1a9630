"""From the files of all parts to shards: in the order of the parts, cut where one task would have cut them, too."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from mamba_slm.data.provenance import Origin
from mamba_slm.data.shard_format import dtype_of
from mamba_slm.data.shards import ShardWriter, map_file
from mamba_slm.text.tokenizer import Tokenizer

COPIED_DOCUMENTS = 1 << 16


@dataclass(frozen=True, kw_only=True)
class PartTokens:
    """What a task has written."""

    folder: Path

    origin: Origin
    """Of its input, without numbers."""

    summary: dict[str, Any]

    def count(self, split: str, name: str) -> int:
        """Documents, tokens or text_bytes of a split."""
        return self.summary["splits"][split][name]


def write_split(
    parts: Sequence[PartTokens], splits: Sequence[str], folder: Path, tokenizer: Tokenizer, *, max_shard_tokens: int
) -> ShardWriter:
    """Write the shards of one split, or of several as one, and return the writer with its counts."""
    writer = ShardWriter(
        folder,
        tokenizer_fingerprint=tokenizer.fingerprint,
        vocab_size=tokenizer.vocab_size,
        max_shard_tokens=max_shard_tokens,
    )
    with writer:
        for part in parts:
            for split in splits:
                copy_part(part, split, writer)
        writer.provenance = origins_of(parts, splits)
    return writer


def copy_part(part: PartTokens, split: str, writer: ShardWriter) -> None:
    """Add the documents of a part, many at once."""
    tokens = map_file(part.folder / f"{split}.tokens", dtype_of(writer.vocab_size))
    lengths = map_file(part.folder / f"{split}.lengths", np.dtype("<u8"))
    start = 0
    for first in range(0, len(lengths), COPIED_DOCUMENTS):
        some = lengths[first : first + COPIED_DOCUMENTS].astype(np.int64)
        end = start + int(some.sum())
        writer.append_many(tokens[start:end], some, text_bytes=0)
        start = end
    writer.text_bytes += part.count(split, "text_bytes")


def origins_of(parts: Sequence[PartTokens], splits: Sequence[str]) -> tuple[Origin, ...]:
    """One entry per input, in their order, with what these splits hold of it."""
    origins: dict[str, Origin] = {}
    for part in parts:
        origin = origins.setdefault(part.origin.input, part.origin)
        origins[origin.input] = replace(
            origin,
            num_documents=origin.num_documents + sum(part.count(split, "documents") for split in splits),
            num_tokens=origin.num_tokens + sum(part.count(split, "tokens") for split in splits),
            text_bytes=origin.text_bytes + sum(part.count(split, "text_bytes") for split in splits),
        )
    return tuple(origin for origin in origins.values() if origin.num_documents)
