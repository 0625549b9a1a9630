"""The constants of all hashes, as arrays: each from its own stream of splitmix64."""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import NDArray

from mamba_slm.data.curation.duplicates.config import DuplicatesConfig
from mamba_slm.data.curation.duplicates.definition import WORD_FACTORS, random_words

LANES = 16
"""MinHash values are computed this many at a time."""

RAW_SEED, CONTENT_SEED, ID_SEED = random_words(3, 3)
WORD_FACTOR_ARRAY = np.array(WORD_FACTORS, np.uint64)


@functools.cache
def permutation_factors(config: DuplicatesConfig) -> NDArray[np.uint32]:
    """Odd numbers, one per MinHash value, padded to `LANES`."""
    return np.array(random_words(4, padded(config)), np.uint64).astype(np.uint32) | np.uint32(1)


@functools.cache
def permutation_flips(config: DuplicatesConfig) -> NDArray[np.uint32]:
    """What the 32-bit shingles are flipped with before they are multiplied, padded to `LANES`."""
    return np.array(random_words(5, padded(config)), np.uint64).astype(np.uint32)


def padded(config: DuplicatesConfig) -> int:
    """MinHash values per document that are computed."""
    return -(-config.permutations // LANES) * LANES
