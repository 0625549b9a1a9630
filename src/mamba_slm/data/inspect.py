"""Look at data before training on it: sizes, duplicates, bad lines with their place, how it is cut into tokens."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mamba_slm.core.errors import DataError
from mamba_slm.core.units import format_bytes, format_count
from mamba_slm.data.document import Document
from mamba_slm.data.encode import BATCH_CHARACTERS, batches
from mamba_slm.data.provenance import Origin
from mamba_slm.data.reading.report import ReadReport
from mamba_slm.data.shards import TokenShards
from mamba_slm.text.tokenizer import Tokenizer

PERCENTILES = (0, 5, 25, 50, 75, 95, 100)
SHOWN_DUPLICATES = 5


@dataclass(frozen=True, kw_only=True)
class Inspection:
    """Statistics of a corpus."""

    num_documents: int
    """Documents."""

    text_bytes: int
    """UTF-8 bytes of all texts."""

    document_bytes: dict[str, int]
    """Percentiles of the length of a document in bytes, by name: "0" is the shortest, "50" the median."""

    num_tokens: int | None = None
    """Tokens without begin and end tokens; None without a tokenizer."""

    document_tokens: dict[str, int] | None = None
    """Percentiles of the length of a document in tokens."""

    num_duplicates: int = 0
    """Documents whose text is exactly that of an earlier one."""

    duplicates: tuple[tuple[str, str], ...] = ()
    """The first few of them: (id, id of the earlier one)."""

    num_empty: int = 0
    """Documents without text, left out of all other numbers."""

    num_problems: int = 0
    """Files and records that could not be read."""

    problems: tuple[str, ...] = ()
    """The first of them, with their place."""

    num_repaired: int = 0
    """Documents in which wrong bytes were repaired, because that was asked for."""

    left_out: dict[str, int] = field(default_factory=dict)
    """Records that are no documents, by what they are, such as the redirects of a wiki."""

    provenance: tuple[Origin, ...] = ()
    """Of shards: where their documents come from."""

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return asdict(self)

    def __str__(self) -> str:
        rows = [("documents", f"{self.num_documents:,}"), ("text", format_bytes(self.text_bytes))]
        if self.num_tokens is not None:
            ratio = self.text_bytes / max(1, self.num_tokens)
            rows.append(("tokens", f"{format_count(self.num_tokens)} ({ratio:.2f} bytes per token)"))
        rows.append(("document bytes", percentile_text(self.document_bytes)))
        if self.document_tokens is not None:
            rows.append(("document tokens", percentile_text(self.document_tokens)))
        share = self.num_duplicates / max(1, self.num_documents)
        rows.append(("exact duplicates", f"{self.num_duplicates:,} ({share:.1%})"))
        rows += [("", f"{copy} = {first}") for copy, first in self.duplicates]
        rows.append(("without text", f"{self.num_empty:,}"))
        rows += [("no document", f"{count:,} {kind}") for kind, count in self.left_out.items()]
        if self.num_repaired:
            rows.append(("repaired", f"{self.num_repaired:,}"))
        rows.append(("not readable", f"{self.num_problems:,}"))
        rows += [("", problem) for problem in self.problems]
        rows += [("from", f"{origin}: {origin.num_documents:,} documents") for origin in self.provenance]
        return "\n".join(f"{name:<18}{value}" for name, value in rows)


def inspect_documents(
    documents: Iterable[Document], *, tokenizer: Tokenizer | None = None, report: ReadReport | None = None
) -> Inspection:
    """Read all documents once and count.

    Memory: 24 bytes and a Python integer per document, no texts.

    Args:
        documents: for example from `read_documents(path, ReadOptions(on_error="skip"), report=report)`.
        tokenizer: count tokens, too.
        report: the one that `read_documents` fills; its counts become part of the result.
    """
    byte_lengths: list[int] = []
    token_lengths: list[int] = []
    first_ids: dict[bytes, str] = {}
    num_duplicates = 0
    duplicates: list[tuple[str, str]] = []
    for batch in batches(documents, BATCH_CHARACTERS):
        if tokenizer is not None:
            token_lengths += map(len, tokenizer.encode_batch([document.text for document in batch]))
        for document in batch:
            content = document.text.encode()
            byte_lengths.append(len(content))
            digest = hashlib.blake2b(content, digest_size=16).digest()
            if digest in first_ids:
                num_duplicates += 1
                if len(duplicates) < SHOWN_DUPLICATES:
                    duplicates.append((document.id, first_ids[digest]))
            else:
                first_ids[digest] = document.id
    report = ReadReport() if report is None else report
    return Inspection(
        num_documents=len(byte_lengths),
        text_bytes=sum(byte_lengths),
        document_bytes=percentiles(byte_lengths),
        num_tokens=None if tokenizer is None else sum(token_lengths),
        document_tokens=None if tokenizer is None else percentiles(token_lengths),
        num_duplicates=num_duplicates,
        duplicates=tuple(duplicates),
        num_empty=report.num_empty,
        num_problems=report.num_problems,
        problems=tuple(map(str, report.problems)),
        num_repaired=report.num_repaired,
        left_out=dict(report.left_out),
    )


def inspect_shards(folder: Path | str, *, tokenizer: Tokenizer | None = None) -> Inspection:
    """The same statistics of a shard folder, whose checksums are verified on the way.

    Args:
        folder: written by `encode_documents`.
        tokenizer: gives the lengths in bytes; without it only the total is known and `document_bytes` is empty.

    Raises:
        DataError: the folder is damaged, or was made with another tokenizer.
    """
    shards = TokenShards.open(folder)
    lengths = shards.document_lengths() - 2  # without begin and end token
    byte_lengths: list[int] = []
    if tokenizer is not None:
        check_same_tokenizer(shards, tokenizer)
        bytes_of_token = np.asarray(tokenizer.token_byte_lengths())
        added = len(tokenizer.alphabet.prefix)  # encoding puts it before every text
        byte_lengths = [int(bytes_of_token[shards.document(i)].sum()) - added for i in range(shards.num_documents)]
    first_ids: dict[bytes, int] = {}
    duplicates: list[tuple[str, str]] = []
    num_duplicates = 0
    for index in range(shards.num_documents):
        digest = hashlib.blake2b(shards.document(index).tobytes(), digest_size=16).digest()
        first = first_ids.setdefault(digest, index)
        if first != index:
            num_duplicates += 1
            if len(duplicates) < SHOWN_DUPLICATES:
                duplicates.append((str(index), str(first)))
    return Inspection(
        num_documents=shards.num_documents,
        text_bytes=shards.text_bytes,
        document_bytes=percentiles(byte_lengths),
        num_tokens=int(lengths.sum()),
        document_tokens=percentiles(lengths),
        num_duplicates=num_duplicates,
        duplicates=tuple(duplicates),
        provenance=shards.manifest.provenance,
    )


def check_same_tokenizer(shards: TokenShards, tokenizer: Tokenizer) -> None:
    """Refuse to read shards with another tokenizer than the one that made them.

    Raises:
        DataError: the fingerprints differ.
    """
    if shards.tokenizer_fingerprint != tokenizer.fingerprint:
        raise DataError(
            f"{shards.folder} was made with another tokenizer "
            f"({shards.tokenizer_fingerprint[:12]}, not {tokenizer.fingerprint[:12]})",
            hint="use the tokenizer that made it, or tokenize the text again: mamba-slm data tokenize",
        )


def percentiles(lengths: Any) -> dict[str, int]:
    """Lengths at `PERCENTILES`, each one that occurs; empty for no lengths."""
    if len(lengths) == 0:
        return {}
    values = np.percentile(np.asarray(lengths), PERCENTILES, method="lower")
    return {str(name): int(value) for name, value in zip(PERCENTILES, values, strict=True)}


def percentile_text(values: dict[str, int]) -> str:
    """One line: shortest, percentiles, longest."""
    names = {"0": "min", "50": "median", "100": "max"}
    return ", ".join(f"{names.get(name, name + '%')} {value:,}" for name, value in values.items()) or "unknown"


def token_view(tokenizer: Tokenizer, text: str) -> str:
    """How the text is cut into tokens: one line per token with its id and its text, or bytes, as a Python literal."""
    lines = []
    for id in tokenizer.encode(text):
        content = tokenizer.token_bytes(id)
        try:
            shown = repr(content.decode())
        except UnicodeDecodeError:  # a part of a character
            shown = repr(content)
        lines.append(f"{id:>7}  {shown}")
    return "\n".join(lines)
