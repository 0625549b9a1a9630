"""What fine-tuning and alignment learn from, whatever form it was written in."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from mamba_slm.text.chat import Message

SHOWN_PLACES = 3
T = TypeVar("T")


@dataclass(frozen=True)
class Conversation:
    """Messages that end with an answer."""

    messages: tuple[Message, ...]
    """`{"role": …, "content": …}` each: a system message or none, then users and answers in turn; tools between."""

    origin: str
    """Where it stands: "file.jsonl, line 12" or "file.json, item 12 (line 80)"."""

    is_plain: bool = False
    """One text that is no conversation: its one message is encoded as a document, without a template."""


@dataclass(frozen=True)
class Preference:
    """Two continuations of one conversation, of which people liked one better."""

    prompt: tuple[Message, ...]
    chosen: tuple[Message, ...]
    """What comes after the prompt; its last message is an answer."""
    rejected: tuple[Message, ...]
    origin: str


@dataclass(frozen=True)
class Labelled:
    """One continuation, and whether it is good."""

    prompt: tuple[Message, ...]
    completion: tuple[Message, ...]
    is_good: bool
    origin: str


@dataclass(frozen=True)
class Prompt:
    """A conversation that waits for an answer, and what can be known about it."""

    messages: tuple[Message, ...]
    answer: str | None
    """What a right answer comes to, for rewards that compare; None where the record has none."""
    origin: str
    fields: Mapping[str, Any]
    """The whole record, for rewards of one's own."""


@dataclass(frozen=True)
class Problem:
    """A record that was left out, and why."""

    kind: str
    """For counting: "empty answer", "roles in the wrong order", …"""
    origin: str
    what: str

    def __str__(self) -> str:
        return f"{self.origin}: {self.what}"


@dataclass(frozen=True, kw_only=True)
class Examples(Generic[T]):
    """What was read, and what was not."""

    items: tuple[T, ...]
    source: str
    """As the user named it."""
    form: str
    """One of `forms.FORMS`."""
    reason: str
    """Why it was read as this form."""
    problems: tuple[Problem, ...] = ()
    """Records that were left out."""
    unread: Mapping[str, int] = field(default_factory=dict)
    """Fields that mean nothing in this form, and how many records have them."""

    def __len__(self) -> int:
        return len(self.items)

    def __str__(self) -> str:
        """What is said when it has been read: one line, and one for every kind of problem and the unread fields."""
        lines = [f"{self.source}: {len(self.items):,} examples, {self.form} form ({self.reason})"]
        for kind, count in Counter(problem.kind for problem in self.problems).most_common():
            first = [str(problem) for problem in self.problems if problem.kind == kind][:SHOWN_PLACES]
            lines.append(f"left out {count:,}: {kind}")
            lines += [f"  {place}" for place in first]
            if count > len(first):
                lines.append(f"  … and {count - len(first):,} more")
        if self.unread:
            names = ", ".join(f"{name} ({count:,})" for name, count in self.unread.items())
            lines.append(f"fields that are not read: {names}")
        return "\n".join(lines)


class Unusable(Exception):
    """Why a record cannot become an example."""

    def __init__(self, kind: str, what: str):
        super().__init__(what)
        self.kind, self.what = kind, what
