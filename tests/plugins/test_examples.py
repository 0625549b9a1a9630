"""The two example packages, installed with pip, do in the commands what their READMEs say."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from mamba_slm.cli.main import main
from mamba_slm.model.conformance import require_conforming
from plugin_folders import install

EXAMPLES = Path(__file__).parents[2] / "examples"
pytestmark = pytest.mark.slow


@pytest.fixture
def run(installed, monkeypatch, capsys):
    """Run a command with the plugins found; returns exit code, stdout and stderr."""
    monkeypatch.syspath_prepend(installed)

    def command(*words):
        code = main([str(word) for word in words])
        shown = capsys.readouterr()
        return code, shown.out, shown.err

    return command


@pytest.fixture(scope="module")
def trained(installed, tmp_path_factory):
    """A run of nano with the letter R, a few steps long."""
    folder = tmp_path_factory.mktemp("runs")
    (folder / "text.txt").write_text("".join(f"def f{n}(x):\n    return x + {n}\n\n" for n in range(2000)))
    words = [
        "train",
        "nano",
        "--pattern",
        "R-*-R-",
        "--data",
        str(folder / "text.txt"),
        "--out",
        str(folder / "griffin"),
    ]
    words += ["--max-steps", "12", "--batch-tokens", "512", "--context-tokens", "128", "--quiet", "--threads", "1"]
    words += ["--model-settings", "R.conv_kernel=3", "--vocab-size", "512"]
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(installed)
        assert main(words) == 0
    return folder / "griffin"


def test_the_packages_pass_their_own_tests(installed):
    paths = [str(EXAMPLES / name / "tests") for name in ("mamba-slm-rg-lru", "mamba-slm-task-spelling")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(installed), *filter(None, sys.path)])}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", os.devnull, *paths]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, cwd=installed)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_size_is_described_without_torch_with_what_it_loses(run):
    code, out, _ = run("models", "describe", "nano", "--pattern", "R-*-R-", "--json")
    described = json.loads(out)
    assert code == 0 and described["parameters_by_part"]["plugins"] > 0
    lost = {runtime for issue in described["portability_issues"] for runtime in issue["runtimes"]}
    assert {"transformers", "llama.cpp", "vLLM"} <= lost


def test_a_trained_model_remembers_its_plugin_and_learned(run, trained):
    stored = json.loads((trained / "model" / "config.json").read_text())
    assert stored["plugins"]["R"] == {"distribution": "mamba-slm-rg-lru", "version": "0.1.0"}
    assert stored["model"]["sublayer_settings"] == {"R": {"expand": 1, "conv_kernel": 3}}
    rows = [json.loads(line) for line in (trained / "metrics.jsonl").read_text().splitlines()]
    losses = [row["loss"] for row in rows if row.get("kind", "train") == "train" and "loss" in row]
    assert losses[-1] < losses[0] - 0.2


def test_it_generates_with_pytorch_and_says_why_not_faster(run, trained):
    code, out, err = run("generate", trained, "def f1", "--max-new-tokens", "8", "--seed", "1", "--threads", "1")
    assert code == 0 and out
    assert "no formula for the sublayer R of a plugin" in err


def test_what_it_loses_is_an_error_that_names_the_letter(run, trained, tmp_path):
    for name in ("hf", "gguf", "onnx"):
        out = tmp_path / f"model.{name}"
        code, _, err = run("export", name, trained, "--out", out)
        assert code == 2 and " R of a plugin" in err, err
        assert not out.exists()


def test_a_folder_of_rounded_weights_is_made_of_it(run, trained, tmp_path):
    code, _, err = run("quantize", trained, "--to", "int8", "--out", tmp_path / "int8", "--quiet")
    assert code == 0, err
    code, out, _ = run("generate", tmp_path / "int8", "def f1", "--max-new-tokens", "4", "--seed", "1", "--quiet")
    assert code == 0 and out


def test_the_task_is_asked_offline(run, trained, tmp_path):
    code, out, err = run(
        "eval", trained, "--benchmarks", "spelling_pairs", "--out", tmp_path / "scores", "--json", "--offline"
    )
    assert code == 0, err
    (task,) = json.loads(out)["tasks"]
    assert task["task"] == "spelling_pairs" and task["num_questions"] == 20
    assert 0 <= task["scores"]["acc"]["value"] <= 1


def test_without_the_package_the_error_says_what_to_install(trained, capsys):
    assert main(["generate", str(trained), "x", "--quiet"]) == 2
    assert "pip install mamba-slm-rg-lru==0.1.0" in capsys.readouterr().err


def test_doctor_lists_both(run):
    code, out, _ = run("doctor", "--plugins")
    assert code == 0
    assert "sublayer R mamba-slm-rg-lru 0.1.0" in out and "task spelling_pairs mamba-slm-task-spelling 0.1.0" in out


def test_the_sublayer_of_the_guide_passes_the_kit_that_the_guide_names(tmp_path, monkeypatch):
    page = (EXAMPLES.parent / "docs" / "plugins.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", page, flags=re.MULTILINE | re.DOTALL)
    description = next(block for block in blocks if "AVERAGE = " in block).replace("my_package.mixer", "page_mixer")
    mixer = next(block for block in blocks if "class DecayingAverage" in block)
    entries = {"sublayers": {"A": "page_sublayer:AVERAGE"}}
    site = install(tmp_path / "site", "of-the-page", entries, page_sublayer=description, page_mixer=mixer)
    monkeypatch.syspath_prepend(site)
    require_conforming("A")
