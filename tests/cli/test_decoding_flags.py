"""Promises of the flags that `generate` and `chat` share, and of prompts in files."""

import io
import json
import re
import sys

import pytest

from mamba_slm.cli.main import main
from small_models import save_small_model


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_small_model(tmp_path_factory.mktemp("models") / "small", max_context_tokens=96)


def generated(capsys, *words):
    assert main(["generate", *map(str, words), "--max-new-tokens", "12", "--seed", "3"]) == 0
    return capsys.readouterr()


@pytest.mark.parametrize(
    "flags",
    [
        ["--beams", "3"],
        ["--beams", "2", "--length-penalty", "0.5", "--early-stopping", "full"],
        ["--contrastive-k", "3", "--contrastive-alpha", "0.8"],
        ["--best-of", "3"],
        ["--batch-invariant"],
        ["--typical-p", "0.5", "--frequency-penalty", "0.3", "--presence-penalty", "0.2"],
        ["--no-repeat-ngram-size", "2", "--logit-bias", "17=-inf", "--logit-bias", "18=1.5"],
    ],
)
def test_every_way_gives_a_text_that_streaming_does_not_change(folder, capsys, flags):
    shown = generated(capsys, folder, "def f(", "--runtime", "torch", *flags).out.removesuffix("\n")
    printed = json.loads(generated(capsys, folder, "def f(", "--runtime", "torch", "--json", *flags).out)
    assert printed["completions"][0]["text"] == shown
    name = flags[0].removeprefix("--").replace("-", "_")
    assert printed["settings"][name] not in (None, False)


def test_a_search_says_that_it_draws_nothing_and_gives_its_n_best(folder, capsys):
    out, err = generated(capsys, folder, "x", "--beams", "3", "-n", "3", "--json")
    scores = [completion["score"] for completion in json.loads(out)["completions"]]
    assert scores == sorted(scores, reverse=True)
    assert len(set(scores)) > 1
    assert "a search draws nothing" in err


def test_constraints_hold_for_generate_and_chat(folder, tmp_path, capsys, monkeypatch):
    schema = tmp_path / "schema.json"
    schema.write_text('{"type": "object", "properties": {"a": {"enum": [1, 2]}}, "required": ["a"]'
                      ', "additionalProperties": false}')  # fmt: skip
    text = generated(capsys, folder, "x", "--json-schema", schema).out
    assert json.loads(text)["a"] in (1, 2)
    assert re.fullmatch("[ab]{2}\n", generated(capsys, folder, "x", "--regex", "[ab]{2}").out)
    assert generated(capsys, folder, "x", "--choice", "yes", "--choice", "no").out in ("yes\n", "no\n")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"x = \n"), encoding="utf-8"))
    assert main(["chat", str(folder), "--choice", "seven", "--beams", "2"]) == 0
    assert "seven" in capsys.readouterr().out


def test_prompts_come_from_arguments_files_and_json_lines_and_go_to_json_lines(folder, tmp_path, capsys):
    (tmp_path / "one.txt").write_text("naïve = ")
    lines = [{"prompt": "def f(", "id": 7}, {"prompt": "x = ", "reference": "語"}]
    (tmp_path / "many.jsonl").write_text("\n\n".join(json.dumps(line) for line in lines))
    out = tmp_path / "out.jsonl"
    words = ["import ", "--prompt-file", tmp_path / "one.txt", "--jsonl", tmp_path / "many.jsonl", "-n", "2"]
    printed = generated(capsys, folder, *words, "--out", out, "--batch-rows", "4")
    assert printed.out == ""
    made = [json.loads(line) for line in out.read_text().splitlines()]
    assert [line["prompt"] for line in made] == [p for p in ("import ", "naïve = ", "def f(", "x = ") for _ in (0, 1)]
    assert [line["sample"] for line in made] == [0, 1] * 4
    assert made[4]["id"] == 7
    assert made[7]["reference"] == "語"
    assert not (tmp_path / "out.jsonl.partial").exists()
    assert generated(capsys, folder, *words, "--batch-rows", "1").out == out.read_text()  # whatever the batch
    alone = json.loads(generated(capsys, folder, "import ", "--json").out)
    assert alone["completions"][0]["text"] == made[0]["text"]


def test_several_prompts_are_numbered_and_in_json_listed(folder, capsys):
    out = generated(capsys, folder, "a", "b").out
    assert [line for line in out.splitlines() if line.startswith("===")] == ["=== 1 of 2", "=== 2 of 2"]
    printed = json.loads(generated(capsys, folder, "a", "b", "--json").out)
    assert printed["prompts"] == ["a", "b"]
    assert len(printed["completions"]) == 2


@pytest.mark.parametrize(
    "lines, message",
    [
        ("{", "line 1 of"),
        ('{"prompt": "a"}\n[1]', 'line 2 of .* has no text in a field "prompt"'),
        ('{"prompt": 3}', "has no text"),
        ('{"prompt": "a", "text": "b"}', "has a field 'text', which the result would replace"),
        ("\n", "there is no prompt"),
    ],
)
def test_lines_that_are_no_prompts_are_named(folder, tmp_path, capsys, lines, message):
    (tmp_path / "bad.jsonl").write_text(lines)
    assert main(["generate", str(folder), "--jsonl", str(tmp_path / "bad.jsonl")]) == 5
    assert re.search(message, capsys.readouterr().err)


@pytest.mark.parametrize(
    "flags, code, message",
    [
        (["--beams", "2", "--best-of", "2"], 2, "--beams and --best-of cannot be had together"),
        (["--regex", "a", "--choice", "b"], 2, "--regex and --choice cannot be had together"),
        (["--beams", "2", "-n", "3"], 2, "2 beams give as many results at most"),
        (["--logit-bias", "a=1"], 2, "is not TOKEN=NUMBER"),
        (["--logit-bias", "999=1"], 2, "token 999, but the model's vocabulary has 320"),
        (["--regex", "["], 2, "cannot be followed"),
        (["--json-schema", "nothing.json"], 5, "nothing.json cannot be read"),
        (["--prompt-file", "nothing.txt"], 5, "nothing.txt cannot be read"),
        (["--batch-rows", "0"], 2, "--batch-rows must be at least 1"),
        (["--out", "nowhere/out.jsonl"], 5, "cannot be written"),
    ],
)
def test_flags_that_make_no_sense_are_refused(folder, capsys, flags, code, message):
    assert main(["generate", str(folder), "x", *flags]) == code
    out, err = capsys.readouterr()
    assert message in err
    assert out == ""


def test_a_server_is_not_asked_for_what_it_cannot_do(capsys):
    assert main(["chat", "--url", "http://127.0.0.1:9/v1", "--beams", "2", "--regex", "a"]) == 2
    assert "--beams, --regex cannot be had with --url" in capsys.readouterr().err
