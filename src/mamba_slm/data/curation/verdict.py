"""Why a document, or a part of one, was removed: what every stage of curation says, and the funnel counts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

Kind = Literal["web", "books", "code", "docs", "chat"]
KINDS: tuple[Kind, ...] = get_args(Kind)


@dataclass(frozen=True, kw_only=True)
class Removed:
    """One reason. A stage returns None for a document that stays.

    >>> print(Removed(rule="signals.mean_word_length", value=1.5, threshold=3.0, detail="at least"))
    signals.mean_word_length: 1.5, allowed is at least 3
    >>> print(Removed(rule="duplicates.exact", detail="of doc-17"))
    duplicates.exact: of doc-17
    """

    rule: str
    """Stage and rule, such as "signals.min_words" or "duplicates.near": what the funnel counts by."""

    detail: str = ""
    """More about this case, for people: the document it copies, what was found where, which side of the threshold."""

    value: float | None = None
    """What was measured, in the rule's unit; None where nothing is."""

    threshold: float | None = None
    """The limit it broke, in the same unit."""

    def __str__(self) -> str:
        if self.value is None:
            return f"{self.rule}: {self.detail}" if self.detail else self.rule
        allowed = f"{self.detail} {self.threshold:.6g}" if self.threshold is not None else self.detail
        return f"{self.rule}: {self.value:.6g}, allowed is {allowed}"
