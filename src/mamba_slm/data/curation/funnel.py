"""How many documents and how much text went in, what each rule removed, and what came out; for each kind of source."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mamba_slm.core.units import format_count
from mamba_slm.data.curation.tally import Amount, Example, Tally

BYTES_PER_TOKEN = 4.1
"""Of UTF-8, for English and a vocabulary of 100,000: an estimate, until text is tokenized."""

STAGES = ("signals", "language", "profanity", "spam", "contamination", "personal", "quality", "duplicates", "lines")
"""Rules begin with these, in the order in which they are applied."""

SHOWN_EXAMPLE_CHARACTERS = 60


@dataclass(frozen=True, kw_only=True)
class FunnelRow:
    """What one rule did."""

    rule: str
    amount: Amount
    examples: tuple[Example, ...]


@dataclass(frozen=True, kw_only=True)
class Funnel:
    """The end of every curation; `str` is a table."""

    kinds: Mapping[str, Tally]
    """By kind of source, sorted."""

    quarantined: tuple[str, ...] = ()
    """Parts of the input that could not be read at all, with the error."""

    @property
    def total(self) -> Tally:
        """All kinds together."""
        total = Tally()
        for tally in self.kinds.values():
            total.add(tally)
        return total

    def rows(self, tally: Tally | None = None) -> list[FunnelRow]:
        """What was removed, stage after stage, within each the rule that removed the most documents first."""
        removed = (self.total if tally is None else tally).removed
        found = [FunnelRow(rule=rule, amount=row, examples=tuple(row.examples)) for rule, row in removed.items()]
        return sorted(found, key=lambda row: (stage_order(row.rule), -row.amount.documents, row.rule))

    def to_dict(self) -> dict[str, Any]:
        """JSON-able; `from_dict` reads it."""
        return {
            "bytes_per_token": BYTES_PER_TOKEN,
            "total": self.total.to_dict(),
            "kinds": {kind: tally.to_dict() for kind, tally in self.kinds.items()},
            "quarantined": list(self.quarantined),
        }

    @classmethod
    def from_dict(cls, found: Mapping[str, Any]) -> Funnel:
        """The funnel that `to_dict` wrote."""
        kinds = {kind: Tally.from_dict(tally) for kind, tally in found["kinds"].items()}
        return cls(kinds=kinds, quarantined=tuple(found["quarantined"]))

    def __str__(self) -> str:
        total = self.total
        lines = [("", "documents", "tokens", "of all", ""), self.line("read", total.read, total)]
        for row in self.rows():
            examples = ", ".join(example.id for example in row.examples)
            lines.append(self.line(f"- {row.rule}", row.amount, total, examples))
        if total.cleaned_bytes:
            share = f"{total.cleaned_bytes / max(1, total.read.bytes):.1%}"
            what = ", ".join(f"{format_count(count)} {name}" for name, count in total.changes.most_common())
            lines.append(("- taken out of documents that stay", "", tokens_text(total.cleaned_bytes), share, what))
        lines.append(self.line("= written", total.written, total))
        widths = [max(len(line[column]) for line in lines) for column in range(4)]
        table = [
            "  ".join([line[0].ljust(widths[0]), *(line[i].rjust(widths[i]) for i in (1, 2, 3)), line[4]]).rstrip()
            for line in lines
        ]
        return "\n".join([*table, *self.notes(total)])

    def line(self, name: str, amount: Amount, total: Tally, examples: str = "") -> tuple[str, str, str, str, str]:
        """One line of the table; the share is that of the documents."""
        share = amount.documents / max(1, total.read.documents)
        if len(examples) > SHOWN_EXAMPLE_CHARACTERS:
            examples = examples[: SHOWN_EXAMPLE_CHARACTERS - 1] + "…"
        return name, f"{amount.documents:,}", tokens_text(amount.bytes), f"{share:.1%}", examples

    def notes(self, total: Tally) -> list[str]:
        """What else there was in the input."""
        notes = []
        if total.unread:
            notes.append("not counted: " + ", ".join(f"{count:,} {what}" for what, count in total.unread.most_common()))
            notes += [f"  {problem}" for problem in total.problems[:EXAMPLE_PROBLEMS]]
        notes += [f"left out after all attempts failed: {one}" for one in self.quarantined]
        notes.append(f"tokens are estimated: {BYTES_PER_TOKEN} bytes each")
        return notes


EXAMPLE_PROBLEMS = 5


def stage_order(rule: str) -> int:
    """Where the stage of a rule stands."""
    stage = rule.partition(".")[0]
    return STAGES.index(stage) if stage in STAGES else len(STAGES)


def tokens_text(num_bytes: int) -> str:
    """About how many tokens so much text is.

    >>> tokens_text(41_000_000)
    '10.0M'
    """
    return format_count(round(num_bytes / BYTES_PER_TOKEN))
