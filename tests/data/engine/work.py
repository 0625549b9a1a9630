"""What the tasks of these tests do. Workers import it."""

import ctypes
import functools
import os
import signal
import threading
from pathlib import Path

from mamba_slm.core.errors import DataError
from mamba_slm.core.files import folder_written_atomically, write_json_atomic
from mamba_slm.data.engine.task import Task


def write(out: Path, text: str) -> None:
    """A folder with two files."""
    with folder_written_atomically(out) as folder:
        (folder / "text").write_text(text)
        write_json_atomic(folder / "summary.json", {"characters": len(text), "name": "not a number"})


def write_unless(out: Path, text: str, marker: Path, trouble: str) -> None:
    """As `write`, but the first time, until there is the marker, something happens."""
    if not marker.exists():
        marker.touch()
        happen(trouble)
    write(out, text)


def always(out: Path, trouble: str) -> None:
    """Something happens."""
    with folder_written_atomically(out) as folder:
        (folder / "half").write_text("half")
        happen(trouble)


def happen(trouble: str) -> None:
    """What can happen to a process."""
    match trouble:
        case "killed" | "segfault" | "stopped":
            name = {"killed": "SIGKILL", "segfault": "SIGSEGV", "stopped": "SIGSTOP"}[trouble]
            os.kill(os.getpid(), signal.Signals[name])
        case "exit":
            os._exit(3)
        case "error":
            raise ValueError("this may pass")
        case "bad input":
            raise DataError("line 3 is no JSON", hint="mend it")
        case "disk full":
            with open("/dev/full", "w") as file:
                file.write("x")
        case "no memory":
            raise MemoryError
        case "waits for ever":
            threading.Event().wait()
        case "computes for ever":
            while True:
                pass
        case "holds Python's lock for ever":
            ctypes.PyDLL(None).pause()


def tasks_in(folder: Path, number: int = 6) -> list[Task]:
    """Tasks that do nothing but write."""
    return [task_of(folder, f"{i:03}", write, text=f"text {i}") for i in range(number)]


def task_of(folder: Path, name: str, function, **arguments) -> Task:
    """One task."""
    return Task(out=folder / name, call=functools.partial(function, folder / name, **arguments), size=10)


def contents(folder: Path) -> dict[str, bytes]:
    """All files below a folder; what starts with a dot, too."""
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in folder.rglob("*") if file.is_file()}
