"""A document on its way through the chain."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from mamba_slm.data.curation.signals.score import TOP_SCORE
from mamba_slm.data.curation.verdict import Removed
from mamba_slm.data.document import Document


@dataclass(kw_only=True)
class Judged:
    """What becomes of one document."""

    document: Document
    """As it was read; a part of a book is a document of its own."""

    text: str
    """What stays of its text."""

    removed: Removed | None = None
    """Why it goes; None where it stays."""

    score_steps: int = 0
    """Quality in steps of 1 / 65,535; meaningless where it goes."""

    words: NDArray[np.uint64] | None = None
    """Hashes of the words of `text`, once a stage needed them; None again where the text is changed."""

    changes: dict[str, int] = field(default_factory=dict)
    """How often what was taken out, masked or found, such as "repeated lines" or "email masked"."""

    @property
    def quality(self) -> float:
        """The score in [0, 1]."""
        return self.score_steps / TOP_SCORE
