"""The two servers of the comparison as processes: ours, and llama.cpp's in its documented fast configuration."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from _serving_tables import OURS, THEIRS

from mamba_slm.core.errors import CheckFailedError, SetupError
from mamba_slm.evaluation.bench.processes import stat_fields
from mamba_slm.evaluation.load.own_server import own_server

START_SECONDS = 120


@dataclass(frozen=True, kw_only=True)
class Contender:
    """A running server."""

    name: str
    url: str
    pid: int
    command: list[str]
    """As it was started, without places of this machine."""
    version: str

    def cpu_seconds(self) -> float:
        """Of its process so far, all threads."""
        return sum(map(int, stat_fields(self.pid)[11:13])) / os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def ours(folder: Path, *, threads: int, slots: int, weights: str, further: list[str]) -> Iterator[Contender]:
    """`mamba-slm serve` with its defaults, as many threads and as many slots."""
    flags = ["--weights", weights, "--threads", str(threads), "--max-running", str(slots), *further]
    with own_server(str(folder), flags) as server:
        for line in server.said:
            print(line, file=sys.stderr)
        command = ["mamba-slm", "serve", folder.name, *flags]
        yield Contender(name=OURS, url=server.url, pid=server.pid, command=command, version=f"weights {weights}")


@contextlib.contextmanager
def llama_cpp(
    binary: Path, file: Path, *, threads: int, slots: int, context_tokens: int, log: Path
) -> Iterator[Contender]:
    """llama.cpp's server: as many slots, continuous batching and prompt cache, which are its defaults, and checkpoints
    of recurrent states as close together as it makes them; flash attention as it chooses.

    Raises:
        SetupError: the binary does not run.
        CheckFailedError: it ended before it answered.
    """
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    flags = ["-np", str(slots), "-c", str(slots * context_tokens), "-t", str(threads), "-tb", str(threads)]
    flags += ["--cont-batching", "--cache-prompt", "--checkpoint-min-step", "0", "--no-ui"]
    command = [str(binary), "-m", str(file), "--port", str(port), *flags]
    try:
        with log.open("w") as said:
            process = subprocess.Popen(command, stdout=said, stderr=said)
    except OSError as error:
        raise SetupError(
            f"{binary} does not run: {error}", hint="the head of benchmarks/serving.py says how to build it"
        ) from error
    try:
        wait_until_healthy(process, port, log)
        shown = [binary.name, "-m", file.name, *flags]
        url = f"http://127.0.0.1:{port}/v1"
        yield Contender(name=THEIRS, url=url, pid=process.pid, command=shown, version=version_of(binary))
    finally:
        process.terminate()
        process.wait()


def wait_until_healthy(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    """Until it says that it can answer.

    Raises:
        CheckFailedError: it ended, or took too long.
    """
    for _ in range(10 * START_SECONDS):
        if process.poll() is not None:
            break
        with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5):
            return
        time.sleep(0.1)
    raise CheckFailedError(f"llama-server does not answer: {' '.join(log.read_text().splitlines()[-3:])}")


def version_of(binary: Path) -> str:
    """What it says of itself."""
    done = subprocess.run([str(binary), "--version"], capture_output=True, text=True, check=False)
    said = (done.stdout + done.stderr).strip().splitlines()
    return said[0] if said else "unknown"
