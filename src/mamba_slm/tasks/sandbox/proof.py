"""Which walls stand on this machine, shown by a program that runs against each of them."""

from __future__ import annotations

import functools
import os
import socket
import tempfile
from pathlib import Path

from mamba_slm.core.errors import SetupError
from mamba_slm.tasks.sandbox.limits import SandboxLimits
from mamba_slm.tasks.sandbox.program import Walls, hint_for, run_in_sandbox
from mamba_slm.tasks.sandbox.seccomp import has_filter

PROBE = """
import ctypes, errno, os, socket

def refused(attempt):
    try:
        result = attempt()
    except (OSError, MemoryError):
        return True
    return result == -1

CANARY, PORT, MEMORY, PROCESSES, DISK = {canary!r}, {port}, {memory}, {processes}, {disk}
assert refused(lambda: open(CANARY)), "it reads files of the machine"
assert refused(lambda: open(CANARY + ".new", "w")), "it writes files of the machine"
assert refused(lambda: open(os.__file__, "r+")), "it writes into Python's library"
assert refused(lambda: os.listdir("/proc")), "it sees processes of the machine"
assert refused(lambda: socket.create_connection(("127.0.0.1", PORT), timeout=1)), "it reaches the network"
assert refused(lambda: bytearray(MEMORY)), "it has more memory than it may"
assert refused(lambda: os.execv("/usr/bin/env", ["env"])), "it executes programs"
assert refused(lambda: ctypes.CDLL(None).unshare(0x10000000)), "it gains rights"
assert os.getuid() != 0, "it is the administrator"

def fill():
    with open("/tmp/a", "wb") as first, open("/tmp/b", "wb") as second:
        for _ in range(DISK // 65536):
            first.write(bytes(65536)), second.write(bytes(65536))
assert refused(fill), "it fills the disk"

def crowd():
    for _ in range(PROCESSES + 2):
        if os.fork() == 0:
            os.read(os.pipe()[0], 1)
assert refused(crowd), "it starts more processes than it may"
"""
"""Tries what a program must not be able to do; its last line is reached where nothing of it works."""

LIMITS = SandboxLimits(timeout_seconds=60, memory_bytes=256 << 20, disk_bytes=4 << 20)
"""A machine that is too busy for the probe in time would be said to have no sandbox."""


@functools.cache
def proven_walls() -> Walls:
    """The first of our own namespaces and bubblewrap that a probe could not get through; tried once per process.

    Raises:
        SetupError: none; says why for each. Limits alone are no sandbox, so there is nothing to fall back to.
    """
    if not has_filter():
        raise SetupError(f"there is no sandbox for this machine ({os.uname().sysname} {os.uname().machine})",
                         hint="run generated code on Linux, x86_64 or aarch64")  # fmt: skip
    reasons: list[str] = []
    ways: tuple[Walls, ...] = ("namespaces", "bubblewrap") if os.getuid() else ("namespaces",)
    for walls in ways:  # bubblewrap leaves the administrator's processes uncounted
        reason = weakness(walls)
        if reason is None:
            return walls
        reasons.append(f"{walls}: {reason}")
    told = "; ".join(reasons)
    raise SetupError(f"generated code needs a sandbox, and none works here: {told}", hint=hint_for(""))


def weakness(walls: Walls) -> str | None:
    """Why these walls cannot be relied on here, or None."""
    with tempfile.TemporaryDirectory() as folder, socket.create_server(("127.0.0.1", 0)) as server:
        canary = Path(folder, "canary")
        canary.write_text("nobody reads this")
        probe = PROBE.format(
            canary=str(canary), port=server.getsockname()[1], memory=LIMITS.memory_bytes,
            processes=LIMITS.max_processes, disk=LIMITS.disk_bytes,
        )  # fmt: skip
        try:
            ending = run_in_sandbox(probe, LIMITS, walls=walls)
        except SetupError as error:
            return error.message
        left = sorted(path.name for path in Path(folder).iterdir())
    if left != ["canary"]:
        return "a program in it wrote to the machine"
    return None if ending.outcome == "passed" else f"a probe ended with {ending.outcome}: {ending.detail}"
