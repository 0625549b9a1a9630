"""What was read, and what was left out and why."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from mamba_slm.core.errors import DataError

KEPT_PROBLEMS = 20


@dataclass(kw_only=True)
class ReadReport:
    """Pass one to `read_documents`; it is filled while reading."""

    num_files: int = 0
    """Files read to their end."""

    num_documents: int = 0
    """Documents that came out."""

    num_empty: int = 0
    """Documents without any text but white space, left out."""

    num_problems: int = 0
    """Files or records left out because they could not be read."""

    problems: list[DataError] = field(default_factory=list)
    """The first `KEPT_PROBLEMS` of them, each with its place and a hint."""

    num_repaired: int = 0
    """Documents in which wrong bytes were repaired, because that was asked for."""

    num_repaired_characters: int = 0
    """Bytes or characters repaired in them."""

    left_out: Counter[str] = field(default_factory=Counter)
    """Records that are no documents, by what they are: redirects of a wiki, images of a crawl, …"""

    other_files: Counter[str] = field(default_factory=Counter)
    """Files of the folder that were not chosen, by suffix."""

    def add_problem(self, problem: DataError) -> None:
        """Count a problem and keep it if it is among the first."""
        self.num_problems += 1
        if len(self.problems) < KEPT_PROBLEMS:
            self.problems.append(problem)

    def add_repair(self, num_characters: int) -> None:
        """Count what was repaired in one document, if anything."""
        self.num_repaired += num_characters > 0
        self.num_repaired_characters += num_characters

    def __str__(self) -> str:
        lines = [f"{self.num_documents} documents from {self.num_files} files"]
        if self.num_empty:
            lines.append(f"{self.num_empty} without text left out")
        if self.left_out:
            kinds = ", ".join(f"{count} {kind}" for kind, count in self.left_out.most_common())
            lines.append(f"no documents, left out: {kinds}")
        if self.num_repaired:
            lines.append(f"{self.num_repaired} repaired: {self.num_repaired_characters} bytes in a wrong encoding")
        if self.other_files:
            kinds = ", ".join(f"{count} {suffix}" for suffix, count in self.other_files.most_common(5))
            lines.append(f"other files in the folder, not read: {kinds}")
        if self.num_problems:
            lines.append(f"{self.num_problems} could not be read and were left out:")
            lines += [f"  {problem}" for problem in self.problems]
            if self.num_problems > len(self.problems):
                lines.append(f"  … and {self.num_problems - len(self.problems)} more")
        return "\n".join(lines)
