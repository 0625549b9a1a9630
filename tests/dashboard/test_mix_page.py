"""What a mixture comes to on the page is what the command says and what training reads."""

import json
import shlex

import pytest

from dashboard.made_data import TALES, make_shards, make_tokenizer
from dashboard.made_runs import client_of, parse
from mamba_slm.cli.data_mix import open_mixture, plan_of, run_mix
from mamba_slm.runs.jobs import list_jobs

OWN = {"Origin": "http://localhost:8888"}


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    home = tmp_path_factory.mktemp("mix")
    tokenizer = make_tokenizer(home / "tokenizer")
    make_shards(home / "many", tokenizer)
    make_shards(home / "few", tokenizer, TALES[:9])
    make_tokenizer(home)
    return home


def mixed(home, **form):
    sources = "\n".join(f"{name}={home / name}:{weight}" for name, weight in (("many", 3), ("few", 1)))
    body = {"sources": sources, "tokens": "20k", "context_tokens": "64", **form}
    answer = client_of(home).post("/api/data/mix", json=body, headers=OWN)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_shares_epochs_and_warnings_are_those_of_the_command(home, capsys):
    found = mixed(home)
    run_mix(parse([*shlex.split(found["command"])[1:], "--json"]))
    said = json.loads(capsys.readouterr().out)
    rows = {row["name"]: row for row in found["sources"]}
    assert [rows[row["name"]]["share"] for row in said["sources"]] == [row["share"] for row in said["sources"]]
    assert [rows[row["name"]]["epochs"] for row in said["sources"]] == [row["epochs"] for row in said["sources"]]
    assert found["warnings"] == said["warnings"] and "few is read" in found["warnings"][0]
    assert found["fingerprint"] == said["fingerprint"]
    assert sum(row["takes"] for row in found["sources"]) == found["tokens"]
    assert rows["many"]["share"] == 0.75


def test_other_weights_give_the_mixture_that_they_would_from_the_beginning(home):
    mixed(home)
    sources = f"many={home / 'many'}:1\nfew={home / 'few'}:4"
    found = mixed(home, sources=sources)
    args = parse(shlex.split(found["command"])[1:])
    mixture = open_mixture(plan_of(args), context_tokens=64, seed=0)
    assert {row["name"]: row["share"] for row in found["sources"]} == mixture.shares()
    assert [row["source"] for row in found["first"]] == [mixture.sample(number).source for number in range(20)]


def test_the_rows_shown_first_hold_the_text_that_training_reads_first(home):
    from mamba_slm.text.tokenizer import Tokenizer

    found = mixed(home, seed="7")
    tokenizer = Tokenizer.load(home / "tokenizer")
    mixture = open_mixture(plan_of(parse(shlex.split(found["command"])[1:])), context_tokens=64, seed=7)
    for row in found["first"]:
        packed = mixture.row(row["number"])
        for number, piece in enumerate(row["pieces"]):
            inputs = packed.inputs[packed.document_ids == number]
            assert len(inputs) == piece["length"]
            assert piece["text"].startswith(tokenizer.decode(inputs.tolist()))


@pytest.mark.parametrize(
    ("form", "said"),
    [
        ({"sources": "a=no-such-folder:1"}, "does not exist"),
        ({"sources": "a=/etc:1"}, "not below the folders"),
        ({"tokens": "lots"}, "lots"),
        ({"tokens": "0"}, "tokens must be"),
        ({"context_tokens": "1"}, "2 to"),
        ({"seed": "x"}, "x"),
    ],
)
def test_what_is_no_mixture_is_said_while_typing(home, form, said):
    assert said in mixed(home, **form)["problem"]


def test_text_is_named_with_the_command_that_makes_tokens_of_it(home):
    (home / "text").mkdir(exist_ok=True)
    (home / "text" / "a.txt").write_text("Once.")
    problem = mixed(home, sources=f"text={home / 'text'}:1")["problem"]
    assert "mamba-slm data tokenize" in problem


def test_a_mixture_is_written_by_the_command_and_nothing_when_read_only(home):
    body = {"sources": f"many={home / 'many'}:1", "out": "x.yaml"}
    assert client_of(home, is_read_only=True).post("/api/data/mix/write", json=body, headers=OWN).status_code == 400
    body["out"] = ""
    assert client_of(home).post("/api/data/mix/write", json=body, headers=OWN).status_code == 400
    assert list_jobs(home) == []
