"""What a fine-tuning or alignment changed, as a table in the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mamba_slm.cli.console import say, table

if TYPE_CHECKING:
    from pathlib import Path


def say_changes(run: Path) -> None:
    """Held-out measures with their paired intervals, then benchmarks asked before and after; nothing without any."""
    from mamba_slm.runs.before_after import HEADER, NUMERIC, change_rows
    from mamba_slm.runs.evidence import read_evidence
    from mamba_slm.runs.report_before_after import changes

    if found := changes(read_evidence(run)):
        say(table([*HEADER[:-1], "95% intervals"], change_rows(found), right=NUMERIC))
