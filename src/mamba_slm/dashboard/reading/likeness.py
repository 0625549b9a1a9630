"""How like one document others are, by the measure of `data curate`: shingles in common / shingles in either."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

LEAST = 0.5
"""From here on a document is shown; `data curate` removes from 0.8 on, unless told otherwise."""


class Likeness:
    """Compares texts with one, exactly; white space, punctuation and case do not count."""

    def __init__(self, text: str):
        self.text = text

    @cached_property
    def shingles(self) -> NDArray[np.uint64]:
        """Of the one."""
        return shingles_of(self.text)

    def of(self, text: str) -> float:
        """The similarity of a text, in [0, 1]: 1 for the same words in the same order, 0 without any in common.

        >>> Likeness("one two three four five six").of("One, two, three, four, five; seven?")
        0.3333333333333333
        """
        import numpy as np

        own, others = self.shingles, shingles_of(text)
        common = len(np.intersect1d(own, others, assume_unique=True))
        either = len(own) + len(others) - common
        return common / either if either else 0.0


def shingles_of(text: str) -> NDArray[np.uint64]:
    """The set of hashes of every five words in a row, sorted."""
    from mamba_slm.data.curation.duplicates.batches import Texts
    from mamba_slm.data.curation.duplicates.portable import PortableKernels

    return PortableKernels().shingles(Texts.of([text.encode("utf-8", "replace")])).values
