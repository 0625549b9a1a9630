"""What a task counts: documents in, removed by each rule with examples, out. Tallies of tasks add up in any order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from mamba_slm.data.curation.quantile import document_hashes
from mamba_slm.data.curation.verdict import Removed
from mamba_slm.runs.markdown import printable

COUNTERS = ("changes", "unread", "lengths_read", "lengths_written", "scores")
EXAMPLES = 3
EXAMPLE_CHARACTERS = 240


@dataclass(kw_only=True)
class Amount:
    """So many documents, and their text."""

    documents: int = 0
    bytes: int = 0
    """In UTF-8."""

    def add(self, documents: int, num_bytes: int) -> None:
        """Count more."""
        self.documents += documents
        self.bytes += num_bytes


@dataclass(frozen=True, kw_only=True, order=True)
class Example:
    """A removed document. Those with the smallest hashes are shown: a sample, the same for any order of tasks."""

    hash: int
    source: str
    id: str
    reason: str
    text: str
    """How it begins."""


@dataclass(kw_only=True)
class Removals(Amount):
    """What one rule removed."""

    examples: list[Example] = field(default_factory=list)

    def show(self, example: Example) -> None:
        """Keep it if it is among the first."""
        self.examples = sorted({*self.examples, example})[:EXAMPLES]

    @property
    def is_full_below(self) -> int | None:
        """A document whose hash is at least this is no example; None where any is."""
        return self.examples[-1].hash if len(self.examples) == EXAMPLES else None


@dataclass(kw_only=True)
class Tally:
    """What happened to the documents of a task, or of many."""

    read: Amount = field(default_factory=Amount)
    """Documents with text in them; the parts of a book that is cut count one by one."""

    removed: dict[str, Removals] = field(default_factory=dict)
    """By rule; text removed before it was cleaned counts as it came, later as it was then."""

    written: Amount = field(default_factory=Amount)

    cleaned_bytes: int = 0
    """Taken out of documents that passed the chain: repeated lines, the difference between masks and what they hide."""

    changes: Counter[str] = field(default_factory=Counter)
    """How often what was taken out or masked."""

    lengths_read: Counter[int] = field(default_factory=Counter)
    """Documents by the power of two at or below their bytes: 10 for 1,024 to 2,047."""

    lengths_written: Counter[int] = field(default_factory=Counter)

    scores: Counter[int] = field(default_factory=Counter)
    """Documents that passed the chain, by their score in hundredths, rounded down."""

    problems: list[str] = field(default_factory=list)
    """What could not be read: the first of each part, with their places."""

    unread: Counter[str] = field(default_factory=Counter)
    """Records that are no documents, or could not be read, by what they are."""

    def count_read(self, num_bytes: int) -> None:
        """One more document."""
        self.read.add(1, num_bytes)
        self.lengths_read[num_bytes.bit_length() - 1] += 1

    def count_written(self, num_bytes: int) -> None:
        """One more document is in the result."""
        self.written.add(1, num_bytes)
        self.lengths_written[num_bytes.bit_length() - 1] += 1

    def count_removed(self, removed: Removed, *, id: str, source: str, text: str, num_bytes: int) -> None:
        """One more document goes."""
        removals = self.removed.setdefault(removed.rule, Removals())
        removals.add(1, num_bytes)
        hash = int(document_hashes([id])[0])
        if removals.is_full_below is None or hash <= removals.is_full_below:
            start = printable(" ".join(text[:EXAMPLE_CHARACTERS].split()))
            removals.show(Example(hash=hash, source=source, id=id, reason=str(removed), text=start))

    def change_examples(self, change: Callable[[str], str]) -> None:
        """Show other texts than the documents'."""
        for removals in self.removed.values():
            removals.examples = [replace(one, text=change(one.text)) for one in removals.examples]

    def add(self, other: Tally) -> None:
        """Count everything of another tally, too."""
        for mine, theirs in ((self.read, other.read), (self.written, other.written)):
            mine.add(theirs.documents, theirs.bytes)
        for rule, theirs in other.removed.items():
            removals = self.removed.setdefault(rule, Removals())
            removals.add(theirs.documents, theirs.bytes)
            for example in theirs.examples:
                removals.show(example)
        self.cleaned_bytes += other.cleaned_bytes
        for name in COUNTERS:
            getattr(self, name).update(getattr(other, name))
        self.problems += other.problems

    def to_dict(self) -> dict[str, Any]:
        """JSON-able, with sorted keys; `from_dict` reads it."""
        counters = {name: dict(sorted(getattr(self, name).items())) for name in COUNTERS}
        removed = {rule: asdict(row) for rule, row in sorted(self.removed.items())}
        return {
            "read": asdict(self.read),
            "written": asdict(self.written),
            "removed": removed,
            "cleaned_bytes": self.cleaned_bytes,
            **counters,
            "problems": list(self.problems),
        }

    @classmethod
    def from_dict(cls, found: Mapping[str, Any]) -> Tally:
        """The tally that `to_dict` wrote."""
        return cls(
            read=Amount(**found["read"]),
            written=Amount(**found["written"]),
            removed={
                rule: Removals(**{**row, "examples": [Example(**example) for example in row["examples"]]})
                for rule, row in found["removed"].items()
            },
            cleaned_bytes=found["cleaned_bytes"],
            changes=Counter(found["changes"]),
            unread=Counter(found["unread"]),
            problems=list(found["problems"]),
            **{
                name: Counter({int(key): count for key, count in found[name].items()})
                for name in ("lengths_read", "lengths_written", "scores")
            },
        )
