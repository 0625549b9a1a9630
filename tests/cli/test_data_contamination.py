"""`mamba-slm data contamination`: text and shards give the same counts."""

import json

import pytest

from mamba_slm.cli.main import main

QUESTION = "Janet’s ducks lay sixteen eggs per day and she eats three of them for breakfast every morning"


@pytest.fixture
def places(tmp_path):
    """Training text and questions."""
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "a.txt").write_text(f"Before it. {QUESTION.upper()}! After it.")
    (tmp_path / "text" / "b.txt").write_text("Nothing that anybody was ever asked. " * 20)
    (tmp_path / "ducks.jsonl").write_text(json.dumps({"question": QUESTION, "answer": "9"}) + "\n")
    return tmp_path


def test_text_and_its_token_shards_hold_the_same_questions(places, capsys):
    text, questions = str(places / "text"), str(places / "ducks.jsonl")
    tokenizer, tokens = str(places / "tokenizer"), str(places / "tokens")
    assert main(["data", "train-tokenizer", text, "--vocab-size", "280", "--out", tokenizer]) == 0
    assert main(["data", "tokenize", text, "--tokenizer", tokenizer, "--out", tokens]) == 0
    capsys.readouterr()
    answers = []
    for training in (text, tokens):
        assert main(["data", "contamination", training, "--benchmarks", questions, "--json"]) == 0
        answers.append(json.loads(capsys.readouterr().out))
    for answer in answers:
        (ducks,) = answer["benchmarks"]
        assert (answer["documents"], ducks["seen"], ducks["share"], ducks["documents"]) == (2, 1, 1.0, 1)
        assert ducks["examples"][0]["share"] == 1.0


def test_the_table_the_file_and_a_longer_run_of_words(places, capsys):
    out = places / "overlap.json"
    command = ["data", "contamination", str(places / "text"), "--benchmarks", str(places / "ducks.jsonl")]
    assert main([*command, "--out", str(out)]) == 0
    said = capsys.readouterr()
    assert "2 documents of" in said.out and "100.0%" in said.out
    assert "ducks.jsonl:1: 100% of its runs, first in a.txt" in said.err
    assert json.loads(out.read_text())["benchmarks"][0]["examples"][0]["document"] == "a.txt"
    assert main([*command, "--ngram-words", "17"]) == 2


def test_shards_without_a_tokenizer_beside_them_ask_for_one(places, capsys):
    text, tokenizer, tokens = str(places / "text"), str(places / "tokenizer"), places / "tokens"
    assert main(["data", "train-tokenizer", text, "--vocab-size", "280", "--out", tokenizer]) == 0
    assert main(["data", "tokenize", text, "--tokenizer", tokenizer, "--out", str(tokens)]) == 0
    (tokens / "tokenizer.json").unlink()
    command = ["data", "contamination", str(tokens), "--benchmarks", str(places / "ducks.jsonl")]
    assert main(command) == 2
    assert "--tokenizer PATH" in capsys.readouterr().err
    assert main([*command, "--tokenizer", tokenizer]) == 0
