"""The parent's side of a worker: start it, ask it, and see that it ends. And what other programs used meanwhile."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from mamba_slm.core.errors import MambaSlmError, OutOfMemoryError
from mamba_slm.evaluation.bench.worker import Job

KILLED = -9


@contextlib.contextmanager
def interrupts_held_back() -> Iterator[None]:
    """Ctrl-C comes at the end of the block, and never to a process that is begun in it.

    Without it a worker that is still starting would print a traceback, and one whose making is interrupted would be
    nobody's to end.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # processes inherit it
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class WorkerFailedError(MambaSlmError):
    """A contender ended with an error of its own; `exit_code` is that of the error."""

    def __init__(self, message: str, *, hint: str | None = None, exit_code: int = 1):
        super().__init__(message, hint=hint)
        self.exit_code = exit_code


class Worker:
    """A running contender. Starting returns at once; `ready` waits until it is loaded."""

    def __init__(self, job: Job):
        self.job = job
        self.process = subprocess.Popen(
            [sys.executable, "-m", "mamba_slm.evaluation.bench.worker", job.to_json()],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": str(job.threads), "MKL_NUM_THREADS": str(job.threads)},
        )

    def ready(self) -> dict[str, Any]:
        """Facts about the contender, once it is loaded."""
        return self.answer()

    def ask(self, line: str) -> dict[str, Any]:
        """Send one line and wait for its answer.

        Raises:
            OutOfMemoryError: the process was killed, or found no memory.
            WorkerFailedError: it failed in another way.
        """
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it has ended; its last answer says why
            self.process.stdin.write(line + "\n")
            self.process.stdin.flush()
        return self.answer()

    def answer(self) -> dict[str, Any]:
        """Its next answer."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        what = f"{self.job.contender}, {self.job.cell}"
        if not line:
            code = self.process.wait()
            if code == KILLED:
                raise OutOfMemoryError(
                    f"{what}: the process was killed, most likely because the memory was full",
                    hint="choose shorter --lengths or fewer --peers",
                )
            raise WorkerFailedError(
                f"{what}: the process ended with exit code {code}", hint="its own words are above", exit_code=1
            )
        content = json.loads(line)
        if "error" in content:
            raise WorkerFailedError(
                f"{what}: {content['error']}", hint=content["hint"], exit_code=content["exit_code"]
            )  # fmt: skip
        return content

    def close(self) -> None:
        """End the process, whatever it is doing."""
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            with contextlib.suppress(BrokenPipeError):
                pipe.close()


class BusyElsewhere:
    """How many cores programs other than ours keep busy, between its making and `cores`. Linux only."""

    def __init__(self, process_ids: Iterable[int]):
        self.process_ids = (os.getpid(), *process_ids)
        self.started, self.begin = time.monotonic(), self.seconds()

    def seconds(self) -> float | None:
        """CPU seconds of everything minus those of our processes, since some fixed moment."""
        try:
            fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
            own = sum(sum(map(int, stat_fields(process_id)[11:13])) for process_id in self.process_ids)
        except OSError:
            return None
        user, nice, system, _idle, _waiting, *interrupts = map(int, fields[:7])
        return (user + nice + system + sum(interrupts) - own) / os.sysconf("SC_CLK_TCK")

    def cores(self) -> float | None:
        """Cores busy elsewhere on average; None where the system does not say."""
        end = self.seconds()
        if self.begin is None or end is None:
            return None
        return max(0.0, end - self.begin) / max(time.monotonic() - self.started, 1e-9)


def stat_fields(process_id: int) -> list[str]:
    """The fields of /proc/PID/stat behind the program's name, which may hold spaces."""
    return Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()
