"""`mamba-slm eval MODEL --perplexity TEXT`."""

import json

from mamba_slm.cli.main import main
from small_models import save_small_model


def test_texts_are_measured_shown_and_written(tmp_path, capsys):
    model, text = save_small_model(tmp_path / "model"), tmp_path / "text.txt"
    text.write_text("A text of several words, long enough for one window of the model. " * 4)
    (tmp_path / "lines.jsonl").write_text('{"text": "one document"}\n{"text": "and another"}\n')
    command = ["eval", str(model), "--perplexity", str(text), "--perplexity", str(tmp_path / "lines.jsonl")]
    out = tmp_path / "scores"
    assert main([*command, "--window", "16", "--stride", "8", "--out", str(out), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document == json.loads((out / "perplexity.json").read_text())
    first, second = document["texts"]
    assert (first["num_documents"], second["num_documents"], second["num_words"]) == (1, 2, 4)
    assert (first["context_tokens"], first["stride_tokens"]) == (16, 8)
    assert first["bits_per_byte"] > 0 and first["positions"] == []

    assert main(["eval", str(model), "--perplexity", str(text), "--window", "16", "--by-position"]) == 0
    said = capsys.readouterr()
    assert f"{first['num_tokens']:,}" in said.out and "14 to 16" in said.out
    assert "windows of 16 tokens every 12" in said.err


def test_a_text_that_is_not_there_is_named(tmp_path, capsys):
    model = save_small_model(tmp_path / "model")
    assert main(["eval", str(model), "--perplexity", str(tmp_path / "none.txt")]) == 5
    assert "none.txt" in capsys.readouterr().err


def test_token_shards_are_read_as_the_text_they_were_made_of(tmp_path, capsys):
    model, text = save_small_model(tmp_path / "model"), tmp_path / "text.txt"
    text.write_text("A text of several words, long enough for one window of the model. " * 4)
    words = ["--tokenizer", str(model), "--validation-share", "0", "--out", str(tmp_path / "tokens")]
    assert main(["data", "tokenize", str(text), *words]) == 0
    capsys.readouterr()
    found = []
    for read in (text, tmp_path / "tokens", tmp_path / "tokens" / "train"):
        assert main(["eval", str(model), "--perplexity", str(read), "--json"]) == 0
        found.append(json.loads(capsys.readouterr().out)["texts"][0])
    assert [one["bits_per_byte"] for one in found] == [found[0]["bits_per_byte"]] * 3
