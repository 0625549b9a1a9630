"""`signatures.cpp` behind the interface of `Kernels`."""

from __future__ import annotations

import ctypes
import functools
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mamba_slm.core.errors import OutOfMemoryError
from mamba_slm.core.native import declare, load_library
from mamba_slm.data.curation.duplicates.batches import Texts
from mamba_slm.data.curation.duplicates.characters import character_table
from mamba_slm.data.curation.duplicates.config import DuplicatesConfig
from mamba_slm.data.curation.duplicates.constants import (
    CONTENT_SEED,
    WORD_FACTOR_ARRAY,
    padded,
    permutation_factors,
    permutation_flips,
)
from mamba_slm.data.curation.duplicates.kernels import ShingleSets, Signatures

POINTER, SIZE, BITS = ctypes.c_void_p, ctypes.c_int64, ctypes.c_uint64


@functools.cache
def library() -> ctypes.CDLL:
    """The compiled functions with their arguments declared."""
    found = load_library(Path(__file__).with_name("signatures.cpp"))
    texts = (POINTER, POINTER, SIZE)
    declare(found, "duplicates_hash_bytes", *texts, BITS, POINTER)
    signing = (*texts, POINTER, POINTER, BITS, POINTER, POINTER, SIZE, SIZE, SIZE, POINTER, POINTER, POINTER)
    declare(found, "duplicates_sign", *signing, result=SIZE)
    declare(found, "duplicates_shingles", *texts, POINTER, POINTER, POINTER, POINTER, result=SIZE)
    declare(found, "duplicates_sort", POINTER, SIZE, POINTER, result=SIZE)
    declare(found, "duplicates_shared", POINTER, POINTER, POINTER, POINTER, SIZE, POINTER)
    return found


def pointers_of(texts: Texts) -> tuple[int, int, int]:
    """A block of texts as C arguments; `texts` has to outlive the call."""
    assert texts.data.flags.c_contiguous and texts.offsets.flags.c_contiguous
    assert texts.data.dtype == np.uint8 and texts.offsets.dtype == np.int64
    return texts.data.ctypes.data, texts.offsets.ctypes.data, len(texts)


class NativeKernels:
    """Compiled C++.

    Raises:
        SetupError: it cannot be compiled or loaded here.
    """

    def __init__(self) -> None:
        self.library = library()

    def hash_bytes(self, texts: Texts, seed: int) -> NDArray[np.uint64]:
        """As `Kernels.hash_bytes`."""
        out = np.empty((len(texts), 2), np.uint64)
        self.library.duplicates_hash_bytes(*pointers_of(texts), seed, out.ctypes.data)
        return out

    def sign(self, texts: Texts, config: DuplicatesConfig) -> Signatures:
        """As `Kernels.sign`."""
        content = np.empty((len(texts), 2), np.uint64)
        num_words = np.empty(len(texts), np.int64)
        keys = np.empty((len(texts), config.bands), np.uint64)
        failed = self.library.duplicates_sign(
            *pointers_of(texts),
            character_table().ctypes.data,
            WORD_FACTOR_ARRAY.ctypes.data,
            CONTENT_SEED,
            permutation_factors(config).ctypes.data,
            permutation_flips(config).ctypes.data,
            padded(config),
            config.bands,
            config.rows,
            content.ctypes.data,
            num_words.ctypes.data,
            keys.ctypes.data,
        )
        refuse_short_memory(failed, texts)
        return Signatures(content=content, num_words=num_words, keys=keys)

    def shingles(self, texts: Texts) -> ShingleSets:
        """As `Kernels.shingles`."""
        room = np.empty(len(texts.data) // 2 + len(texts) + 1, np.uint64)
        sizes = np.empty(len(texts), np.int64)
        failed = self.library.duplicates_shingles(
            *pointers_of(texts),
            character_table().ctypes.data,
            WORD_FACTOR_ARRAY.ctypes.data,
            room.ctypes.data,
            sizes.ctypes.data,
        )
        refuse_short_memory(failed, texts)
        offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes)])
        return ShingleSets(values=room[: offsets[-1]].copy(), offsets=offsets)

    def sort(self, keys: NDArray[np.uint64]) -> NDArray[np.int64]:
        """As `Kernels.sort`."""
        assert keys.flags.c_contiguous and keys.dtype == np.uint64
        places = np.empty(len(keys), np.int64)
        if self.library.duplicates_sort(keys.ctypes.data, len(keys), places.ctypes.data):
            raise OutOfMemoryError(f"no memory to sort {len(keys):,} hashes", hint="use a smaller memory_bytes")
        return places

    def shared(self, sets: ShingleSets, first: NDArray[np.int64], second: NDArray[np.int64]) -> NDArray[np.int64]:
        """As `Kernels.shared`."""
        first, second = np.ascontiguousarray(first, np.int64), np.ascontiguousarray(second, np.int64)
        out = np.empty(len(first), np.int64)
        sides = (first.ctypes.data, second.ctypes.data, len(first), out.ctypes.data)
        self.library.duplicates_shared(sets.values.ctypes.data, sets.offsets.ctypes.data, *sides)
        return out


def refuse_short_memory(failed: int, texts: Texts) -> None:
    """Raise what the kernel cannot."""
    if failed:
        longest = int(np.diff(texts.offsets).max(initial=0))
        raise OutOfMemoryError(
            f"no memory for the words of a text of {longest:,} bytes",
            hint="drop documents of more than 1M characters before looking for duplicates",
        )
