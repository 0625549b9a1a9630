"""Run one program in the sandbox and say how it ended."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from mamba_slm.core.errors import SetupError
from mamba_slm.tasks.sandbox.inside import LENGTH
from mamba_slm.tasks.sandbox.limits import SandboxLimits

Walls = Literal["namespaces", "bubblewrap"]
Outcome = Literal["passed", "failed", "timeout", "killed"]
GRACE_SECONDS = 20.0
"""Beyond the program's own time, for a busy machine to start it; who needs more is killed from outside."""
SOURCES = str(Path(__file__).parents[3])
"""The folder that holds the package."""


@dataclass(frozen=True, kw_only=True)
class Ending:
    """How a program ended."""

    outcome: Outcome
    """`passed`: it ran to its last line. `failed`: it raised, or ended before. `timeout`: of wall-clock or processor
    time. `killed`: by a signal."""

    detail: str
    """The exception, the signal, or the time it took."""

    output: str
    """The beginning of what it printed."""


def run_in_sandbox(program: str, limits: SandboxLimits, *, walls: Walls = "namespaces") -> Ending:
    """Run Python source where it can reach nothing; whatever it started is dead when this returns.

    It has the standard library, an empty /tmp of its own, and neither network nor other files nor other programs.

    Raises:
        SetupError: the walls could not be raised; the program did not run.
    """
    ours, theirs = socket.socketpair()
    readable = readable_paths()
    command = [*python_command()] if walls == "namespaces" else [*bubblewrap_command(readable, limits)]
    request = {
        "program": program, "limits": asdict(limits), "raise_walls": walls == "namespaces", "readable": readable,
    }  # fmt: skip
    with contextlib.ExitStack() as stack, ours:  # whose end the supervisor takes for the order to stop
        with theirs:
            process = subprocess.Popen(
                command, stdin=theirs.fileno(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                env={"HOME": "/tmp"}, cwd="/", start_new_session=True,
            )  # fmt: skip
        stack.callback(end, process)
        report, output = converse(ours, process, json.dumps(request).encode(), limits)
    if report is None or report["outcome"] == "no sandbox":
        what = report["detail"] if report else output.strip()[-300:] or f"it ended with status {process.returncode}"
        raise SetupError(f"the sandbox ({walls}) could not be set up: {what}", hint=hint_for(what))
    return Ending(outcome=report["outcome"], detail=report["detail"], output=output)


def converse(
    channel: socket.socket, process: subprocess.Popen[bytes], request: bytes, limits: SandboxLimits
) -> tuple[dict[str, Any] | None, str]:
    """Send the request, read the report and what is printed until both end; the report is None when there is none."""
    assert process.stdout is not None
    deadline = time.monotonic() + limits.timeout_seconds + GRACE_SECONDS
    said, printed, outgoing = bytearray(), bytearray(), memoryview(LENGTH.pack(len(request)) + request)
    channel.setblocking(False)
    with selectors.DefaultSelector() as selector:
        selector.register(channel, selectors.EVENT_READ | selectors.EVENT_WRITE)
        selector.register(process.stdout, selectors.EVENT_READ)
        while selector.get_map() and (left := deadline - time.monotonic()) > 0:
            for key, events in selector.select(left):
                if key.fileobj is channel and events & selectors.EVENT_WRITE:
                    outgoing = outgoing[sent(channel, outgoing) :]
                    if not outgoing:
                        selector.modify(channel, selectors.EVENT_READ)
                if events & selectors.EVENT_READ:
                    piece = received(key.fd)
                    if not piece:
                        selector.unregister(key.fileobj)
                    elif key.fileobj is channel:
                        said += piece
                    else:
                        printed += piece[: limits.output_bytes - len(printed)]
    whole = len(said) > LENGTH.size and len(said) == LENGTH.size + LENGTH.unpack_from(said)[0]
    report = json.loads(said[LENGTH.size :]) if whole else None
    if report is None and time.monotonic() >= deadline:
        report = {"outcome": "timeout", "detail": f"no answer {GRACE_SECONDS:g} seconds after its time was up"}
    return report, printed.decode(errors="replace")


def sent(channel: socket.socket, data: memoryview) -> int:
    """How many bytes went out; all of them when nobody listens any more, which the missing report then says."""
    try:
        return channel.send(data)
    except (BrokenPipeError, ConnectionResetError):
        return len(data)


def received(descriptor: int) -> bytes:
    """What came in, or nothing at the end."""
    try:
        return os.read(descriptor, 1 << 16)
    except ConnectionResetError:
        return b""


def end(process: subprocess.Popen[bytes]) -> None:
    """Kill the group and wait: with its first process, the kernel ends every other one in the sandbox."""
    with contextlib.suppress(ProcessLookupError):
        if process.poll() is None:
            try:
                process.wait(timeout=1)  # it ends by itself once the channel is closed
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    if process.stdout is not None:
        process.stdout.close()


def python_command() -> list[str]:
    """A bare interpreter that runs `inside`: no environment variables, no site packages, no bytecode written."""
    start = f"import sys; sys.path.insert(0, {SOURCES!r}); from mamba_slm.tasks.sandbox.inside import main; main()"
    return [os.path.realpath(sys.executable), "-I", "-S", "-B", "-X", "utf8", "-c", start]


def readable_paths() -> list[str]:
    """What Python needs to run: its own library and the libraries of the system; none of it is anybody's data."""
    own = {os.path.realpath(f"{sys.base_prefix}/lib"), os.path.realpath(sysconfig.get_path("stdlib"))}
    system = ("/usr/lib", "/usr/lib64", "/lib", "/lib64", "/etc/ld.so.cache", "/nix/store")
    paths = sorted({*own, *(path for path in system if os.path.exists(path))})
    inner = [path for path in paths if any(path.startswith(f"{other}/") for other in paths)]
    return [path for path in paths if path not in inner]


def bubblewrap_command(readable: Sequence[str], limits: SandboxLimits) -> list[str]:
    """The same walls, raised by `bwrap`: where the system grants it what it refuses to others.

    Raises:
        SetupError: it is not installed.
    """
    program = shutil.which("bwrap")
    if program is None:
        raise SetupError("bubblewrap is not installed", hint="apt install bubblewrap")
    command = [program, "--unshare-all", "--unshare-user", "--die-with-parent", "--new-session", "--as-pid-1"]
    python = python_command()
    package = str(Path(__file__).parents[2])
    command += ["--size", str(limits.disk_bytes), "--tmpfs", "/tmp"]
    for path in (*readable, python[0], package):
        if os.path.islink(path):
            command += ["--symlink", os.readlink(path), path]
        else:
            command += ["--ro-bind", path, path]
    for name in ("null", "zero", "random", "urandom"):
        command += ["--dev-bind", f"/dev/{name}", f"/dev/{name}"]
    return [*command, "--remount-ro", "/", "--chdir", "/tmp", "--cap-drop", "ALL", "--", *python]


def hint_for(failure: str) -> str:
    """What a user can do about walls that cannot be raised."""
    if "bubblewrap" in failure or "bwrap" in failure:
        return "apt install bubblewrap, or dnf install bubblewrap"
    return (
        "apt install bubblewrap; or allow user namespaces: sysctl -w user.max_user_namespaces=10000 "
        "kernel.apparmor_restrict_unprivileged_userns=0; in a container: --security-opt seccomp=unconfined "
        "--security-opt apparmor=unconfined"
    )
