"""Promises of `mamba-slm score`."""

import io
import json
import sys

import pytest

from mamba_slm.cli.main import main


def lines(path, *rows):
    path.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows), encoding="utf-8")
    return str(path)


def test_texts_with_references_are_compared(tmp_path, capsys):
    file = lines(tmp_path / "t.jsonl", {"text": "a b c d e", "reference": "a b c d e"},
                 {"text": "naïve 語 x y", "reference": ["q", "naïve 語 x y"]})  # fmt: skip
    assert main(["score", file, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["texts"] == 2
    assert found["references"]["bleu"] == pytest.approx(100)
    assert main(["score", file]) == 0
    out = capsys.readouterr().out
    for name in ("BLEU", "chrF2", "rougeL", "distinct-2", "repetition-4"):
        assert name in out


def test_texts_alone_are_counted(tmp_path, capsys, monkeypatch):
    data = b'{"made": "a a a a a"}\n\n{"made": "b"}\n'
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data), encoding="utf-8"))
    assert main(["score", "-", "--text-field", "made"]) == 0
    out, err = capsys.readouterr()
    assert "nothing was compared" in err
    assert "0.5000" in out  # of repetition-4: two grams, one kind


@pytest.mark.parametrize(
    "content, message",
    [
        ("", "holds no texts"),
        ("{", "is not JSON"),
        ('{"other": 1}', 'no text in a field "text"'),
        ('{"text": "a", "reference": 3}', "neither a text nor a list"),
        ('{"text": "a", "reference": "b"}\n{"text": "a"}', "text 2 has no reference"),
    ],
)
def test_what_cannot_be_scored_is_named(tmp_path, capsys, content, message):
    (tmp_path / "bad.jsonl").write_text(content)
    assert main(["score", str(tmp_path / "bad.jsonl")]) == 5
    assert message in capsys.readouterr().err
