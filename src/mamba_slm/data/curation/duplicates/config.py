"""What counts as a near-duplicate, and how hard it is looked for."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from mamba_slm.core.errors import ConfigError

SHINGLE_WORDS = 5
"""A constant, not a setting: other lengths would need their own thresholds and their own proof of recall."""

MIB = 1 << 20
LARGEST_MISS = 0.005


@dataclass(frozen=True, kw_only=True)
class DuplicatesConfig:
    """Duplicates by exact Jaccard of 5-word shingles; MinHash bands only decide which pairs are compared."""

    threshold: float = 0.8
    """Two documents are near-duplicates when their Jaccard similarity is at least this, in (0, 1]."""

    bands: int = 28
    """Groups of MinHash values; two documents are compared when all values of a group agree."""

    rows: int = 7
    """MinHash values per band."""

    group_limit: int = 1000
    """Within a band, up to this many documents are compared each with each; more only with their nearest in it."""

    memory_bytes: int = 256 * MIB
    """About what one task holds at once, besides the Python process; at least 16 MiB."""

    def __post_init__(self):
        if not 0 < self.threshold <= 1:
            raise ConfigError(f"threshold must lie in (0, 1], got {self.threshold}", hint="0.8 is usual")
        for name in ("bands", "rows"):
            if not 1 <= getattr(self, name) <= 256:
                raise ConfigError(f"{name} must lie in 1 to 256, got {getattr(self, name)}")
        if self.group_limit < 2:
            raise ConfigError(f"group_limit must be at least 2, got {self.group_limit}")
        if self.memory_bytes < 16 * MIB:
            raise ConfigError(f"memory_bytes must be at least 16 MiB, got {self.memory_bytes}", hint="256 MiB is usual")
        if (miss := self.miss_probability(self.threshold)) >= LARGEST_MISS:
            raise ConfigError(
                f"{self.bands} bands of {self.rows} rows miss {miss:.1%} of the pairs at threshold {self.threshold}",
                hint=f"use more bands or fewer rows: at most {LARGEST_MISS:.1%} may be missed",
            )

    @property
    def permutations(self) -> int:
        """MinHash values per document."""
        return self.bands * self.rows

    @property
    def exact_threshold(self) -> Fraction:
        """The threshold as it was written: 4/5, not the nearest binary fraction."""
        return Fraction(str(self.threshold))

    def miss_probability(self, similarity: float) -> float:
        """Chance that no band of two documents agrees, so that they are never compared.

        A MinHash value agrees with the probability of the similarity s, so it is (1 - s ** rows) ** bands.

        >>> f"{DuplicatesConfig().miss_probability(0.8):.5f}"
        '0.00137'
        """
        return (1 - similarity**self.rows) ** self.bands
