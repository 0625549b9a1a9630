"""`mamba-slm bench --startup`: how long fresh processes take."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from mamba_slm.cli import console

DEFAULT_ROUNDS = 5


def run_startup(model: str, *, rounds: int | None, out: Path | None, as_json: bool) -> int:
    """Measure, print and write.

    Raises:
        UnknownNameError: there is no preset of this name.
        ConfigError: no rounds.
    """
    from mamba_slm.cli.bench_settings import about_this_run
    from mamba_slm.core.errors import ConfigError
    from mamba_slm.core.files import write_json_atomic
    from mamba_slm.evaluation.bench import startup

    if rounds is not None and rounds < 1:
        raise ConfigError(f"rounds must be at least 1, got {rounds}")
    with tempfile.TemporaryDirectory() as folder:
        console.say(f"writing {model} with random weights, then {rounds or DEFAULT_ROUNDS} processes of each kind")
        startup.write_model(model, Path(folder))
        measured = startup.measure_startup(Path(folder), rounds=rounds or DEFAULT_ROUNDS, say=console.say)
    results: dict[str, Any] = {**about_this_run(), "model": model, **measured}
    if out is not None:
        write_json_atomic(out, results)
    if as_json:
        console.print_json(results)
    else:
        print(console.table(startup.HEADER, startup.table_rows(results), right=startup.HEADER[1:]), flush=True)
        console.say(startup.EXPLANATION)
    return 0
