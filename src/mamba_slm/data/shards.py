"""Token shards: documents as token ids in flat files that are memory-mapped, never loaded. Format: `shard_format`.

A stored document is [bos] + ids + [eos]. The folder appears complete or not at all.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mamba_slm.core.errors import DataError
from mamba_slm.core.files import folder_written_atomically, sha256_of_file, write_json_atomic
from mamba_slm.core.units import format_bytes, format_count
from mamba_slm.data.provenance import Origin
from mamba_slm.data.shard_format import (
    ENCODE_AGAIN,
    MANIFEST,
    ShardFile,
    ShardManifest,
    check_header,
    dtype_of,
    header_of,
    read_manifest,
)

MAX_SHARD_TOKENS = 1 << 28


class ShardWriter(contextlib.AbstractContextManager["ShardWriter"]):
    """Write documents to a new folder of shards; it appears when the `with` block ends without an error.

    Raises:
        DataError: the folder exists already.
        DiskFullError: no space left; nothing is left behind.
    """

    def __init__(
        self,
        folder: Path | str,
        *,
        tokenizer_fingerprint: str,
        vocab_size: int,
        max_shard_tokens: int = MAX_SHARD_TOKENS,
    ):
        self.folder = Path(folder)
        if self.folder.exists():
            raise DataError(f"{self.folder} exists already", hint="choose another folder, or delete this one first")
        self.tokenizer_fingerprint = tokenizer_fingerprint
        self.vocab_size = vocab_size
        self.max_shard_tokens = max_shard_tokens
        self.dtype = dtype_of(vocab_size)
        self.provenance: tuple[Origin, ...] = ()
        """Set it before the `with` block ends."""
        self.num_documents = self.num_tokens = self.text_bytes = 0
        self.files: list[ShardFile] = []
        self.stack = contextlib.ExitStack()
        self.ends: list[np.ndarray] = []
        self.shard_tokens = 0

    def __enter__(self) -> ShardWriter:
        with contextlib.ExitStack() as stack:
            self.temporary = stack.enter_context(folder_written_atomically(self.folder))
            self.open_shard()
            self.stack = stack.pop_all()
        return self

    def open_shard(self) -> None:
        """Start the next pair of files."""
        self.ends, self.shard_tokens = [], 0
        self.name = f"{len(self.files) // 2:05d}.bin"
        self.file = (self.temporary / f"tokens-{self.name}").open("wb")
        self.digest = hashlib.sha256()
        self.write(header_of(self.vocab_size))

    def write(self, data: bytes) -> None:
        """Add bytes to the token file."""
        self.file.write(data)
        self.digest.update(data)

    def append(self, tokens: Sequence[int] | np.ndarray, *, text_bytes: int) -> None:
        """Add one document.

        Args:
            tokens: [bos] + ids + [eos].
            text_bytes: UTF-8 length of the text behind it.
        """
        ids = np.asarray(tokens)
        self.append_many(ids, np.asarray([len(ids)]), text_bytes=text_bytes)

    def append_many(self, tokens: np.ndarray, lengths: np.ndarray, *, text_bytes: int) -> None:
        """Add documents; the files are the same as from `append` for each of them.

        Args:
            tokens: [t] the documents one after another, each [bos] + ids + [eos].
            lengths: [documents] tokens of each.
            text_bytes: UTF-8 length of the texts behind them.
        """
        if not len(lengths):
            return
        assert tokens.ndim == 1 and lengths.min() >= 2, "a stored document has at least its begin and end token"
        assert tokens.min() >= 0 and tokens.max() < self.vocab_size, "token id outside the vocabulary"
        ends = np.cumsum(lengths, dtype=np.int64)
        assert ends[-1] == len(tokens), "the lengths are not those of the tokens"
        first = start = 0
        while first < len(ends):
            last = int(np.searchsorted(ends, start + self.max_shard_tokens - self.shard_tokens, side="right"))
            if last <= first and self.shard_tokens:
                self.close_shard()
                self.open_shard()
                continue
            last = max(last, first + 1)
            end = int(ends[last - 1])
            self.write(tokens[start:end].astype(self.dtype).tobytes())
            self.ends.append(ends[first:last] - start + self.shard_tokens)
            self.shard_tokens += end - start
            first, start = last, end
        self.num_documents += len(lengths)
        self.num_tokens += len(tokens)
        self.text_bytes += text_bytes

    def close_shard(self) -> None:
        """Finish the current pair of files."""
        self.file.close()
        tokens = self.temporary / f"tokens-{self.name}"
        ends = self.temporary / f"ends-{self.name}"
        ends.write_bytes(np.concatenate([np.empty(0, np.int64), *self.ends]).astype("<u8").tobytes())
        self.files.append(ShardFile(name=tokens.name, size_bytes=tokens.stat().st_size, sha256=self.digest.hexdigest()))
        self.files.append(ShardFile(name=ends.name, size_bytes=ends.stat().st_size, sha256=sha256_of_file(ends)))

    def __exit__(self, kind, error, traceback) -> bool | None:
        if kind is not None:
            self.file.close()
            return self.stack.__exit__(kind, error, traceback)
        with self.stack:  # removes the temporary folder if the last writes fail
            self.close_shard()
            manifest = ShardManifest(
                tokenizer_fingerprint=self.tokenizer_fingerprint,
                vocab_size=self.vocab_size,
                num_documents=self.num_documents,
                num_tokens=self.num_tokens,
                text_bytes=self.text_bytes,
                files=tuple(self.files),
                provenance=self.provenance,
            )
            write_json_atomic(self.temporary / MANIFEST, manifest.to_dict())
        return None


class TokenShards:
    """A folder of shards, opened for reading. Documents are views into the memory-mapped files."""

    def __init__(self, folder: Path, manifest: ShardManifest):
        self.folder = folder
        self.manifest = manifest
        self.tokens: list[np.ndarray] = []
        ends_of_shards: list[np.ndarray] = []
        for tokens, ends in zip(manifest.files[::2], manifest.files[1::2], strict=True):
            check_header(folder / tokens.name, manifest)
            self.tokens.append(map_file(folder / tokens.name, manifest.dtype, offset=manifest.header_bytes))
            ends_of_shards.append(map_file(folder / ends.name, np.dtype("<u8")))
        self.ends = ends_of_shards
        self.first_documents = np.cumsum([0, *(len(ends) for ends in ends_of_shards)])

    @classmethod
    def open(cls, folder: Path | str, *, verify: bool = True) -> TokenShards:
        """Open a folder that `ShardWriter` wrote.

        Args:
            folder: the folder with shards.json.
            verify: also compare every file's SHA-256 (about 1 GB/s); sizes are always compared.

        Raises:
            DataError: not a shard folder, written by a newer version, or a file is missing, truncated or damaged.
        """
        folder = Path(folder)
        manifest = read_manifest(folder)
        for file in manifest.files:
            path = folder / file.name
            if not path.is_file():
                raise DataError(f"{path} is missing", hint=ENCODE_AGAIN)
            size = path.stat().st_size
            if size != file.size_bytes:
                what = "is truncated" if size < file.size_bytes else "has grown"
                raise DataError(f"{path} {what}: {size} bytes instead of {file.size_bytes}", hint=ENCODE_AGAIN)
            if verify and sha256_of_file(path) != file.sha256:
                raise DataError(f"{path} is damaged: its SHA-256 is not the one in {MANIFEST}", hint=ENCODE_AGAIN)
        return cls(folder, manifest)

    @property
    def num_tokens(self) -> int:
        """Tokens of all documents, begin and end tokens included."""
        return self.manifest.num_tokens

    @property
    def num_documents(self) -> int:
        """Number of documents."""
        return self.manifest.num_documents

    @property
    def text_bytes(self) -> int:
        """UTF-8 bytes of the texts behind the tokens."""
        return self.manifest.text_bytes

    @property
    def vocab_size(self) -> int:
        """Every id is below this."""
        return self.manifest.vocab_size

    @property
    def tokenizer_fingerprint(self) -> str:
        """`Tokenizer.fingerprint` of the tokenizer that made the ids."""
        return self.manifest.tokenizer_fingerprint

    @functools.cached_property
    def fingerprint(self) -> str:
        """SHA-256 over the checksums of all files: equal for equal tokens in equal order."""
        return hashlib.sha256(" ".join(file.sha256 for file in self.manifest.files).encode()).hexdigest()

    def document(self, index: int) -> np.ndarray:
        """Token ids of one document, [bos] + ids + [eos]: a read-only view [t] in the stored dtype."""
        if not 0 <= index < self.num_documents:
            raise IndexError(f"document {index} of {self.num_documents}")
        shard = int(np.searchsorted(self.first_documents, index, side="right")) - 1
        ends, local = self.ends[shard], index - int(self.first_documents[shard])
        start = int(ends[local - 1]) if local else 0
        return self.tokens[shard][start : int(ends[local])]

    def document_lengths(self) -> np.ndarray:
        """Tokens of each document, begin and end tokens included: int64 [num_documents]."""
        return np.concatenate([np.diff(ends.astype(np.int64), prepend=0) for ends in self.ends])

    def __repr__(self) -> str:
        return (
            f"TokenShards({self.folder}: {self.num_documents} documents, {format_count(self.num_tokens)} tokens, "
            f"{format_bytes(self.text_bytes)} of text)"
        )


def map_file(path: Path, dtype: np.dtype, *, offset: int = 0) -> np.ndarray:
    """Memory-map a flat array that begins at this byte; nothing, which cannot be mapped, gives an empty array."""
    if path.stat().st_size <= offset:
        return np.empty(0, dtype=dtype)
    return np.memmap(path, dtype=dtype, mode="r", offset=offset).view(np.ndarray)  # slices of a memmap cost 5 µs each


def is_shard_folder(folder: Path | str) -> bool:
    """Whether the folder looks like one that `ShardWriter` wrote."""
    return (Path(folder) / MANIFEST).is_file()
