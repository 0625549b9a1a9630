"""Promises of `mamba-slm quantize`, as a user meets them."""

import json

import pytest

from mamba_slm.cli.main import main
from mamba_slm.cli.quantize import Steps
from mamba_slm.generation.generate import generate
from mamba_slm.generation.loading import load
from small_models import save_small_model

QUICK = ["--no-speed", "--sensitivity", "none", "--text-tokens", "100"]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save_small_model(tmp_path_factory.mktemp("models") / "small")


@pytest.fixture(autouse=True)
def text(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("mamba_slm.cli.quantize.start_kernels", lambda: None)  # they would stay for other tests
    (tmp_path / "text.txt").write_text("def f(a):\n    return a + 1\n" * 20)


def test_a_user_quantizes_reads_the_report_and_generates(model, capsys):
    assert main(["quantize", str(model), "--to", "int4", "--text", "text.txt", "--out", "small", *QUICK]) == 0
    out, talk = capsys.readouterr()
    for shown in ("on disk", "in memory", "of BF16", "perplexity", "same token", "report      small/report.html"):
        assert shown in out, shown
    assert "method nearest (automatic" in talk
    assert len(generate(load("small").runtime, [[5, 6]], max_new_tokens=3).completions[0].tokens) == 3


def test_json_has_everything(model, capsys):
    words = ["quantize", str(model), "--to", "int8", "--text", "text.txt", "--out", "o", "--json", "--no-speed"]
    assert main([*words, "--text-tokens", "100", "--sensitivity", "parts", "--sensitivity-tokens", "40"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["out"] == "o" and found["quantization"]["default"]["format"] == "int8"
    assert len(found["parts"]) == 9 and found["size"]["file_ratio"] < 1


def test_a_drop_beyond_the_limit_exits_6_and_writes_nothing(model, tmp_path, capsys):
    words = ["quantize", str(model), "--to", "int4", "--text", "text.txt", "--out", "o", "--max-drop", "0.001%", *QUICK]
    assert main(words) == 6
    out, talk = capsys.readouterr()
    assert "perplexity" in out and "error: the perplexity rises by" in talk and "--keep" in talk
    assert sorted(path.name for path in tmp_path.iterdir()) == ["text.txt"]


def test_a_dry_run_shows_sizes_and_writes_nothing(model, tmp_path, capsys):
    words = ["quantize", str(model), "--to", "int4", "--keep", "in_proj=int8,embedding=bf16", "--dry-run"]
    assert main(words) == 0
    out = capsys.readouterr().out
    assert "in_proj" in out and "bfloat16" in out and "bits per weight" in out
    assert main([*words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["quantization"]["parts"]["embedding"] is None
    assert sorted(path.name for path in tmp_path.iterdir()) == ["text.txt"]


def test_a_comparison_is_a_table(model, tmp_path, capsys):
    assert main(["quantize", str(model), "--compare", "int8,nf4", "--text", "text.txt", *QUICK]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[:3] == ["format", "method", "bits"]
    assert [line.split()[0] for line in lines[1:3]] == ["int8", "nf4"]
    assert "measured on" in lines[3]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["text.txt"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "which format"),
        (["--to", "int3"], "did you mean"),
        (["--to", "int4", "--keep", "in_proj"], "is not PART=FORMAT"),
        (["--compare", "int8", "--to", "int4"], "--to says nothing"),
        (["--compare", "int8", "--dry-run"], "leave one of them out"),
    ],
)
def test_wrong_requests_exit_2_and_say_what_to_type(model, words, said, capsys):
    assert main(["quantize", str(model), *words]) == 2
    assert said in capsys.readouterr().err


def test_without_a_place_the_result_lies_beside_the_model(model, tmp_path, capsys):
    (tmp_path / "mine").symlink_to(model)
    assert main(["quantize", "mine", "--to", "int8", "--text", "text.txt", *QUICK]) == 0
    assert (tmp_path / "mine-int8" / "report.html").is_file()


def test_progress_begins_anew_with_every_stage(capsys):
    with Steps() as show:
        for stage in ("quantizing", "measuring", "measuring"):
            for done in range(3):
                show(stage, done, 2, "name")
