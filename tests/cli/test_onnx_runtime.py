"""Promises of `--runtime onnx`, as somebody types it: the same text as PyTorch, and errors that say what to type."""

import json
import os
import subprocess
import sys

import pytest

from mamba_slm.cli.main import main
from onnx_folders import save_small_onnx_model
from small_models import save_small_model

GREEDY = ("--temperature", "0", "--max-new-tokens", "12", "--threads", "1")


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    return {
        "torch": save_small_model(root / "small", max_context_tokens=64),
        "onnx": save_small_onnx_model(root / "small-onnx", max_context_tokens=64),
    }


def typed(*words, stdin=""):
    """What one gets from a shell."""
    return subprocess.run(
        [sys.executable, "-m", "mamba_slm.cli.main", *map(str, words)],
        input=stdin,
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=False,
    )


def test_generate_prints_the_same_text_from_both_runtimes(folders):
    expected = typed("generate", folders["torch"], "def f(", *GREEDY, "--runtime", "torch")
    found = typed("generate", folders["onnx"], "def f(", *GREEDY, "--runtime", "onnx", "--provider", "cpu")
    assert (expected.returncode, found.returncode) == (0, 0), found.stderr
    assert found.stdout == expected.stdout
    assert "onnxruntime" in found.stderr
    assert "CPUExecutionProvider" in found.stderr
    assert "1 threads" not in found.stderr
    automatic = typed("generate", folders["onnx"], "def f(", *GREEDY, "--json")
    printed = json.loads(automatic.stdout)
    assert printed["completions"][0]["text"] == expected.stdout.removesuffix("\n")
    assert printed["runtime"].startswith("onnxruntime")


def test_samples_of_a_seed_are_the_same_text_from_both_runtimes(folders, capsys):
    call = ["x = ", "-n", "3", "--seed", "7", "--max-new-tokens", "10", "--temperature", "1.2", "--threads", "1"]
    texts = []
    for name in ("torch", "onnx"):
        assert main(["generate", str(folders[name]), *call]) == 0
        texts.append(capsys.readouterr().out)
    assert texts[0] == texts[1]
    assert "=== 3 of 3" in texts[0]


def test_a_chat_is_the_same_from_both_runtimes(folders):
    lines = "def f(\nreturn\n/reset\nclass A\n"
    expected, found = (typed("chat", folders[name], *GREEDY, "--seed", "1", stdin=lines) for name in ("torch", "onnx"))
    assert (found.returncode, found.stdout) == (0, expected.stdout)


@pytest.mark.parametrize(
    "name, arguments, code, message, hint",
    [
        ("onnx", ["--provider", "cuda"], 3, "no execution provider 'cuda' here; it has", "onnxruntime-gpu"),
        ("onnx", ["--provider", "abacus"], 3, "no execution provider 'abacus'", "--provider"),
        ("onnx", ["--runtime", "torch"], 2, "holds a model for ONNX Runtime", "--runtime onnx"),
        ("onnx", ["--device", "cuda"], 2, "device 'cuda' is a choice of PyTorch", "--provider cuda"),
        ("onnx", ["--threads", "0"], 2, "threads must be at least 1", ""),
        (
            "torch",
            ["--runtime", "onnx"],
            2,
            "is a model for PyTorch",
            "mamba-slm export onnx {folder} --out small-onnx",
        ),
        ("torch", ["--provider", "cpu"], 2, "provider 'cpu' is a choice of ONNX Runtime", "--device"),
    ],
)
def test_what_does_not_fit_together_is_refused_with_the_way_out(folders, capsys, name, arguments, code, message, hint):
    assert main(["generate", str(folders[name]), "x", *arguments]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err
    assert hint.format(folder=folders[name]) in err
