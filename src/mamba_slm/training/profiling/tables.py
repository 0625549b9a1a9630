"""From what a profiler counted to tables for people. Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from mamba_slm.runs.markdown import markdown_table
from mamba_slm.training.profiling.steps import StepRange

MOST_OPERATIONS = 15
NAME_CHARACTERS = 60


@dataclass(frozen=True, kw_only=True)
class Operation:
    """One kind of operation in the steps that were traced."""

    name: str
    calls: int
    seconds: float
    """Its own, without operations that it called."""


@dataclass(frozen=True, kw_only=True)
class KindTime:
    """One part of a step."""

    name: str
    forward_seconds: float
    backward_seconds: float
    calls: int
    """Forward passes through a sublayer of the kind; with gradient checkpointing each counts twice."""

    @property
    def seconds(self) -> float:
        """Both passes."""
        return self.forward_seconds + self.backward_seconds


@dataclass(frozen=True, kw_only=True)
class Profile:
    """Where the time of some steps went."""

    steps: StepRange
    device: str
    """Whose time this is."""

    wall_seconds: float
    """From the beginning of the first step to the end of the last, with what was due between them."""

    kinds: Sequence[KindTime]
    """By kind of sublayer; empty where they have no names."""

    head_seconds: float
    """Forward pass outside of sublayers: embedding, final norm, head and loss."""

    optimizer_seconds: float
    operations: Sequence[Operation]
    """Those that took longest, longest first."""

    trace: str
    """Name of the trace file."""

    @property
    def other_seconds(self) -> float:
        """What no other part accounts for."""
        named = sum(kind.seconds for kind in self.kinds) + self.head_seconds + self.optimizer_seconds
        return max(0.0, self.wall_seconds - named)

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return {"format_version": 1, **asdict(self), "other_seconds": self.other_seconds}


def kind_table(profile: Profile) -> str:
    """Milliseconds per step by kind of sublayer."""
    steps = profile.steps.count

    def shown(seconds: float) -> str:
        return f"{1000 * seconds / steps:.1f}"

    def row(name: str, seconds: float, forward: str = "", backward: str = "", calls: str = "") -> list[str]:
        return [name, calls, forward, backward, shown(seconds), f"{seconds / max(profile.wall_seconds, 1e-9):.1%}"]

    rows = [
        row(
            kind.name,
            kind.seconds,
            shown(kind.forward_seconds),
            shown(kind.backward_seconds),
            f"{kind.calls / steps:g}",
        )
        for kind in profile.kinds
    ]
    outside = "embedding, head and loss" if profile.kinds else "forward pass"
    rows.append(row(outside, profile.head_seconds, shown(profile.head_seconds)))
    rows.append(row("optimiser step", profile.optimizer_seconds))
    rows.append(row("everything else", profile.other_seconds))
    rows.append(row("whole step", profile.wall_seconds))
    header = ["part", "passes", "forward ms", "backward ms", "ms per step", "share"]
    return markdown_table(header, rows, right=header[1:])


def operation_table(profile: Profile) -> str:
    """The most expensive operations."""
    steps = profile.steps.count
    rows = [
        [
            f"`{operation.name[:NAME_CHARACTERS]}`",
            f"{operation.calls / steps:,.0f}",
            f"{1000 * operation.seconds / steps:.2f}",
            f"{operation.seconds / max(profile.wall_seconds, 1e-9):.1%}",
        ]
        for operation in profile.operations[:MOST_OPERATIONS]
    ]
    header = ["operation", "calls per step", "own ms per step", "share"]
    return markdown_table(header, rows, right=header[1:])


def profile_text(profile: Profile) -> str:
    """All of it as Markdown."""
    return (
        f"# Profile of steps {profile.steps.first} to {profile.steps.last}\n\n"
        f"Time of the {profile.device}; the profiler itself makes steps slower, so compare shares, not milliseconds. "
        f"The trace, `{profile.trace}`, opens in https://ui.perfetto.dev or chrome://tracing.\n\n"
        f"## By kind of sublayer\n\n{kind_table(profile)}\n\n"
        "Everything else: the backward pass outside of sublayers, clipping, data, metrics, and the profiler.\n\n"
        f"## The most expensive operations\n\n{operation_table(profile)}\n"
    )
