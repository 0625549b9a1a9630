"""`--nproc N`: run the same command in N processes of this machine, and end all of them when one is lost.

PyTorch's elastic launcher starts and watches the processes. Signals are ours: the first asks every process to finish
its step and save, however long that takes (the launcher itself would kill them after 30 seconds).
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from mamba_slm.core.errors import RankLostError
from mamba_slm.training.distributed.place import SIGN_IN
from mamba_slm.training.interrupt import STOPPING

LOOK_SECONDS = 0.1


def launch(
    words: Sequence[str],
    *,
    processes: int,
    run: str | None = None,
    on_loss: str | None = None,
    say: Callable[[str], None] = print,
) -> int:
    """Run `mamba-slm WORDS` in `processes` processes; returns the exit code of the first.

    Args:
        words: the command line.
        run: named in the hint when a process is lost.
        on_loss: the command of that hint; None goes on with `run`.
        say: takes lines for people.

    Raises:
        RankLostError: a process was ended by a signal that nobody here sent.
    """
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    logging.getLogger("torch.distributed").setLevel(logging.CRITICAL)  # what it would say is said below
    with tempfile.TemporaryDirectory(prefix="mamba-slm-ranks-") as folder:
        os.environ[SIGN_IN] = folder
        os.environ.setdefault("OMP_NUM_THREADS", str(max(1, len(os.sched_getaffinity(0)) // processes)))
        settings = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=processes,
            run_id="mamba-slm",
            rdzv_backend="c10d",
            rdzv_endpoint="localhost:0",
            local_addr="localhost",
            max_restarts=0,
            monitor_interval=LOOK_SECONDS,
            logs_specs=DefaultLogsSpecs(log_dir=folder),
        )
        ended: list[BaseException | None] = []

        def work() -> None:
            try:
                elastic_launch(settings, sys.executable)("-m", "mamba_slm.cli.main", *words)
                ended.append(None)
            except BaseException as error:
                ended.append(error)

        worker = threading.Thread(target=work, name="launcher", daemon=True)  # so that signals stay with this one
        with SignalsPassedOn(Path(folder)) as signals:
            worker.start()
            while worker.is_alive():
                worker.join(LOOK_SECONDS)
                signals.pass_on()
    error = ended[0] if ended else None
    if isinstance(error, ChildFailedError):
        return judge(error.failures, processes=processes, run=run, on_loss=on_loss, say=say)
    if error is not None:
        raise error
    return 0


def judge(
    failures: Mapping[int, Any],
    *,
    processes: int,
    run: str | None,
    on_loss: str | None = None,
    say: Callable[[str], None],
) -> int:
    """The exit code of a job that failed, from what the launcher knows about each process.

    Raises:
        RankLostError: a process was killed.
    """
    codes = {rank: failure.exitcode for rank, failure in sorted(failures.items())}
    asked = [-number for number in STOPPING]
    killed = next((rank for rank, code in codes.items() if code < 0 and code not in asked), None)
    resume = f"go on from the last checkpoint: mamba-slm train --resume {run or 'RUN'} --nproc {processes}"
    if killed is not None:
        name = signal.Signals(-codes[killed]).name
        memory = "; where nobody killed it, the system ran out of memory" if name == "SIGKILL" else ""
        raise RankLostError(
            f"process {killed} of {processes} was ended by {name}, and the others were stopped{memory}",
            hint=f"look closer: {on_loss}" if on_loss else resume,
        )
    rank = 0 if 0 in codes else min(failures, key=lambda number: failures[number].timestamp)
    code = codes[rank]
    if code not in (0, 130):
        say(f"process {rank} of {processes} ended with exit code {code}, and the others were stopped")
    return 128 - code if code < 0 else code


class SignalsPassedOn:
    """Context in which `STOPPING` signals go to every process that has signed in, and to others once they do."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.received: list[int] = []
        self.sent: dict[str, int] = {}
        self.previous: dict[int, Any] = {}

    def on_signal(self, number: int, frame: FrameType | None) -> None:
        """Handler of all of them."""
        self.received.append(number)

    def pass_on(self) -> None:
        """Send what has not been sent."""
        if not self.received:
            return
        for file in self.folder.glob("rank-*"):
            for number in self.received[self.sent.get(file.name, 0) :]:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(file.read_text()), number)
            self.sent[file.name] = len(self.received)

    def __enter__(self) -> SignalsPassedOn:
        if threading.current_thread() is threading.main_thread():
            for number in STOPPING:
                self.previous[number] = signal.signal(number, self.on_signal)
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self.previous.items():
            signal.signal(number, handler)
