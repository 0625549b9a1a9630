"""What the command line promises: quick help that loads nothing heavy, with examples that work."""

import json
import subprocess
import sys

import pytest

from mamba_slm.cli.main import COMMANDS, main
from promises.documents import every_parser, examples, parse

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
    helps = [[*parser.prog.split()[1:], "--help"] for parser in every_parser()]
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


def test_every_command_has_a_description_and_examples():
    without = [parser.prog for parser in every_parser() if "examples:\n  " not in (parser.epilog or "")]
    assert not without
    assert not [parser.prog for parser in every_parser() if not parser.description]


def test_every_option_explains_itself():
    without = [
        f"{parser.prog} {action.option_strings or action.dest}"
        for parser in every_parser()
        for action in parser._actions
        if not action.help and action.dest != "subcommand"
    ]
    assert not without


@pytest.mark.parametrize("words", examples(), ids=" ".join)
def test_every_example_in_the_help_parses(words):
    parse(words)


@pytest.mark.parametrize(
    "words", [words for words in examples() if words[0] in ("models", "doctor")], ids=lambda words: " ".join(words)
)
def test_examples_that_need_no_run_work(words, capsys):
    assert main(words) == 0
    assert capsys.readouterr().out
