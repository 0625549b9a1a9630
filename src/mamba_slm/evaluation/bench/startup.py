"""How long fresh processes take: to import the package, to print the help, to the first generated token."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from mamba_slm.core.errors import CheckFailedError

IMPORT_TIMED = "import time; start = time.perf_counter(); import mamba_slm; print(time.perf_counter() - start)"
CLI = "import sys; from mamba_slm.cli.main import main; sys.exit(main(sys.argv[1:]))"
LIMIT_SECONDS = {"import mamba_slm": 0.050, "mamba-slm --help": 0.150, "first token": 2.0}
HEADER = ("what", "limit ms", "median ms", "worst ms", "after eviction ms", "first ms", "rounds")
EXPLANATION = """\
median   of fresh processes one after the other, so their files are in the file cache of the system: a warm start
evicted  before one more process, the system was asked to forget the cached files of Python's packages and of the
         model; it keeps those that another program has mapped, so this is a lower bound for a start after booting
first    the first process of the measurement, whatever the cache held before it
import   the time of the statement within the process; the others are whole processes, the interpreter included"""


def write_model(model: str, folder: Path) -> None:
    """A model folder of a preset with random weights, and a tokenizer of bytes.

    Raises:
        UnknownNameError: there is no such preset.
    """
    from mamba_slm.model.checkpoint import save_model
    from mamba_slm.model.init import build_model
    from mamba_slm.model.presets import preset
    from mamba_slm.text.train_tokenizer import SMALLEST_VOCABULARY, train_tokenizer

    save_model(build_model(preset(model), seed=0), folder)
    train_tokenizer(["merged merged"], vocab_size=SMALLEST_VOCABULARY + 1).save(folder)


def measure_startup(
    folder: Path, *, rounds: int, say: Callable[[str], None], packages: Sequence[Path] | None = None
) -> dict[str, Any]:
    """Each kind of start in fresh processes, `rounds` times warm and once after asking for an empty file cache.

    Args:
        folder: a model folder.
        packages: whose files are forgotten, too; None: all packages of this interpreter.

    Raises:
        CheckFailedError: a process failed.
    """
    first_token = [sys.executable, "-c", CLI, "generate", str(folder), "text", "--max-new-tokens", "1", "--quiet"]
    starts: dict[str, Callable[[], float]] = {
        "import mamba_slm": lambda: float(output_of([sys.executable, "-c", IMPORT_TIMED])),
        "mamba-slm --help": lambda: process_seconds([sys.executable, "-c", CLI, "--help"]),
        "first token": lambda: process_seconds(first_token),
    }
    rows = []
    for name, start in starts.items():
        first = start()
        warm = [start() for _ in range(rounds)]
        evicted = start() if evict([folder, *(package_folders() if packages is None else packages)]) else None
        median = statistics.median(warm)
        rows.append(
            {
                "what": name,
                "limit_seconds": LIMIT_SECONDS[name],
                "first_seconds": first,
                "seconds": warm,
                "median_seconds": median,
                "evicted_seconds": evicted,
            }
        )
        say(f"{name}: {1e3 * median:,.0f} ms")
    return {"load_average": round(os.getloadavg()[0], 2), "starts": rows}


def output_of(command: list[str]) -> str:
    """What a process prints.

    Raises:
        CheckFailedError: it failed.
    """
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise CheckFailedError(f"a process that was to be timed ended with exit code {done.returncode}: {done.stderr}")
    return done.stdout


def process_seconds(command: list[str]) -> float:
    """From its start to its end."""
    started = time.perf_counter()
    output_of(command)
    return time.perf_counter() - started


def package_folders() -> list[Path]:
    """Where the packages of this interpreter lie, ours included."""
    return [Path(__file__).parents[2], *(Path(each) for each in sys.path if each.endswith("site-packages"))]


def evict(folders: Iterable[Path]) -> bool:
    """Ask the system to forget what it has cached of the files below; False where it cannot be asked."""
    if not hasattr(os, "posix_fadvise"):
        return False
    os.sync()  # what is not written yet cannot be forgotten
    for folder in folders:
        for path in folder.rglob("*"):
            if path.is_file() and os.access(path, os.R_OK):
                descriptor = os.open(path, os.O_RDONLY)
                try:
                    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
                finally:
                    os.close(descriptor)
    return True


def table_rows(results: dict[str, Any]) -> list[list[str]]:
    """The starts under HEADER."""
    return [
        [
            f"{row['what']}, {results['model']}" if row["what"] == "first token" else row["what"],
            milliseconds(row["limit_seconds"]),
            milliseconds(row["median_seconds"]),
            milliseconds(max(row["seconds"])),
            milliseconds(row["evicted_seconds"]),
            milliseconds(row["first_seconds"]),
            str(len(row["seconds"])),
        ]
        for row in results["starts"]
    ]


def milliseconds(seconds: float | None) -> str:
    """For a table; nothing where nothing was measured."""
    return "" if seconds is None else f"{1e3 * seconds:,.0f}"
