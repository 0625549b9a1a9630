"""What a program in the sandbox has, and how its end is told."""

import os
import subprocess
import sys

import pytest

from mamba_slm.core.errors import ConfigError, SetupError
from mamba_slm.tasks.sandbox.limits import SandboxLimits
from mamba_slm.tasks.sandbox.program import bubblewrap_command, readable_paths, run_in_sandbox
from mamba_slm.tasks.sandbox.proof import proven_walls

LIMITS = SandboxLimits(timeout_seconds=100)


def ending(source, **limits):
    return run_in_sandbox(source, SandboxLimits(**{"timeout_seconds": 100.0, **limits}), walls=proven_walls())


def test_a_program_that_reaches_its_last_line_has_passed_and_its_output_is_kept():
    end = ending("print('said')\nimport sys\nprint('and', file=sys.stderr)")
    assert end.outcome == "passed"
    assert set(end.output.split()) == {"said", "and"}


@pytest.mark.parametrize(
    "source, outcome, detail",
    [
        ("assert 1 == 2, 'no'", "failed", "AssertionError: no"),
        ("def f(:", "failed", "SyntaxError: invalid syntax (program.py, line 1)"),
        ("import sys\nsys.exit(0)", "failed", "SystemExit: 0"),
        ("import os\nos._exit(0)", "failed", "it ended by itself with status 0"),
        ("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)", "killed", "SIGKILL"),
        ("class E(Exception):\n    def __str__(self): raise self\nraise E", "failed", "E"),
        ("import os\nif os.fork(): os.wait(), 1 / 0", "failed", "ZeroDivisionError: division by zero"),
    ],
)
def test_an_end_is_told_as_it_was(source, outcome, detail):
    end = ending(source)
    assert (end.outcome, end.detail) == (outcome, detail)


def test_time_is_bounded_on_the_wall_and_on_the_processor():
    assert ending("import time\ntime.sleep(99)", timeout_seconds=0.3).outcome == "timeout"
    end = ending("while True: pass", cpu_seconds=1)
    assert (end.outcome, end.detail) == ("timeout", "SIGXCPU")


def test_the_standard_library_threads_and_a_folder_of_its_own_are_there():
    end = ending(
        "import collections, decimal, hashlib, heapq, json, math, os, re, ssl, threading\n"
        "assert __name__ == '__main__' and os.getcwd() == '/tmp' and os.listdir() == []\n"
        "open('note', 'w').write('kept')\nassert open('/tmp/note').read() == 'kept'\n"
        "thread = threading.Thread(target=print, args=('from a thread',))\nthread.start()\nthread.join()"
    )
    assert (end.outcome, end.output) == ("passed", "from a thread\n"), end.detail


def test_nothing_of_the_environment_and_no_installed_package_is_seen(monkeypatch):
    monkeypatch.setenv("SECRET_TOKEN", "hidden")
    end = ending("import os\nassert 'SECRET_TOKEN' not in os.environ\nprint(os.listdir('/'))")
    assert end.outcome == "passed"
    assert "home" not in end.output and "root'" not in end.output.replace("'root', ", "")
    assert ending("import numpy").detail == "ModuleNotFoundError: No module named 'numpy'"


def test_programs_do_not_see_what_others_left():
    assert ending("open('/tmp/left', 'w').write('x')").outcome == "passed"
    assert ending("import os\nassert os.listdir('/tmp') == []").outcome == "passed"


def test_long_programs_and_their_characters_arrive_whole():
    end = ending(f"text = {'ü€' * 300_000!r}\nassert len(text) == 600_000\nprint(text[:2])")
    assert (end.outcome, end.output) == ("passed", "ü€\n")


def test_what_stays_readable_is_pythons_library_and_the_systems():
    home = os.path.expanduser("~")
    assert all("/lib" in path or path.startswith(("/etc/ld.so", "/nix")) for path in readable_paths())
    assert home not in readable_paths() and "/" not in readable_paths()


def test_without_bubblewrap_its_command_says_how_to_get_it(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(SetupError, match="bubblewrap is not installed") as caught:
        bubblewrap_command(readable_paths(), LIMITS)
    assert "install bubblewrap" in (caught.value.hint or "")


def test_limits_that_allow_nothing_are_refused():
    with pytest.raises(ConfigError, match="memory_bytes must be positive"):
        SandboxLimits(memory_bytes=0)


WITHOUT_NAMESPACES = """
import sys
from mamba_slm.tasks.sandbox import seccomp
seccomp.REFUSED = {"unshare": (272, 97)}
seccomp.install_filter()
sys.argv[:] = ["mamba-slm"]
"""
"""A kernel that refuses namespaces, as many containers have it; it refuses them to bubblewrap, too."""


def test_where_the_kernel_refuses_walls_nothing_runs_at_all():
    script = (
        "from mamba_slm.tasks.sandbox.program import run_in_sandbox\n"
        "from mamba_slm.tasks.sandbox.limits import SandboxLimits\n"
        "from mamba_slm.core.errors import SetupError\n"
        "from mamba_slm.tasks.sandbox.proof import proven_walls\n"
        "for attempt in (proven_walls, lambda: run_in_sandbox('print(1)', SandboxLimits())):\n"
        "    try: print('ran', attempt())\n"
        "    except SetupError as error: print(error.exit_code, error, error.hint)\n"
    )
    done = subprocess.run([sys.executable, "-c", WITHOUT_NAMESPACES + script], capture_output=True, text=True)
    first, second = done.stdout.splitlines(), done.stderr
    assert [line.split()[0] for line in first] == ["3", "3"], (done.stdout, second)
    assert "unshare: Operation not permitted" in first[0] and "bubblewrap" in first[0]
