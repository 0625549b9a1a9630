"""The stage: texts in, texts with their personal data masked out, or the reason why a document goes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from mamba_slm.data.curation.personal.config import PersonalConfig
from mamba_slm.data.curation.personal.find import find_spans
from mamba_slm.data.curation.personal.scanning import scan_function
from mamba_slm.data.curation.personal.span import DATA, Span
from mamba_slm.data.curation.verdict import Removed

BATCH_CHARACTERS = 1 << 18


@dataclass(frozen=True, slots=True)
class Cleaned:
    """One text after its personal data."""

    text: str
    """With masks in place of what is masked; all else is as it was."""

    found: dict[str, int]
    """How many of each kind there were, also of kinds that are kept; kinds without any are absent."""

    removed: Removed | None
    """Why the document goes; None where it stays."""


class PersonalData:
    """Finds and masks personal data. One per process and configuration; each text is judged alone.

    >>> personal = PersonalData(PersonalConfig())
    >>> personal.clean(["Write to ann@site.org."])[0].text
    'Write to [EMAIL].'
    """

    def __init__(self, config: PersonalConfig):
        self.config = config
        self._scan = scan_function()
        self._masks = {kind: config.mask_of(kind) for kind in DATA if config.action(kind) == "mask"}

    def spans(self, text: str) -> list[Span]:
        """Where personal data is, whatever is done with it: in the order of the text, without overlaps."""
        return find_spans(text, self._scan([text]).get(0, {}))

    def clean(self, texts: Sequence[str]) -> list[Cleaned]:
        """Mask, drop or keep what is found in each text."""
        cleaned: list[Cleaned] = []
        for start, end in batches(texts):
            several = texts[start:end]
            hits = self._scan(several)
            cleaned += [
                self._clean(text, find_spans(text, hits[number])) if number in hits else Cleaned(text, {}, None)
                for number, text in enumerate(several)
            ]
        return cleaned

    def _clean(self, text: str, spans: list[Span]) -> Cleaned:
        if not spans:
            return Cleaned(text, {}, None)
        counted = [span.kind for span in spans]
        found: dict[str, int] = {kind: counted.count(kind) for kind in DATA if kind in counted}
        pieces, done = [], 0
        for span in spans:
            if mask := self._masks.get(span.kind):
                pieces += [text[done : span.start], mask]
                done = span.end
        cleaned = "".join([*pieces, text[done:]])
        return Cleaned(cleaned, found, self._reason(found))

    def _reason(self, found: dict[str, int]) -> Removed | None:
        for kind in DATA:
            if kind in found and self.config.action(kind) == "drop":
                return Removed(rule=f"personal.{kind}", value=found[kind], threshold=0, detail="at most")
        return None


def batches(texts: Sequence[str]) -> Iterator[tuple[int, int]]:
    """First and last text, exclusive, of batches that fit into a processor's cache; a longer text is one alone.

    >>> list(batches(["a" * 100_000] * 3))
    [(0, 2), (2, 3)]
    """
    start, characters = 0, 0
    for number, text in enumerate(texts):
        if characters + len(text) > BATCH_CHARACTERS and number > start:
            yield start, number
            start, characters = number, 0
        characters += len(text)
    if start < len(texts):
        yield start, len(texts)
