import bz2
import json
import re
from pathlib import Path

import pytest
import zstandard

from mamba_slm.cli import data_tokenize
from mamba_slm.cli.main import main
from mamba_slm.data.python_library import python_library_documents, python_library_folder
from mamba_slm.data.shards import TokenShards
from mamba_slm.text.tokenizer import Tokenizer
from mamba_slm.text.train_tokenizer import PRE_TOKENIZERS

SHARED = Path(__file__).parents[2].parent / "shared" / "data"


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    """A folder with some texts and a tokenizer, as current folder."""
    monkeypatch.chdir(tmp_path)
    texts = tmp_path / "texts"
    texts.mkdir()
    for number in range(60):
        (texts / f"{number:02d}.md").write_text(f"# Chapter {number}\n\nOnce there was a number, {number}.\n" * 5)
    assert main(["data", "train-tokenizer", "texts", "--vocab-size", "300", "--out", "tok"]) == 0
    return tmp_path


def last_line(text):
    return text.strip().splitlines()[-1]


def test_text_becomes_a_tokenizer_and_shards_that_training_reads(workplace, capsys):
    assert (
        main(["data", "tokenize", "texts", "--tokenizer", "tok", "--validation-share", "0.2", "--out", "tokens"]) == 0
    )
    captured = capsys.readouterr()
    train, held_out = TokenShards.open("tokens/train"), TokenShards.open("tokens/validation")
    assert train.num_documents + held_out.num_documents == 60 and held_out.num_documents > 3
    assert train.tokenizer_fingerprint == Tokenizer.load("tokens").fingerprint
    assert "tokens/train: " in captured.out and "bytes per token" in captured.out
    assert last_line(captured.err) == "next: mamba-slm train --data tokens"
    assert sorted(path.name for path in Path("tokens").iterdir()) == ["tokenizer.json", "train", "validation"]


def test_programs_get_json(workplace, capsys):
    capsys.readouterr()
    assert main(["data", "train-tokenizer", "texts", "--vocab-size", "0.3k", "--out", "other", "--json"]) == 0
    trained = json.loads(capsys.readouterr().out)
    assert trained["vocab_size"] == 300 and trained["bytes_per_token"] > 1
    assert trained["fingerprint"] == Tokenizer.load("tok").fingerprint
    assert main(["data", "tokenize", "texts", "--tokenizer", "tok", "--out", "tokens", "--json", "--quiet"]) == 0
    captured = capsys.readouterr()
    written = json.loads(captured.out)
    assert captured.err == ""
    assert sum(part["num_documents"] for part in written["parts"].values()) == written["read"]["num_documents"] == 60
    assert main(["data", "inspect", "tokens", "--tokenizer", "tok", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["tokens/train"]["num_tokens"] == written["parts"]["train"]["num_tokens"] - 2 * 60 + 2 * (
        60 - written["parts"]["train"]["num_documents"]
    )


def test_without_a_validation_share_everything_is_training_text(workplace, capsys):
    assert main(["data", "tokenize", "texts", "--tokenizer", "tok", "--validation-share", "0", "--out", "tokens"]) == 0
    assert TokenShards.open("tokens/train").num_documents == 60
    assert not Path("tokens/validation").exists()
    assert main(["data", "tokenize", "texts/00.md", "--tokenizer", "tok", "--out", "one"]) == 0
    assert TokenShards.open("one/train").num_documents == 1
    assert "no validation: 1 documents are too few to hold out 2.0%" in capsys.readouterr().err
    assert main(["data", "tokenize", "texts", "--tokenizer", "tok", "--validation-share", "1", "--out", "x"]) == 2


def test_several_inputs_and_patterns_are_read_together(workplace):
    Path("more.jsonl").write_text('{"content": "one"}\n{"content": "two"}\n')
    words = ["data", "tokenize", "more.jsonl", "more.jsonl", "--text-key", "content", "--validation-share", "0"]
    assert main([*words, "--tokenizer", "tok", "--out", "a"]) == 0
    assert TokenShards.open("a/train").num_documents == 4
    words = ["data", "tokenize", "texts", "--pattern", "1*.md,!11.md", "--validation-share", "0"]
    assert main([*words, "--tokenizer", "tok", "--out", "b"]) == 0
    assert TokenShards.open("b/train").num_documents == 9


def test_a_bad_line_stops_with_exit_code_5_its_place_and_what_to_do(workplace, capsys):
    Path("bad.jsonl").write_text('{"text": "one"}\noops\n{"text": "two"}\n')
    words = ["data", "tokenize", "bad.jsonl", "--tokenizer", "tok", "--validation-share", "0", "--out", "tokens"]
    assert main(words) == 5
    error = capsys.readouterr().err
    assert "error: bad.jsonl:2 is not valid JSON: Expecting value at column 1" in error
    assert re.search(r"hint: .*--on-error skip", error)
    assert not Path("tokens").exists() and not list(Path().glob(".tokens*"))
    assert main([*words, "--on-error", "skip"]) == 0
    assert "1 could not be read and were left out:\n  bad.jsonl:2" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty.txt", b"", "empty.txt is empty"),
        ("binary.txt", b"\x00\x01", "binary.txt is a binary file"),
        ("latin.txt", b"caf\xe9", "latin.txt is not utf-8: byte 0xe9 at offset 3"),
        ("keys.jsonl", b'{"body": "x"}', "keys.jsonl:1 has no key 'text'; its keys are: 'body'"),
    ],
)
@pytest.mark.parametrize("subcommand", ["tokenize", "train-tokenizer"])
def test_bad_input_ends_with_exit_code_5(workplace, capsys, subcommand, name, content, message):
    Path(name).write_bytes(content)
    tokenizer = ["--tokenizer", "tok"] if subcommand == "tokenize" else []
    assert main(["data", subcommand, name, *tokenizer, "--out", "out"]) == 5
    error = capsys.readouterr().err
    assert f"error: {message}" in error and "hint: " in error
    assert not Path("out").exists()


