"""What the command line promises: quick help that loads nothing heavy, with examples that work."""

import json
import subprocess
import sys

import pytest

from mamba_slm.cli.main import COMMANDS, EXAMPLES, main
from promises.documents import examples, parse, parsers_of

HEAVY = ("torch", "numpy", "transformers", "tokenizers", "safetensors")

ASK = """
import contextlib, io, json, sys
from mamba_slm.cli.main import main
loaded = {{}}
for words in json.loads(sys.argv[1]):
    with contextlib.redirect_stdout(io.StringIO()) as out:
        code = main(words)
    loaded[" ".join(words)] = [code, len(out.getvalue()), [name for name in {heavy} if name in sys.modules]]
print(json.dumps(loaded))
"""


def answers_without(heavy, commands):
    """Run commands one after the other in a fresh interpreter; each must succeed, answer, and load none of `heavy`."""
    done = subprocess.run(
        [sys.executable, "-c", ASK.format(heavy=heavy), json.dumps(commands)],
        capture_output=True,
        text=True,
        check=True,
    )
    for command, (code, characters, loaded) in json.loads(done.stdout).items():
        assert (code, loaded) == (0, []), f"mamba-slm {command}"
        assert characters > 0, f"mamba-slm {command} says nothing"


def test_help_of_every_command_and_subcommand_loads_nothing_heavy():
    helps = [[*parser.prog.split()[1:], "--help"] for command in COMMANDS for parser in parsers_of(command)]
    assert len(helps) > len(COMMANDS)
    answers_without(HEAVY, [["--help"], ["--version"], *helps])


def test_models_and_runs_answer_without_torch():
    answers_without(
        ("torch", "transformers", "tokenizers"),
        [
            ["models", "list", "--json"],
            ["models", "describe", "1.3B"],
            ["models", "estimate", "1.3B", "--gpus", "8", "--json"],
            ["runs", "list", "--json"],
        ],
    )


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_and_subcommand_describes_itself_with_examples(command):
    for parser in parsers_of(command):
        assert parser.description, parser.prog
        assert "examples:\n  " in (parser.epilog or ""), parser.prog


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_explains_itself(command):
    for parser in parsers_of(command):
        for action in parser._actions:
            assert action.help or action.dest == "subcommand", f"{parser.prog} {action.option_strings or action.dest}"


@pytest.mark.parametrize("command", COMMANDS)
def test_every_example_in_the_help_parses(command):
    found = examples(*(parser.epilog for parser in parsers_of(command)))
    assert found
    for words in found:
        parse(words)


def test_examples_in_the_help_that_need_no_model_work(capsys):
    """All but `doctor` with its measurements, which takes longest and which tests/cli/test_doctor.py holds to more."""
    epilogs = [parser.epilog for command in ("models", "doctor") for parser in parsers_of(command)]
    found = [words for words in examples(EXAMPLES, *epilogs) if words[0] in ("models", "doctor")]
    assert ["doctor"] in found
    for words in found:
        if words == ["doctor"]:
            continue
        assert main(words) == 0, words
        assert capsys.readouterr().out
