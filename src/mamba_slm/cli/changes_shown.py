"""What a fine-tuning or alignment changed, as a table in the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mamba_slm.cli.console import say, table

if TYPE_CHECKING:
    from pathlib import Path


def say_changes(run: Path) -> None:
    """The measures of RUN/before_after.json with their paired intervals; nothing where the run has none."""
    from mamba_slm.runs.before_after import FILE, HEADER, NUMERIC, change_rows, read_changes

    path = run / FILE
    if path.is_file() and (changes := read_changes(path)):
        say(table([*HEADER[:-1], "95% intervals"], change_rows(changes), right=NUMERIC))
