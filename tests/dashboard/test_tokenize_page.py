"""The form of a tokenization gives the commands that a terminal would use, one after the other."""

import shlex

import pytest

from dashboard.made_data import make_tokenizer
from dashboard.made_runs import client_of, parse
from mamba_slm.core.errors import ConfigError
from mamba_slm.dashboard.forms_tokens import TokenizeForm
from mamba_slm.runs.jobs import list_jobs

OWN = {"Origin": "http://localhost:8888"}


@pytest.fixture
def text(tmp_path):
    file = tmp_path / "my text.txt"
    file.write_text("Once upon a time.\n" * 100)
    return file


def plan(home, **form):
    return client_of(home).post("/api/data/tokenize/plan", json=form, headers=OWN).json()


def test_the_command_shown_means_what_was_typed(tmp_path, text):
    make_tokenizer(tmp_path / "tokenizer")
    found = plan(tmp_path, inputs=f"{text}\n\npython-library", tokenizer=str(tmp_path / "tokenizer"), out="-x",
                 key="body", validation_share="0.1", skips_bad="yes")  # fmt: skip
    assert found["problem"] is None
    args = parse(shlex.split(found["commands"][0])[1:])
    assert (args.input, args.out) == ([str(text), "python-library"], "./-x")
    assert (args.tokenizer, args.validation_share) == (str(tmp_path / "tokenizer"), 0.1)
    assert (vars(args)["setting.text_key"], vars(args)["setting.on_error"]) == ("body", "skip")


def test_without_a_tokenizer_one_is_trained_first_and_used(tmp_path, text):
    found = plan(tmp_path, inputs=str(text), out="tokens", vocab_size="300")
    first, second = (parse(shlex.split(command)[1:]) for command in found["commands"])
    assert (first.subcommand, first.vocab_size, first.out) == ("train-tokenizer", 300, "tokens-tokenizer")
    assert (second.subcommand, second.tokenizer) == ("tokenize", first.out)


@pytest.mark.parametrize(
    ("form", "said"),
    [
        ({"inputs": ""}, "no text yet"),
        ({"inputs": "no-such-file"}, "no file or folder no-such-file"),
        ({"out": ""}, "the folder for the tokens is missing"),
        ({"out": "DONE"}, "holds tokens already"),
        ({"tokenizer": "nowhere"}, "no tokenizer at nowhere"),
        ({"vocab_size": "many"}, "many"),
    ],
)
def test_what_the_commands_would_refuse_is_said_while_typing(tmp_path, text, form, said):
    if form.get("out") == "DONE":
        make_tokenizer(tmp_path / "done")
        form = {"out": str(tmp_path / "done")}
    assert said in plan(tmp_path, **{"inputs": str(text), "out": str(tmp_path / "new"), **form})["problem"]


def test_a_form_with_other_fields_is_refused_and_read_only_starts_nothing(tmp_path, text):
    with pytest.raises(ConfigError):
        TokenizeForm.of({"evil": "x"})
    client = client_of(tmp_path, is_read_only=True)
    body = {"inputs": str(text), "out": str(tmp_path / "new")}
    assert client.post("/api/data/tokenize/start", json=body, headers=OWN).status_code == 400
    assert list_jobs(tmp_path) == []
    assert 'id="start"' not in client.get("/data/tokenize").text
