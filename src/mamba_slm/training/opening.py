"""The directory of a run: opened or begun anew, its log, its status and its record."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Literal

from mamba_slm.core.errors import DiskFullError, MambaSlmError, UsageError
from mamba_slm.runs.layout import RunDirectory, default_home, is_run
from mamba_slm.runs.metrics import read_metrics
from mamba_slm.runs.record import RunRecord, read_record, write_record
from mamba_slm.runs.status import StatusWriter


def open_run(run: str | os.PathLike[str] | None, name: str, *, is_resumed: bool) -> RunDirectory:
    """The directory to train in.

    Raises:
        UsageError: nothing to resume, or something in the way of a new run.
    """
    if run is None:
        if is_resumed:
            raise UsageError("which run is to be resumed?", hint="mamba-slm train --resume RUN; mamba-slm runs list")
        return RunDirectory.create_new(default_home(), name)
    if is_resumed or has_not_begun(RunDirectory(Path(run))):
        return RunDirectory.open(run)
    return RunDirectory.create(run)


def has_not_begun(run: RunDirectory) -> bool:
    """Whether the folder holds a run that took no step, such as one whose data turned out to be unusable."""
    return is_run(run.path) and run.latest() is None and not read_metrics(run.metrics_file)


def clear(run: RunDirectory) -> None:
    """Remove what a run that took no step has left, so that it can begin anew with other settings."""
    for file in (
        run.config_file,
        run.record_file,
        run.data_file,
        run.tokenizer_file,
        run.events_file,
        run.samples_file,
        run.benchmarks_file,
    ):
        file.unlink(missing_ok=True)
    shutil.rmtree(run.path / "data", ignore_errors=True)


def say_on_stderr(text: str) -> None:
    """One line for people."""
    print(text, file=sys.stderr, flush=True)


def logged(run: RunDirectory, say: Callable[[str], None]) -> Callable[[str], None]:
    """`say` that writes to log.txt as well."""

    def say_and_log(text: str) -> None:
        say(text)
        with run.log_file.open("a", encoding="utf-8") as log:
            log.write(text + "\n")

    return say_and_log


@contextlib.contextmanager
def status_kept(run: RunDirectory) -> Iterator[StatusWriter]:
    """Keep status.json true, whatever ends the block."""
    status = StatusWriter(run.status_file)
    status.update("running", step=0, message="preparing")

    def ended(state: Literal["failed", "stopped"], message: str) -> None:
        reached = run.latest()
        with contextlib.suppress(DiskFullError):  # what ended the run may be that very disk, and counts more
            status.update(state, step=int(reached.name.removeprefix("step-")) if reached else 0, message=message)

    try:
        yield status
    except KeyboardInterrupt:
        ended("stopped", "aborted without saving")
        raise
    except Exception as error:
        message = error.message if isinstance(error, MambaSlmError) else f"{type(error).__name__}: {error}"
        ended("failed", message)
        with contextlib.suppress(OSError), run.log_file.open("a", encoding="utf-8") as log:
            hint = f"hint: {error.hint}\n" if isinstance(error, MambaSlmError) and error.hint else ""
            log.write(f"error: {message}\n{hint}")
        raise


def open_record(run: RunDirectory, kind: str, command: Sequence[str]) -> RunRecord:
    """The record of the run: that of its first start, or a new one."""
    if run.record_file.is_file():
        return read_record(run.record_file)
    record = RunRecord.new(id=run.name, kind=kind, command=command)
    write_record(run.record_file, record)
    return record
