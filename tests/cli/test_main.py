import os
import signal
import subprocess
import sys
import types

import pytest

from mamba_slm import __version__
from mamba_slm.cli import main as cli
from mamba_slm.cli.main import COMMANDS, main
from mamba_slm.cli.parser import Parser, with_dashes
from mamba_slm.core.errors import CheckFailedError, DataError, InterruptedRunError
from mamba_slm.core.units import parse_count


@pytest.fixture
def probe(monkeypatch):
    """A command `probe` whose `run` does what the test sets."""
    module = types.ModuleType("probe_command")

    def configure(parser):
        parser.add_argument("run", nargs="?")
        parser.add_argument("--max-steps", type=int)
        parser.add_argument("--max-tokens", type=parse_count)
        parser.add_argument("--layout", choices=["portable", "classic"])

    vars(module).update(configure=configure, run=lambda args: 0)
    monkeypatch.setitem(sys.modules, "probe_command", module)
    monkeypatch.setitem(COMMANDS, "probe", ("probe_command", "for tests"))
    return module


@pytest.fixture
def nested(probe):
    def configure(parser):
        commands = parser.add_subparsers()
        listing = commands.add_parser("list")
        listing.add_argument("--json", action="store_true")
        commands.add_parser("describe").add_argument("name")

    probe.configure = configure
    return probe


def raising(error):
    def run(args):
        raise error

    return run


def test_help_lists_every_command_with_examples(capsys):
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(f"\n  {name} " in text for name in COMMANDS)
    assert "examples:\n  mamba-slm quickstart" in text


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"mamba-slm {__version__}\n"


def test_no_command_shows_help_on_stderr_and_is_a_usage_error(capsys):
    assert main([]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "commands:" in err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["proeb"], "error: unknown command 'proeb'; did you mean 'probe'?"),
        (["--qiet", "probe"], "error: unknown option '--qiet'; did you mean '--quiet'?"),
        (["probe", "--max-stps", "5"], "error: unknown option '--max-stps'; did you mean '--max-steps'?"),
        (["probe", "--max", "5"], "error: unknown option '--max'"),
        (["probe", "--layout", "clasic"], "error: unknown value for --layout 'clasic'; did you mean 'classic'?"),
        (["probe", "a", "b"], "error: unexpected argument 'b'"),
        (["probe", "--max-steps", "x"], "error: mamba-slm probe: argument --max-steps: invalid int value: 'x'"),
        (["probe", "--max-tokens", "x"], "error: --max-tokens: 'x' is not a count"),
    ],
)
def test_a_mistyped_word_exits_2_and_names_the_nearest(probe, capsys, words, message):
    assert main(words) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(message)
    assert "\nhint: " in err


@pytest.mark.parametrize(
    ("words", "message", "hint"),
    [
        (["probe"], "which subcommand?", "choose one of list, describe"),
        (["probe", "lst"], "unknown probe subcommand 'lst'; did you mean 'list'?", "known: describe, list"),
        (["probe", "list", "--jsn"], "unknown option '--jsn'; did you mean '--json'?", "mamba-slm probe list --help"),
        (["probe", "describe"], "the following arguments are required: name", "mamba-slm probe describe --help"),
    ],
)
def test_subcommands_explain_themselves_the_same_way(nested, capsys, words, message, hint):
    assert main(words) == 2
    err = capsys.readouterr().err
    assert message in err
    assert f"hint: {hint}" in err


@pytest.mark.parametrize(
    "words",
    [
        ["--quiet", "probe", "list", "--json"],
        ["probe", "--quiet", "list", "--json"],
        ["probe", "list", "--json", "--quiet"],
    ],
)
def test_global_flags_work_before_and_after_the_command(nested, words):
    seen = []
    nested.run = lambda args: seen.append(args) or 0
    assert main(words) == 0
    assert (seen[0].quiet, seen[0].json, seen[0].debug, seen[0].offline) == (True, True, False, False)
    assert seen[0].subcommand == "list"


