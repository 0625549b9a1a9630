"""The unit of text: one document."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Document:
    """One text with its origin. A model is never asked to predict across the border of two documents."""

    text: str
    """The text; valid Unicode without lone surrogates."""

    id: str
    """Names the document within its source and stays the same between runs: the held-out set is chosen by it."""

    source: str = ""
    """Where it comes from: a path as given, or the name of a corpus."""

    metadata: Mapping[str, Any] = field(default_factory=dict)
    """Whatever else the record held."""

    @property
    def num_bytes(self) -> int:
        """Length of the text in UTF-8."""
        return len(self.text.encode())
