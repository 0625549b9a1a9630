"""Tensors in safetensors files, whole or cut into pieces that several processes wrote; read by name, one at a time.

    model.safetensors                                   whole, or
    model-00000-of-00002.safetensors  shards.json       the pieces of each process, and what they are pieces of

A file of pieces says in its header where each piece begins, in the words of `torch.distributed.checkpoint`, whose
`HuggingFaceStorageReader` reads such a folder as well.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from mamba_slm.core.errors import CheckpointError, SetupError

INDEX_FILE = "shards.json"
INDEX_FORMAT_VERSION = 1
DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "I64": torch.int64,
    "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8, "BOOL": torch.bool,
}  # fmt: skip
NAMES = {dtype: name for name, dtype in DTYPES.items()}
Extent = tuple[int, ...]


@dataclass(frozen=True)
class Piece:
    """A box cut out of a tensor."""

    tensor: Tensor
    offset: Extent
    """Where it begins in the whole."""
    whole: Extent
    """Shape of the whole."""


@dataclass(frozen=True)
class StoredPiece:
    """A piece in a file."""

    file: str
    offset: Extent
    shape: Extent


@dataclass(frozen=True)
class StoredTensor:
    """A tensor and where its pieces lie."""

    dtype: str
    shape: Extent
    pieces: tuple[StoredPiece, ...]


def write_pieces(path: Path, pieces: Mapping[str, Piece]) -> dict[str, Any]:
    """Write pieces, at most one per tensor, into one file; returns what `index_of` wants to know about them."""
    begins = {name: {"saved_offsets": list(piece.offset)} for name, piece in pieces.items()}
    metadata = {"format": "pt", "DCP_VERSION": "1.0", "DCP_SHARDING_INFO": json.dumps(begins)}
    save_file({name: piece.tensor.cpu().contiguous() for name, piece in pieces.items()}, path, metadata=metadata)
    return {
        name: {
            "dtype": NAMES[piece.tensor.dtype],
            "shape": list(piece.whole),
            "pieces": [[path.name, list(piece.offset), list(piece.tensor.shape)]],
        }
        for name, piece in pieces.items()
    }


def index_of(parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """One index of the tensors that several processes wrote pieces of, from what `write_pieces` gave each."""
    index: dict[str, Any] = {}
    for part in parts:
        for name, entry in part.items():
            known = index.setdefault(name, {**entry, "pieces": []})
            known["pieces"] += entry["pieces"]
    return dict(sorted(index.items()))


class StoredTensors(Mapping[str, Tensor]):
    """Tensors of a folder by name. Each look-up reads from the disk; nothing is kept.

    Raises (of look-ups):
        CheckpointError: a file is missing or damaged, or pieces of the tensor are missing.
    """

    def __init__(self, folder: Path, entries: Mapping[str, StoredTensor]):
        self.folder, self.entries = folder, entries
        self.opened: dict[str, Any] = {}

    def __iter__(self) -> Iterator[str]:
        return iter(self.entries)

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, name: str) -> Tensor:
        shape = self.entries[name].shape
        return self.part(name, (0,) * len(shape), shape)

    @property
    def shapes(self) -> dict[str, Extent]:
        """Shape of every tensor, without reading any."""
        return {name: entry.shape for name, entry in self.entries.items()}

    def part(self, name: str, offset: Extent, shape: Extent) -> Tensor:
        """The box of `shape` that begins at `offset`, and nothing else, read from the pieces that it touches."""
        entry = self.entries[name]
        for piece in entry.pieces:
            if (piece.offset, piece.shape) == (tuple(offset), tuple(shape)):
                return self.reading(piece.file, name)
        part = torch.empty(shape, dtype=DTYPES[entry.dtype])
        found = 0
        for piece in entry.pieces:
            begins = [max(a, b) for a, b in zip(offset, piece.offset, strict=True)]
            ends = [min(a + n, b + m) for a, n, b, m in zip(offset, shape, piece.offset, piece.shape, strict=True)]
            if any(end <= begin for begin, end in zip(begins, ends, strict=True)):
                continue
            there = tuple(slice(a - o, b - o) for a, b, o in zip(begins, ends, piece.offset, strict=True))
            here = tuple(slice(a - o, b - o) for a, b, o in zip(begins, ends, offset, strict=True))
            part[here] = self.reading(piece.file, name, there)
            found += math.prod(end - begin for begin, end in zip(begins, ends, strict=True))
        if found != part.numel():
            raise CheckpointError(
                f"{self.folder} lacks pieces of {name}: {found} of {part.numel()} numbers are there",
                hint="it is damaged; use an earlier checkpoint",
            )
        return part

    def reading(self, file: str, name: str, where: tuple[slice, ...] | None = None) -> Tensor:
        """A tensor of a file, or a part of it."""
        path = self.folder / file
        try:
            if file not in self.opened:
                self.opened[file] = safe_open(path, framework="pt")
            reader = self.opened[file]
            return reader.get_tensor(name) if where is None else reader.get_slice(name)[where]
        except (SafetensorError, OSError) as error:
            raise unreadable(path, error) from error


def open_tensors(folder: Path, kind: str, whole_file: str) -> StoredTensors:
    """The tensors of a kind ("model" or "moments") of a folder, in either form.

    Args:
        whole_file: name of the file that holds them where they are whole.

    Raises:
        CheckpointError: neither form is there, or what is there is damaged.
        SetupError: written by a newer package.
    """
    if (folder / INDEX_FILE).is_file() and not (folder / whole_file).is_file():
        return StoredTensors(folder, read_index(folder, kind))
    return open_whole(folder / whole_file)


def open_whole(path: Path) -> StoredTensors:
    """The tensors of one file."""
    try:
        with safe_open(path, framework="pt") as reader:
            slices = {name: reader.get_slice(name) for name in reader.offset_keys()}
            found = {name: (entry.get_dtype(), tuple(entry.get_shape())) for name, entry in slices.items()}
    except (SafetensorError, OSError) as error:
        raise unreadable(path, error) from error
    return StoredTensors(
        path.parent,
        {
            name: StoredTensor(dtype, shape, (StoredPiece(path.name, (0,) * len(shape), shape),))
            for name, (dtype, shape) in found.items()
        },
    )


def read_index(folder: Path, kind: str) -> dict[str, StoredTensor]:
    """What shards.json says about a kind of tensors."""
    path = folder / INDEX_FILE
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["format_version"] > INDEX_FORMAT_VERSION:
            raise SetupError(
                f"{path} has format version {content['format_version']}, this package reads up to "
                f"{INDEX_FORMAT_VERSION}",
                hint="it was written by a newer mamba-slm: pip install --upgrade mamba-slm",
            )
        return {
            name: StoredTensor(
                entry["dtype"],
                tuple(entry["shape"]),
                tuple(StoredPiece(file, tuple(offset), tuple(shape)) for file, offset, shape in entry["pieces"]),
            )
            for name, entry in content[kind].items()
        }
    except (OSError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(f"{path} cannot be read: {error!r}", hint="use an earlier checkpoint") from error


def unreadable(path: Path, error: Exception) -> CheckpointError:
    """The error for a file of tensors."""
    return CheckpointError(
        f"{path} cannot be read: {error}", hint="the file is missing or cut short; use an earlier checkpoint"
    )


def write_whole(tensors: StoredTensors, path: Path) -> None:
    """Join pieces to one safetensors file, one tensor in memory at a time."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    position = 0
    names = sorted(tensors, key=lambda name: (-DTYPES[tensors.entries[name].dtype].itemsize, name))
    for name in names:
        entry = tensors.entries[name]
        size = math.prod(entry.shape) * DTYPES[entry.dtype].itemsize
        header[name] = {"dtype": entry.dtype, "shape": entry.shape, "data_offsets": [position, position + size]}
        position += size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name in names:
            file.write(tensors[name].contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
