"""`mamba-slm finetune`: a plan before anything is trained, a run that can be talked with, and plain errors."""

import json
from pathlib import Path

import pytest

from mamba_slm.cli.main import main
from small_models import save_complete_model

WORDS = ("one", "two", "three", "four", "five", "six", "seven")
EXAMPLES = [{"instruction": f"Say {word}.", "output": word} for word in WORDS]
SMALL = (
    "--context-tokens", "96", "--batch-tokens", "192", "--precision", "fp32", "--kernels", "torch",
    "--sample-every-steps", "0",
)  # fmt: skip


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    """A model and examples, of which one has no answer."""
    folder = tmp_path_factory.mktemp("given")
    model = save_complete_model(folder / "model", max_context_tokens=128)
    (folder / "words.json").write_text(json.dumps([*EXAMPLES, {"instruction": "Say nothing.", "output": ""}]))
    return str(model), str(folder / "words.json")


def test_a_dry_run_shows_settings_steps_memory_and_the_mask_and_writes_nothing(given, tmp_path, capsys):
    model, data = given
    words = ["finetune", model, "--data", data, *SMALL, "--dry-run", "--mask-check", "--out", str(tmp_path / "run")]
    assert main(words) == 0
    shown = capsys.readouterr()
    assert "⟦" in shown.out and "<|im_end|>⟧" in shown.out
    assert "rows in a step" in shown.out and "memory" in shown.out and "command line" in shown.out
    assert "left out 1: empty answer" in shown.err and "item 8" in shown.err
    assert not (tmp_path / "run").exists()
    assert main([*words, "--json", "--quiet"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["plan"]["steps"] == 2 and plan["memory_bytes"] > 0 and plan["origins"]["data"] == "command line"


def test_a_run_prints_its_result_resumes_by_its_own_command_and_is_a_model(given, tmp_path, capsys, monkeypatch):
    model, data = given
    monkeypatch.chdir(tmp_path)
    words = ["finetune", model, "--data", data, *SMALL, "--max-steps", "2", "--out", "run", "--json", "--rank", "2"]
    assert main(words) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["step"] == 2 and result["adapter"] == "adapter" and result["model"] is None
    assert main(["generate", "run", "Say one.", "--max-new-tokens", "3", "--quiet"]) == 0
    assert main(["runs", "show", "run"]) == 0
    assert "done: reached 2 steps" in capsys.readouterr().out
    assert json.loads(Path("run/run.json").read_text(encoding="utf-8"))["kind"] == "finetune"
    assert main(["finetune", "--resume", "run"]) == 0, "a finished run takes no further step"
    assert (tmp_path / "run/report.html").is_file()


@pytest.mark.parametrize(
    ("words", "code", "what"),
    [
        (["finetune"], 2, "which model"),
        (["finetune", "MODEL"], 2, "nothing to learn from"),
        (["finetune", "MODEL", "--data", "absent.json"], 5, "absent.json"),
        (["finetune", "absent", "--data", "DATA"], 5, "absent does not exist"),
        (["finetune", "MODEL", "--data", "DATA", "--method", "full", "--merge"], 2, "no adapter to merge"),
        (["finetune", "MODEL", "--data", "DATA", "--targets", "in_prj"], 2, "in_proj"),
        (["finetune", "--resume", "nothing"], 2, "nothing"),
    ],
)
def test_what_is_wrong_is_said_with_its_exit_code(given, tmp_path, monkeypatch, capsys, words, code, what):
    monkeypatch.chdir(tmp_path)
    named = {"MODEL": given[0], "DATA": given[1]}
    assert main([named.get(word, word) for word in words]) == code
    assert what in capsys.readouterr().err


def test_a_run_of_another_kind_is_not_resumed_as_a_fine_tuning(given, tmp_path, capsys):
    run = tmp_path / "run"
    run.mkdir()
    (run / "status.json").write_text("{}")
    (run / "config.yaml").write_text("train: {}\n")
    assert main(["finetune", "--resume", str(run)]) == 2
    assert "is no fine-tuning" in capsys.readouterr().err
