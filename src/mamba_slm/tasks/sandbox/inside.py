"""What runs on the far side of the walls: a supervisor, and as its child the program that nobody has read.

Standard input is a socket to the process that wants the answer: it sends one request, and gets one report. Nothing
here is imported from outside the standard library and this folder, as nothing else is visible.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import secrets
import select
import signal
import socket
import struct
import sys
import time
import types
from typing import Any, NoReturn

from mamba_slm.tasks.sandbox import seccomp, walls

PR_SET_PDEATHSIG = 1
LENGTH = struct.Struct("Q")
MAX_REPORT_BYTES = 4096
SUPERVISORS = 2
"""Processes that may count beside the program's own: the first one here, and the one that raised the walls."""


def main() -> None:
    """Read the request, raise the walls if nobody has yet, run the program, send the report."""
    channel = socket.socket(fileno=0)
    request = receive(channel)
    if request is None:
        return
    walls.libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    limits = request["limits"]
    try:
        if request["raise_walls"]:
            be_killed_first()
            walls.raise_walls(request["readable"], disk_bytes=limits["disk_bytes"], max_files=limits["max_files"])
            first = os.fork()
            if first:
                channel.close()
                os.waitpid(first, 0)
                return
            walls.libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            walls.leave_root()
            walls.libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)  # forgotten when the user changes
        report = supervise(request["program"], limits, channel)
    except OSError as error:
        report = {"outcome": "no sandbox", "detail": error.strerror or str(error)}
    data = json.dumps(report).encode()
    channel.sendall(LENGTH.pack(len(data)) + data)
    os._exit(0)  # the kernel ends whatever else is left in this namespace of processes


def receive(channel: socket.socket) -> dict[str, Any] | None:
    """A length and so many bytes of JSON; None when the sender is gone."""
    data = b""
    while len(data) < LENGTH.size or len(data) < LENGTH.size + LENGTH.unpack_from(data)[0]:
        piece = channel.recv(1 << 16)
        if not piece:
            return None
        data += piece
    return json.loads(data[LENGTH.size :])


def be_killed_first() -> None:
    """Should the machine run out of memory, it is the sandbox that goes."""
    try:
        with open("/proc/self/oom_score_adj", "w") as file:
            file.write("1000")
    except FileNotFoundError:  # a kernel without it has nothing to prefer
        pass


def supervise(program: str, limits: dict[str, Any], channel: socket.socket) -> dict[str, Any]:
    """Run the program as a child until it ends, its time is up, or nobody waits for it any more.

    Raises:
        OSError: the program could not be started within its limits.
    """
    token = secrets.token_hex(16)
    answer, answering = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(answer)
        os.dup2(os.open("/dev/null", os.O_RDONLY), 0)  # and the channel is gone
        run_program(program, limits, answering, token)
    os.close(answering)
    watched = os.pidfd_open(child)
    poll = select.poll()
    poll.register(watched, select.POLLIN)
    poll.register(channel, select.POLLIN)
    events = poll.poll(1000 * limits["timeout_seconds"])
    if not any(descriptor == watched for descriptor, _ in events):
        detail = "nobody waits for it" if events else f"still running after {limits['timeout_seconds']:g} seconds"
        return {"outcome": "timeout", "detail": detail}
    _, status = os.waitpid(child, 0)
    os.set_blocking(answer, False)
    try:
        said = os.read(answer, MAX_REPORT_BYTES).decode(errors="replace")
    except BlockingIOError:
        said = ""
    if said.startswith(token):
        return json.loads(said[len(token) :])
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        name = signal.Signals(number).name if number in signal.valid_signals() else str(number)
        return {"outcome": "timeout" if number == signal.SIGXCPU else "killed", "detail": name}
    return {"outcome": "failed", "detail": f"it ended by itself with status {os.waitstatus_to_exitcode(status)}"}


def run_program(program: str, limits: dict[str, Any], answering: int, token: str) -> NoReturn:
    """Become the program: limits first, then no rights, then no way to ask for any; say how it ended."""
    try:
        os.setsid()
        set_limits(limits)
        walls.drop_capabilities()
        seccomp.install_filter()
    except OSError as error:
        say(answering, token, "no sandbox", error.strerror or str(error))
    sys.path[:] = [path for path in sys.path if os.path.exists(path)]
    module = types.ModuleType("__main__")
    sys.modules["__main__"] = module
    started, process = time.process_time(), os.getpid()
    try:
        exec(compile(program, "program.py", "exec"), module.__dict__)
        outcome, detail = "passed", f"{time.process_time() - started:.3f} seconds of processor time"
    except BaseException as error:  # whatever a program raises, its exit included, is how it failed
        outcome, detail = "failed", described(error)
    with contextlib.suppress(Exception):  # it may have closed or replaced it
        sys.stdout.flush()
    if os.getpid() != process:  # a child that it forked and that came to the end, too
        os._exit(0)
    say(answering, token, outcome, detail)


def described(error: BaseException) -> str:
    """The exception as Python names it; its text is the program's, and may fail."""
    name = type(error).__name__
    try:
        text = str(error)
    except BaseException:  # an exception without a readable text
        return name
    return f"{name}: {text}" if text else name


def say(answering: int, token: str, outcome: str, detail: str) -> NoReturn:
    """Leave the answer where the supervisor looks for it, and end."""
    text = json.dumps({"outcome": outcome, "detail": detail[:500]})
    os.write(answering, (token + text).encode())
    os._exit(0)


def set_limits(limits: dict[str, Any]) -> None:
    """Bounds of this process and its children, which only the administrator could lift."""
    seconds = limits["cpu_seconds"]
    for kind, soft, hard in (
        (resource.RLIMIT_CPU, seconds, seconds + 1),
        (resource.RLIMIT_AS, limits["memory_bytes"], limits["memory_bytes"]),
        (resource.RLIMIT_NPROC, limits["max_processes"] + SUPERVISORS, limits["max_processes"] + SUPERVISORS),
        (resource.RLIMIT_FSIZE, limits["disk_bytes"], limits["disk_bytes"]),
        (resource.RLIMIT_NOFILE, 64, 64),
        (resource.RLIMIT_CORE, 0, 0),
        (resource.RLIMIT_MEMLOCK, 0, 0),
        (resource.RLIMIT_MSGQUEUE, 0, 0),
        (resource.RLIMIT_SIGPENDING, 64, 64),
    ):
        resource.setrlimit(kind, (soft, hard))


if __name__ == "__main__":
    main()
