"""Promises of `mamba-slm generate`."""

import io
import json
import shutil
import sys

import pytest

from mamba_slm.cli.main import main
from mamba_slm.model.checkpoint import save_model
from small_models import save_small_model, small_tokenizer, varied_model


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_small_model(tmp_path_factory.mktemp("models") / "small", max_context_tokens=64)


def type_in(monkeypatch, data):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data), encoding="utf-8"))


def test_the_continuation_is_on_stdout_and_speed_on_stderr(folder, capsys):
    assert main(["generate", str(folder), "def f(", "--max-new-tokens", "8", "--seed", "1"]) == 0
    out, err = capsys.readouterr()
    assert out.endswith("\n")
    assert not out.startswith("def f(")
    assert f"prefill {1 + len(small_tokenizer().encode('def f('))} tokens" in err
    assert "decode 7 tokens" in err
    assert "seed 1" in err
    assert "ended by: --max-new-tokens" in err
    assert "device" in err


def test_streamed_whole_and_json_are_the_same_text(folder, capsys):
    call = ["generate", str(folder), "x = ", "--max-new-tokens", "12", "--seed", "7"]
    texts = []
    for extra in ([], ["--no-stream"]):
        assert main([*call, *extra]) == 0
        texts.append(capsys.readouterr().out.removesuffix("\n"))
    assert main([*call, "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert texts == [printed["completions"][0]["text"]] * 2
    assert printed["prompt"] == "x = "
    assert printed["seed"] == 7
    assert printed["completions"][0]["num_tokens"] == 12
    assert printed["completions"][0]["finish_reason"] == "length"
    assert printed["prompt_tokens"] == 1 + len(small_tokenizer().encode("x = "))


def test_the_same_seed_repeats_and_a_missing_one_is_printed_so_that_it_can_be(folder, capsys):
    call = ["generate", str(folder), "x", "--max-new-tokens", "10", "--temperature", "1.5"]
    assert main(call) == 0
    out, err = capsys.readouterr()
    seed = err.split("seed ")[1].split()[0]
    assert main([*call, "--seed", seed]) == 0
    assert capsys.readouterr().out == out


def test_several_samples_are_numbered(folder, capsys):
    assert main(["generate", str(folder), "x", "-n", "3", "--max-new-tokens", "5", "--temperature", "2"]) == 0
    out = capsys.readouterr().out
    assert [line for line in out.splitlines() if line.startswith("===")] == ["=== 1 of 3", "=== 2 of 3", "=== 3 of 3"]


def test_a_prompt_may_come_from_stdin_and_be_echoed(folder, capsys, monkeypatch):
    type_in(monkeypatch, "naïve\n".encode())
    assert main(["generate", str(folder), "-", "--echo", "--max-new-tokens", "3"]) == 0
    assert capsys.readouterr().out.startswith("naïve\n")
    type_in(monkeypatch, b"\xff\xfe")
    assert main(["generate", str(folder), "-"]) == 5
    assert "not UTF-8" in capsys.readouterr().err


def test_a_file_of_results_is_replaced_only_when_told(folder, tmp_path, capsys):
    out = tmp_path / "texts.jsonl"
    words = ["generate", str(folder), "x", "--max-new-tokens", "2", "--temperature", "0", "--out", str(out)]
    assert main(words) == 0
    made = out.read_text()
    out.write_text("kept")
    assert main(words) == 2
    assert "add --overwrite" in capsys.readouterr().err and out.read_text() == "kept"
    assert main([*words, "--overwrite"]) == 0
    assert out.read_text() == made


@pytest.mark.parametrize("flag", ["--prompt-file", "--jsonl"])
def test_a_file_of_prompts_that_is_not_there_says_what_the_flag_takes(folder, capsys, flag):
    assert main(["generate", str(folder), flag, "a prompt"]) == 5
    assert "take names of files" in capsys.readouterr().err


def test_a_stop_text_ends_the_output_before_it(folder, capsys):
    call = ["generate", str(folder), "def f(", "--max-new-tokens", "20", "--temperature", "0"]
    assert main(call) == 0
    text = capsys.readouterr().out.removesuffix("\n")
    assert main([*call, "--stop", text[3:6]]) == 0
    out, err = capsys.readouterr()
    assert out.removesuffix("\n") == text[: text.index(text[3:6])]
    assert "ended by: stop text" in err


def test_a_full_context_is_said(folder, capsys):
    assert main(["generate", str(folder), "x", "--max-new-tokens", "500", "--temperature", "0"]) == 0
    assert "ended by: the model's context is full" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments, code, message",
    [
        (["--temperature", "-1"], 2, "temperature must be 0 or more"),
        (["--top-p", "2"], 2, "top_p must lie in (0, 1]"),
        (["--max-new-tokens", "0"], 2, "max_new_tokens must be at least 1"),
        (["--stop", ""], 2, "stop string is empty"),
        (["-n", "0"], 2, "samples"),
        (["--device", "abacus"], 3, "device 'abacus' cannot be used"),
        (["--tempreature", "1"], 2, "did you mean '--temperature'"),
    ],
)
def test_settings_that_make_no_sense_are_refused(folder, capsys, arguments, code, message):
    assert main(["generate", str(folder), "x", *arguments]) == code
    out, err = capsys.readouterr()
    assert message in err
    assert out == ""


def test_a_prompt_longer_than_the_context_is_refused_with_the_way_out(folder, capsys):
    assert main(["generate", str(folder), "é" * 100]) == 2
    err = capsys.readouterr().err
    assert "leaves no room in the model's context of 64 tokens" in err
    assert "hint: shorten it by at least" in err


def test_a_wrong_path_is_named(tmp_path, capsys):
    assert main(["generate", str(tmp_path / "nothing"), "x"]) == 5
    assert "does not exist" in capsys.readouterr().err
    assert main(["generate", str(tmp_path), "x"]) == 5
    assert "is not a model" in capsys.readouterr().err


def test_damage_is_found_before_anything_is_generated(folder, tmp_path, capsys):
    without = tmp_path / "without"
    shutil.copytree(folder, without)
    (without / "tokenizer.json").unlink()
    assert main(["generate", str(without), "x"]) == 5
    assert "no tokenizer at" in capsys.readouterr().err

    short = tmp_path / "short"
    shutil.copytree(folder, short)
    weights = short / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    assert main(["generate", str(short), "x"]) == 1
    assert "model.safetensors cannot be read" in capsys.readouterr().err

    broken = tmp_path / "broken"
    shutil.copytree(folder, broken)
    (broken / "config.json").write_text("{")
    assert main(["generate", str(broken), "x"]) == 1
    assert "config.json" in capsys.readouterr().err


def test_a_tokenizer_of_another_model_is_refused(folder, tmp_path, capsys):
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    save_model(varied_model(vocab_size=100), foreign)
    small_tokenizer().save(foreign)
    assert main(["generate", str(foreign), "x"]) == 1
    assert "a tokenizer of 320 tokens, but a model of 100" in capsys.readouterr().err
