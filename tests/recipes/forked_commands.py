"""`mamba-slm` for the scripts under test, without loading torch anew for every command of theirs.

A process loads the libraries once, waits at a socket, and forks for every command; the child has the caller's files,
folder and environment, and runs the very `main` that the installed program runs. `python forked_commands.py SOCKET`
is that process; `write_program` makes the program that calls it.
"""

from __future__ import annotations

import array
import contextlib
import json
import os
import socket
import sys
from pathlib import Path

LOADED = ("torch", "transformers", "datasets", "peft", "trl", "sklearn", "mamba_slm.cli.main", "mamba_slm.training.run")
PROGRAM = '''#!{python} -IS
"""mamba-slm, run by a process that has torch loaded."""
import array, json, os, signal, socket, sys

call = socket.socket(socket.AF_UNIX)
call.connect({address!r})
request = json.dumps([sys.argv[1:], os.getcwd(), dict(os.environ)]).encode()
files = array.array("i", [0, 1, 2])
call.sendmsg([len(request).to_bytes(4, "big")], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, files)])
call.sendall(request)
child = int.from_bytes(call.recv(4, socket.MSG_WAITALL), "big")
for number in (signal.SIGTERM, signal.SIGINT):
    signal.signal(number, lambda number, _: os.kill(child, number))
code = call.recv(1)
sys.exit(code[0] if code else 1)
'''


def write_program(folder: Path, address: Path) -> None:
    """Put `mamba-slm` into a folder for the PATH."""
    folder.mkdir(parents=True)
    program = folder / "mamba-slm"
    program.write_text(PROGRAM.format(python=sys.executable, address=str(address)), encoding="utf-8")
    program.chmod(0o755)


def serve(address: str) -> None:
    """Load the libraries, say so on stdout, and fork for every caller until killed."""
    import gc
    import importlib

    for name in LOADED:
        importlib.import_module(name)
    gc.freeze()
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(address)
    listening.listen(8)
    print("ready", flush=True)
    while True:
        call, _ = listening.accept()
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        if os.fork() == 0:
            listening.close()
            answer(call)
        call.close()


def answer(call: socket.socket) -> None:
    """Run the command that a caller sends, and end with its exit code."""
    files = array.array("i")
    size, passed, _, _ = call.recvmsg(4, socket.CMSG_LEN(3 * files.itemsize))
    files.frombytes(passed[0][2])
    words, folder, environment = json.loads(call.recv(int.from_bytes(size, "big"), socket.MSG_WAITALL))
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    call.sendall(os.getpid().to_bytes(4, "big"))
    from mamba_slm.cli.main import main

    sys.argv = ["mamba-slm", *words]
    code = 1
    try:
        code = main(words)
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        call.sendall(bytes([code]))
        os._exit(code)


if __name__ == "__main__":
    serve(sys.argv[1])
