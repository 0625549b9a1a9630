"""The hot loops: compiled C++ where there is a compiler, else numpy, with the same result to the last bit."""

from __future__ import annotations

import functools
import logging
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from mamba_slm.core.errors import SetupError
from mamba_slm.data.curation.duplicates.batches import Texts
from mamba_slm.data.curation.duplicates.config import DuplicatesConfig

KernelChoice = Literal["auto", "native", "numpy"]
SELF_TEST = (
    "",
    "Hello, hello world!",
    "ÉLAN vital 漢字かな e\u0301 \u00ad" * 9,
    "One two  three-four five six. " * 3,
    "ß" * 20,
)
log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Signatures:
    """What is kept of texts to find duplicates."""

    content: NDArray[np.uint64]
    """[texts, 2] 128 bits of the words in order."""

    num_words: NDArray[np.int64]

    keys: NDArray[np.uint64]
    """[texts, bands] one hash per band; without a meaning for texts without words."""


@dataclass(frozen=True, kw_only=True)
class ShingleSets:
    """Sets of shingle hashes, each in ascending order, one after the other."""

    values: NDArray[np.uint64]
    offsets: NDArray[np.int64]

    def sizes(self) -> NDArray[np.int64]:
        """How many shingles each set has."""
        return np.diff(self.offsets)


class Kernels(Protocol):
    """One way to compute what `definition.py` defines."""

    def hash_bytes(self, texts: Texts, seed: int) -> NDArray[np.uint64]:
        """[texts, 2] 128 bits of each text's bytes."""
        ...

    def sign(self, texts: Texts, config: DuplicatesConfig) -> Signatures:
        """Content hash, number of words and band keys of each text."""
        ...

    def shingles(self, texts: Texts) -> ShingleSets:
        """The shingle set of each text."""
        ...

    def sort(self, keys: NDArray[np.uint64]) -> NDArray[np.int64]:
        """Sort hashes in place and return where each was; equal ones stay in their order."""
        ...

    def shared(self, sets: ShingleSets, first: NDArray[np.int64], second: NDArray[np.int64]) -> NDArray[np.int64]:
        """How many shingles the sets number `first[i]` and `second[i]` share."""
        ...


@functools.cache
def kernels(choice: KernelChoice = "auto") -> Kernels:
    """The kernels to use; with "auto" the choice is logged once with its reason.

    Raises:
        SetupError: "native" was asked for, and it cannot be compiled or is wrong on this machine.
    """
    from mamba_slm.data.curation.duplicates.portable import PortableKernels

    portable = PortableKernels()
    if choice == "numpy":
        return portable
    try:
        from mamba_slm.data.curation.duplicates.native import NativeKernels

        native = NativeKernels()
        if (wrong := difference(native, portable)) is not None:
            raise SetupError(
                f"the compiled kernel for duplicates is wrong on this machine: {wrong}",
                hint="please report it with the output of `mamba-slm doctor`",
            )
    except SetupError as error:
        if choice == "native":
            raise
        log.info("duplicates: numpy, many times slower (%s)", error)
        return portable
    log.info("duplicates: C++ compiled for this processor (same results as numpy)")
    return native


def difference(kernels: Kernels, reference: Kernels) -> str | None:
    """What differs between two kernels on a few short texts, or None."""
    texts, config = Texts.of([text.encode() for text in SELF_TEST]), DuplicatesConfig()
    first, second = (
        {
            "hash_bytes": [each.hash_bytes(texts, 7)],
            "sign": [signed.content, signed.num_words, signed.keys],
            "shingles": [sets.values, sets.offsets],
            "sort": [each.sort(signed.keys.ravel()), np.sort(signed.keys.ravel())],
            "shared": [each.shared(sets, *np.indices((len(texts), len(texts)), np.int64).reshape(2, -1))],
        }
        for each in (kernels, reference)
        for signed, sets in [(each.sign(texts, config), each.shingles(texts))]
    )
    for name, arrays in first.items():
        if not all(np.array_equal(a, b) for a, b in zip(arrays, second[name], strict=True)):
            return f"{name} differs"
    return None
