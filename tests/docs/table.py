"""How many commands of each page run, are planned with `--dry-run`, or are only parsed, and why: a Markdown table.

PYTHONPATH=src:tests python -m docs.table
"""

from __future__ import annotations

from pathlib import Path

from docs.executor import can_be_planned
from docs.page import blocks, commands, pages
from promises.documents import REPOSITORY, our_commands


def counts(page: Path) -> tuple[int, int, int, list[str]]:
    """Run, planned, only parsed; the reasons of what does not run."""
    run = planned = parsed = 0
    reasons: dict[str, None] = {}
    for block in blocks(page.read_text(encoding="utf-8")):
        run += block.language == "py" and block.not_run is None
        for command in commands(block):
            if block.not_run:
                reasons[block.not_run] = None
                can = any(can_be_planned(words) for words in our_commands(command.text))
                can = can and "only parsed" not in block.notes
                planned, parsed = planned + can, parsed + (not can)
            elif command.text.startswith("pip install"):
                reasons["an installation"] = None
                parsed += 1
            else:
                run += 1
    return run, planned, parsed, list(reasons)


def table() -> str:
    """Of all pages that have commands."""
    rows = ["| page | run | planned | only parsed | because |", "|---|--:|--:|--:|---|"]
    total = [0, 0, 0]
    for page in pages():
        *numbers, reasons = counts(page)
        if any(numbers):
            total = [a + b for a, b in zip(total, numbers, strict=True)]
            shown = " | ".join(map(str, numbers))
            rows.append(f"| {page.relative_to(REPOSITORY)} | {shown} | {'; '.join(reasons)} |")
    return "\n".join([*rows, f"| all | {' | '.join(map(str, total))} | |"])


if __name__ == "__main__":
    print(table())
