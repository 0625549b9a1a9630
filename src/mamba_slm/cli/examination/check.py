"""One line of the examination: what was found, what it costs here, and the command that mends it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Status = Literal["ok", "note", "missing"]
Effort = Literal["none", "quick", "thorough"]
"""How much is measured: nothing; what takes seconds; also what takes a minute."""

MARKS = {"ok": ("✓", "green"), "note": ("⚠", "yellow"), "missing": ("✗", "red")}
SECTIONS = ("machine", "python", "settings", "kernels", "compilers", "extras", "plugins", "speed")


@dataclass(frozen=True, kw_only=True)
class Check:
    """A finding."""

    section: str
    """One of `SECTIONS`."""

    name: str

    status: Status = "ok"
    """`note` can be lived with; `missing` stops the program from working."""

    text: str

    cost: str = ""
    """What is lost here: a measured figure, "nothing here: …", or "not measured: …"; empty where nothing is amiss."""

    hint: str = ""
    """The command that mends it."""

    measured: dict[str, float] = field(default_factory=dict)
    """Numbers behind text and cost, units in their names; empty where nothing was measured."""

    about_speed: bool = False
    """Whether mending it makes something faster, and nothing else."""

    def __str__(self) -> str:
        line = f"{MARKS[self.status][0]} {self.name:<9} {self.text}"
        return f"{line}\n            mend it: {self.hint}" if self.hint and self.status != "ok" else line


def times(factor: float) -> str:
    """A ratio as people say it.

    >>> times(1.724), times(14.2), times(163.0)
    ('1.7x', '14x', '163x')
    """
    return f"{factor:.1f}x" if factor < 9.95 else f"{factor:.0f}x"
