"""Programs that mean harm, in the real sandbox: whatever they do, nothing outside changes and nothing of them stays."""

import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from mamba_slm.tasks.sandbox import program
from mamba_slm.tasks.sandbox.limits import SandboxLimits
from mamba_slm.tasks.sandbox.program import run_in_sandbox
from mamba_slm.tasks.sandbox.proof import proven_walls

LIMITS = SandboxLimits(timeout_seconds=0.7, memory_bytes=256 << 20, disk_bytes=1 << 20, max_files=32)

HOSTILE = {
    "a fork bomb": "import os\nwhile True:\n    try: os.fork()\n    except OSError: pass",
    "a bomb of threads": "import threading, time\nwhile True: threading.Thread(target=time.sleep, args=(99,)).start()",
    "infinite memory": "x = []\nwhile True: x.append(bytearray(1 << 20))",
    "infinite memory, errors ignored": (
        "x = []\nwhile True:\n    try: x.append(bytearray(1 << 20))\n    except MemoryError: pass"
    ),
    "a full disk": (
        "n = 0\nwhile True:\n    n += 1\n    try: open(f'/tmp/{n}', 'wb').write(bytes(1 << 16))\n"
        "    except OSError: pass"
    ),
    "deleting everything": "import shutil\nshutil.rmtree('/', ignore_errors=True)\nshutil.rmtree(FOLDER)",
    "overwriting a file": "open(FOLDER + '/canary', 'w').write('gone')",
    "writing into Python's library": "import os\nopen(os.__file__, 'a').write('import evil')",
    "a socket": "import socket\nsocket.create_connection(('127.0.0.1', PORT))",
    "ignored signals": (
        "import signal\nfor one in signal.valid_signals():\n    try: signal.signal(one, signal.SIG_IGN)\n"
        "    except (OSError, ValueError): pass\nwhile True: pass"
    ),
    "a daemon": (
        "import os, time\nif os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0:\n        for n in range(64):\n"
        "            try: os.close(n)\n            except OSError: pass\n        time.sleep(999)\n    os._exit(0)\n"
        "os.wait()"
    ),
    "a way out through /proc": "print(open('/proc/1/root' + FOLDER + '/canary').read())",
    "a way out through the old root": "import os\nfor n in range(9): os.chdir('..')\nopen('.' + FOLDER + '/canary')",
    "a way out through descriptors": (
        "import os\nfor n in range(3, 64):\n    try: os.write(n, b'passed'), os.fchdir(n)\n    except OSError: pass\n"
        "raise SystemExit"
    ),
    "killing the others": "import os, signal\nos.kill(1, signal.SIGKILL)\nos.killpg(0, signal.SIGKILL)",
    "killing everything": "import os, signal\nos.fork()\nos.kill(-1, signal.SIGKILL)\nraise ValueError",
    "a flood of output": "while True: print('x' * 65536)",
    "another program": "import os\nos.execv('/bin/sh', ['sh', '-c', 'true'])",
    "memory that counts for nobody": "import os\nos.memfd_create('x')",
    "more rights": "import ctypes\nassert ctypes.CDLL(None).unshare(0x10000000) == 0",
    "a mount": "import ctypes\nassert ctypes.CDLL(None).mount(b'none', b'/tmp', b'tmpfs', 0, None) == 0",
    "higher limits": "import resource\nresource.setrlimit(resource.RLIMIT_AS, (1 << 40, 1 << 40))",
    "an endless exception": "class E(Exception):\n    def __str__(self):\n        while True: pass\nraise E",
    "a crash of the interpreter": "import ctypes\nctypes.string_at(0)",
    "deep recursion": "import sys\nsys.setrecursionlimit(10**9)\ndef f(): return f()\nf()",
    "an early end": "import os\nos._exit(0)",
}


@pytest.fixture
def watched(tmp_path, monkeypatch):
    """A folder that is to stay as it is, a server that nobody is to reach, and a mark on every process of a sandbox."""
    sources = tmp_path / "sources"
    sources.symlink_to(program.SOURCES)
    monkeypatch.setattr(program, "SOURCES", str(sources))
    folder = tmp_path / "kept"
    folder.mkdir()
    (folder / "canary").write_text("alive")
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        yield folder, server, str(sources)


def processes_with(mark):
    """Numbers of the processes whose command line has the mark."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if mark in path.read_text(errors="replace"):
                found.append(path.parent.name)
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_program_does_nothing_outside_and_leaves_nothing(name, watched):
    folder, server, mark = watched
    head = f"FOLDER, PORT = {str(folder)!r}, {server.getsockname()[1]}\n"
    limits = LIMITS if name != "a daemon" else replace(LIMITS, timeout_seconds=100.0)
    ending = run_in_sandbox(head + HOSTILE[name], limits, walls=proven_walls())
    assert (ending.outcome == "passed") == (name == "a daemon"), ending
    assert len(ending.output) <= LIMITS.output_bytes
    assert [path.name for path in folder.iterdir()] == ["canary"]
    assert (folder / "canary").read_text() == "alive"
    with pytest.raises(BlockingIOError):  # nobody has knocked
        server.accept()
    assert processes_with(mark) == []


def test_the_death_of_who_waits_for_an_answer_ends_the_program(watched):
    """A killed evaluation leaves nothing running."""
    _, _, mark = watched
    waits = (
        "import sys\nfrom mamba_slm.tasks.sandbox import program\nfrom mamba_slm.tasks.sandbox.limits import *\n"
        f"program.SOURCES = {mark!r}\n"
        "program.run_in_sandbox('import time; time.sleep(999)', SandboxLimits(timeout_seconds=999))"
    )
    with subprocess.Popen([sys.executable, "-c", waits]) as waiting:
        wait_until(lambda: len(processes_with(mark)) >= 4)  # it, who raised the walls, who supervises, who sleeps
        waiting.kill()
    wait_until(lambda: processes_with(mark) == [])


def wait_until(holds):
    """Look again and again; what never holds fails after a minute."""
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)