def test_nothing_is_overwritten(workplace, capsys):
    Path("tokens").mkdir()
    assert main(["data", "tokenize", "texts", "--tokenizer", "tok", "--out", "tokens"]) == 5
    assert "tokens exists already" in capsys.readouterr().err


def test_a_vocabulary_too_large_for_the_text_names_the_size_that_works(workplace, capsys):
    assert main(["data", "train-tokenizer", "texts", "--vocab-size", "4096", "--out", "big"]) == 5
    reached = re.search(r"--vocab-size (\d+)", capsys.readouterr().err)[1]
    assert main(["data", "train-tokenizer", "texts", "--vocab-size", reached, "--out", "big"]) == 0
    assert Tokenizer.load("big").vocab_size == int(reached)


def test_inspect_lists_what_is_wrong_instead_of_stopping(workplace, capsys):
    Path("texts/bad.txt").write_bytes(b"\xff\x01\x02")
    Path("texts/copy.md").write_bytes(Path("texts/00.md").read_bytes())
    Path("texts/image.png").write_bytes(b"\x89PNG")
    capsys.readouterr()
    assert main(["data", "inspect", "texts", "--tokenizer", "tok"]) == 0
    captured = capsys.readouterr()
    assert re.search(r"documents +61\n", captured.out)
    assert re.search(r"exact duplicates +1 \(1\.6%\)\n +copy\.md = 00\.md\n", captured.out)
    assert "texts/bad.txt is not utf-8" in captured.out
    assert "other files in the folder, not read: 1 .png" in captured.err


def test_the_tokens_of_a_text_can_be_viewed(workplace, capsys):
    capsys.readouterr()
    assert main(["data", "inspect", "--tokenizer", "tok", "--view", "Once there"]) == 0
    assert "'Once'" in capsys.readouterr().out.split()
    assert main(["data", "inspect", "--tokenizer", "tok", "--view", "Once there", "--json"]) == 0
    pieces = json.loads(capsys.readouterr().out)
    assert bytes(byte for piece in pieces for byte in piece["bytes"]) == b"Once there"
    for words in (["--view", "x"], ["texts", "--view", "x", "--tokenizer", "tok"], []):
        assert main(["data", "inspect", *words]) == 2


def test_the_default_corpus_is_an_input_by_name(workplace, capsys):
    assert main(["data", "inspect", "python-library", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["python-library"]
    assert found["num_documents"] == sum(1 for _ in python_library_documents())
    Path("python-library").write_text("a file of the same name wins")
    assert main(["data", "inspect", "python-library", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["python-library"]["num_documents"] == 1


def test_the_help_offers_exactly_the_pre_tokenizers_that_exist():
    assert tuple(PRE_TOKENIZERS) == data_tokenize.PRE_TOKENIZERS


def test_the_examples_of_the_help_work(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for folder in ("src", "books"):
        Path(folder).mkdir()
    for path in sorted(python_library_folder().glob("[a-c]*.py")):
        Path("src", path.name).write_bytes(path.read_bytes())
    Path("books", "book.txt").write_text("Call me Ishmael.\n")
    Path("curated").mkdir()
    Path("curated", "curation.json").write_text('{"fingerprint": "c0ffee", "sources": [{"name": "c4"}]}')
    Path("curated", "part-00000.jsonl.zst").write_bytes(zstandard.compress(b'{"text": "kept", "id": "1"}\n'))
    Path("web.jsonl.zst").write_bytes(zstandard.compress(b'{"content": "text"}\noops\n'))
    page = "<page><title>A</title><ns>0</ns><id>1</id><revision><text>An article.</text></revision></page>"
    Path("enwiki-pages-articles.xml.bz2").write_bytes(bz2.compress(f"<mediawiki>{page}</mediawiki>".encode()))
    monkeypatch.setattr("mamba_slm.data.python_library.python_library_folder", lambda: tmp_path / "src")
    monkeypatch.setattr("mamba_slm.data.reading.parts.python_library_folder", lambda: tmp_path / "src")
    epilogs = (data_tokenize.TRAIN_EPILOG + data_tokenize.TOKENIZE_EPILOG).splitlines()
    examples = [line.split() for line in epilogs if line.startswith("  ")]
    assert len(examples) == 7
    for words in examples:
        words = [word.strip('"') for word in words if word != "mamba-slm"]
        assert main(words) == 0, (words, capsys.readouterr().err)


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs ../shared/data, which is not here")
def test_real_books_are_inspected_with_the_encodings_named(capsys):
    assert main(["data", "inspect", str(SHARED / "corpora" / "gutenberg"), "--json"]) == 0
    found = next(iter(json.loads(capsys.readouterr().out).values()))
    assert found["num_documents"] + found["num_problems"] == 37
    assert all("is not utf-8" in problem for problem in found["problems"])