def test_underscores_and_dashes_are_the_same_option(probe):
    seen = []
    probe.run = lambda args: seen.append(args.max_steps) or 0
    assert (
        main(["probe", "--max_steps", "5"]) == main(["probe", "--max-steps=5"]) == main(["probe", "--max_steps=5"]) == 0
    )
    assert seen == [5, 5, 5]
    assert with_dashes(["--a_b=c_d", "e_f", "--", "--g_h"]) == ["--a-b=c_d", "e_f", "--", "--g_h"]


@pytest.mark.parametrize(
    ("error", "code", "told"),
    [
        (DataError("notes.jsonl:3: not JSON", hint="mend it"), 5, "error: notes.jsonl:3: not JSON\nhint: mend it\n"),
        (CheckFailedError("off by 3"), 6, "error: off by 3\n"),
        (InterruptedRunError("stopped and saved"), 130, "error: stopped and saved\n"),
        (KeyboardInterrupt(), 130, "error: interrupted\n"),
        (MemoryError(), 4, "error: out of memory: the system refused the allocation\nhint: use a smaller model"),
        (ValueError("surprise"), 1, "error: internal error: ValueError: surprise\nhint: this is a bug"),
    ],
)
def test_every_kind_of_failure_has_its_exit_code_and_no_traceback(probe, capsys, error, code, told):
    probe.run = raising(error)
    assert main(["probe"]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(told)
    assert "Traceback" not in err


def test_a_failed_torch_allocation_is_out_of_memory_not_a_bug(probe, capsys):
    torch = pytest.importorskip("torch")
    probe.run = lambda args: torch.empty(2**60)
    assert main(["probe"]) == 4
    assert "out of memory" in capsys.readouterr().err


def test_debug_shows_the_traceback_before_the_error(probe, capsys):
    probe.run = raising(DataError("broken"))
    assert main(["probe", "--debug"]) == 5
    err = capsys.readouterr().err
    assert err.startswith("Traceback")
    assert err.endswith("error: broken\n")


def test_the_exit_code_of_the_command_is_returned(probe):
    probe.run = lambda args: 6
    assert main(["probe"]) == 6


def test_every_subcommand_parser_is_ours(nested):
    _, parser = cli.load_command("probe")
    assert [(name, type(inner)) for name, inner in parser.subcommands()] == [("list", Parser), ("describe", Parser)]


def test_a_subcommand_without_examples_shows_those_of_its_command(nested, monkeypatch):
    configure = nested.configure

    def with_examples(parser):
        configure(parser)
        parser.epilog = "examples:\n  mamba-slm probe list\n  mamba-slm probe describe x\n"

    monkeypatch.setattr(nested, "configure", with_examples)
    _, parser = cli.load_command("probe")
    assert [inner.epilog for _, inner in parser.subcommands()] == [
        "examples:\n  mamba-slm probe list",
        "examples:\n  mamba-slm probe describe x",
    ]


SCRIPT = """
import signal, sys, types
signal.signal(signal.SIGINT, signal.default_int_handler)  # also where whoever runs the tests ignores it
from mamba_slm.cli.main import COMMANDS, main
module = types.ModuleType("probe_command")
module.configure = lambda parser: None
def run(args):
    {body}
module.run = run
sys.modules["probe_command"] = module
COMMANDS["probe"] = ("probe_command", "for tests")
sys.exit(main(["probe"]))
"""


def test_control_c_exits_130_without_a_traceback():
    body = "import time; print('ready', flush=True); time.sleep(600)"
    with subprocess.Popen(
        [sys.executable, "-c", SCRIPT.format(body=body)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=300)
    assert process.returncode == 130
    assert err == "error: interrupted\n"


def test_a_closed_pipe_ends_quietly():
    body = "[print('x' * 1000) for _ in range(1000)]"
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as broken:
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT.format(body=body + "; return 0")],
            stdout=broken,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert (done.returncode, done.stderr) == (0, "")


def test_offline_turns_a_connection_into_an_error(capsys):
    body = "import socket; socket.create_connection(('192.0.2.1', 80), timeout=5)"
    environment = {**os.environ, "MAMBA_SLM_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(body=body)], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 3
    assert "the network is off" in done.stderr
    assert "192.0.2.1" in done.stderr
