"""Promises of `mamba-slm export gguf`."""

import json
import shutil

import pytest

from export.gguf.small_gguf_models import LITTLE, save_variant
from mamba_slm.cli.export_gguf import TYPES
from mamba_slm.cli.main import main
from mamba_slm.export.gguf import layout


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_variant(tmp_path_factory.mktemp("models") / "small", **LITTLE)


def export(folder, out, *more):
    """Run the command without llama.cpp, which the slow test runs."""
    return main(["export", "gguf", str(folder), "--out", str(out), "--no-llama-cpp", *more])


def test_the_default_is_written_checked_and_summarized(folder, tmp_path, capsys):
    assert export(folder, tmp_path / "x.gguf") == 0
    out, err = capsys.readouterr()
    assert f"wrote        {tmp_path / 'x.gguf'} (" in out
    assert "Q8_0" in out
    assert "ollama create NAME -f" in out
    assert "pre-tokenizer llama-bpe" in out
    assert "read back    argmax agreement" in out
    assert "llama.cpp    not run" in out
    assert err == ""
    assert (tmp_path / "x.Modelfile").read_text().startswith("FROM ./x.gguf")


def test_json_says_what_was_measured(folder, tmp_path, capsys):
    text = tmp_path / "text.txt"
    text.write_text("A lake is a body of water.\n" * 20)
    assert export(folder, tmp_path / "x.gguf", "--type", "F32", "--text", str(text), "--json") == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["file"] == str(tmp_path / "x.gguf")
    assert printed["bytes"] == (tmp_path / "x.gguf").stat().st_size
    assert printed["read_back"]["probes"]["max_logit_error"] <= 1e-4
    assert printed["read_back"]["text"]["perplexity_a"] == pytest.approx(printed["read_back"]["text"]["perplexity_b"])
    assert printed["llama_cpp"] is None


def test_tensors_that_fall_back_are_listed_and_the_text_is_reported(folder, tmp_path, capsys):
    text = tmp_path / "text.txt"
    text.write_text("A lake is a body of water.\n" * 20)
    assert export(folder, tmp_path / "x.gguf", "--type", "Q4_K_M", "--text", str(text)) == 0
    out = capsys.readouterr().out
    assert "fell back    token_embd.weight Q8_0, blk.0.ssm_in.weight Q5_0, blk.0.ssm_out.weight Q5_0 and 15 more" in out
    assert "  on text    argmax agreement" in out
    assert "perplexity" in out


def test_a_classic_model_is_warned_about_on_stderr(tmp_path, capsys):
    classic = save_variant(tmp_path / "model", "classic", **LITTLE)
    assert export(classic, tmp_path / "x.gguf", "--type", "F32") == 0
    out, err = capsys.readouterr()
    assert err.startswith("warning: 3 of 5 layers have no feed-forward")
    assert "warning" not in out


@pytest.mark.parametrize(
    "arguments, code, message",
    [
        (["--type", "Q9"], 2, "unknown value for --type"),
        (["--tipe", "F32"], 2, "did you mean '--type'"),
        (["--text", "absent.txt"], 5, "absent.txt cannot be read as text"),
    ],
)
def test_settings_that_make_no_sense_are_refused(folder, tmp_path, capsys, arguments, code, message):
    assert export(folder, tmp_path / "x.gguf", *arguments) == code
    out, err = capsys.readouterr()
    assert message in err
    assert "hint:" in err
    assert out == ""
    assert not list(tmp_path.iterdir())


def test_bad_input_is_refused_before_work_starts(folder, tmp_path, capsys):
    out = tmp_path / "out"
    out.mkdir()
    without = tmp_path / "without"
    shutil.copytree(folder, without)
    (without / "tokenizer.json").unlink()
    odd = save_variant(tmp_path / "odd", **{**LITTLE, "vocab_size": 324})
    learned = save_variant(tmp_path / "learned", **LITTLE, position="learned")
    for model, file, code, message in (
        (tmp_path / "nothing", "x.gguf", 5, "does not exist"),
        (out, "x.gguf", 5, "is not a model"),
        (without, "x.gguf", 5, "has no tokenizer.json"),
        (odd, "x.gguf", 2, "is not a multiple of 8"),
        (learned, "x.gguf", 2, "position learned cannot be written as GGUF"),
        (folder, "x.bin", 2, "does not end in .gguf"),
    ):
        assert export(model, out / file) == code
        assert message in capsys.readouterr().err
        assert not list(out.iterdir())


def test_an_existing_file_stays_unless_told_otherwise(folder, tmp_path, capsys):
    path = tmp_path / "x.gguf"
    path.write_text("mine")
    assert export(folder, path) == 2
    assert "exists already" in capsys.readouterr().err
    assert path.read_text() == "mine"
    assert export(folder, path, "--overwrite") == 0
    assert path.read_bytes()[:4] == b"GGUF"


def test_a_file_that_is_not_the_model_exits_6_and_leaves_nothing(folder, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(layout, "pairs_adjacent", lambda weight, heads: weight)
    assert export(folder, tmp_path / "x.gguf", "--type", "F32") == 6
    err = capsys.readouterr().err
    assert "first layer that drifts: layer 1 attention" in err
    assert not list(tmp_path.iterdir())


def test_every_type_is_named_in_the_help(capsys):
    assert main(["export", "gguf", "--help"]) == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in TYPES)
