"""What is in a folder of token shards, byte by byte.

    FOLDER/shards.json          format_version, tokenizer fingerprint, counts, provenance; per file its size and SHA-256
    FOLDER/tokens-00000.bin     a header of 64 bytes, then the documents one after another, uint16 or uint32
    FOLDER/ends-00000.bin       uint64: where each of its documents ends, in tokens from the start of the shard

The header holds, little-endian: 8 bytes `MSLMTOKS`; the format version and the bytes per token, uint32 each; the size
of the vocabulary, uint64; zeros. Version 1 had no header and no provenance, and is still read.
"""

from __future__ import annotations

import json
import struct
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mamba_slm.core.errors import DataError
from mamba_slm.data.provenance import Origin, origin_from_dict

FORMAT_VERSION = 2
MANIFEST = "shards.json"
ENCODE_AGAIN = "write the folder again with: mamba-slm data tokenize"
MAGIC = b"MSLMTOKS"
HEADER_BYTES = 64
HEADER = struct.Struct("<8sIIQ40x")


@dataclass(frozen=True, kw_only=True)
class ShardFile:
    """One entry of the manifest."""

    name: str
    """File name inside the folder."""

    size_bytes: int
    """Size; a different one means that the file was truncated or written to."""

    sha256: str
    """Hex digest of the content."""


@dataclass(frozen=True, kw_only=True)
class ShardManifest:
    """What shards.json says."""

    tokenizer_fingerprint: str
    """`Tokenizer.fingerprint` of the tokenizer that made the ids."""

    vocab_size: int
    """Every id is below this."""

    num_documents: int
    """Documents in all shards."""

    num_tokens: int
    """Tokens in all shards, begin and end tokens included."""

    text_bytes: int
    """UTF-8 bytes of the texts behind the tokens."""

    files: tuple[ShardFile, ...]
    """The token and end files, shard by shard."""

    provenance: tuple[Origin, ...] = ()
    """Where the documents come from, in their order; empty where nobody said."""

    format_version: int = FORMAT_VERSION
    """Of the files in the folder."""

    @property
    def dtype(self) -> np.dtype:
        """Of the ids."""
        return dtype_of(self.vocab_size)

    @property
    def header_bytes(self) -> int:
        """Bytes before the first id of a token file."""
        return HEADER_BYTES if self.format_version >= 2 else 0

    def to_dict(self) -> dict[str, Any]:
        """What is written."""
        return {"format_version": self.format_version, "dtype": self.dtype.str, **asdict(self)}


def dtype_of(vocab_size: int) -> np.dtype:
    """The smallest integers that hold every id: two bytes up to 65,536 tokens, else four."""
    return np.dtype("<u2" if vocab_size <= 1 << 16 else "<u4")


def header_of(vocab_size: int) -> bytes:
    """The header of a token file."""
    return HEADER.pack(MAGIC, FORMAT_VERSION, dtype_of(vocab_size).itemsize, vocab_size)


def check_header(path: Path, manifest: ShardManifest) -> None:
    """Refuse a token file whose header is not that of the manifest.

    Raises:
        DataError: it belongs to other shards, or is none.
    """
    if not manifest.header_bytes:
        return
    with path.open("rb") as file:
        found = file.read(HEADER_BYTES)
    if found != header_of(manifest.vocab_size):
        what = "is not a token file" if not found.startswith(MAGIC) else f"belongs to other shards than {MANIFEST}"
        raise DataError(f"{path} {what}", hint=ENCODE_AGAIN)


def read_manifest(folder: Path) -> ShardManifest:
    """Read and check shards.json.

    Raises:
        DataError: absent, unreadable, or written by a newer version.
    """
    path = folder / MANIFEST
    if not path.is_file():
        raise DataError(f"{folder} holds no token shards (no {MANIFEST})", hint="make some: mamba-slm data tokenize")
    try:
        content: dict[str, Any] = json.loads(path.read_text("utf-8"))
        version = content["format_version"]
        if version > FORMAT_VERSION:
            raise DataError(
                f"{path} has format_version {version}; this program reads up to {FORMAT_VERSION}",
                hint="update mamba-slm: pip install -U mamba-slm",
            )
        dtype = np.dtype(content.pop("dtype"))
        files = tuple(ShardFile(**file) for file in content.pop("files"))
        provenance = tuple(map(origin_from_dict, content.pop("provenance", ())))
        manifest = ShardManifest(files=files, provenance=provenance, **content)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path} is damaged: {error}", hint=ENCODE_AGAIN) from error
    if dtype != manifest.dtype:
        raise DataError(f"{path} is damaged: ids of {dtype} for {manifest.vocab_size} tokens", hint=ENCODE_AGAIN)
    return manifest
