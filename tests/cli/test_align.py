"""`mamba-slm align` from the command line: results on stdout, plans and rewards before anything is trained."""

import json

import pytest

from mamba_slm.cli.main import main
from small_models import save_complete_model

FEW = ["--device", "cpu", "--kernels", "torch", "--max-steps", "2", "--sample-every-steps", "0", "--rank", "4"]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A model, pairs and questions."""
    folder = tmp_path_factory.mktemp("align")
    save_complete_model(folder / "model", max_context_tokens=96)
    pairs = [{"prompt": f"q{n}", "chosen": f"yes {n}", "rejected": "no"} for n in range(12)]
    (folder / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in pairs))
    (folder / "questions.jsonl").write_text("".join(json.dumps({"question": f"{n}+1?"}) + "\n" for n in range(6)))
    return folder


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def run(capsys, *words):
    code = main(["align", *map(str, words)])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
def test_a_run_prints_one_json_document_and_can_be_used_as_a_model(files, tmp_path, capsys):
    out = tmp_path / "run"
    code, stdout, stderr = run(
        capsys, files / "model", "dpo", "--data", files / "pairs.jsonl", "--out", out, "--json", *FEW
    )
    assert code == 0, stderr
    found = json.loads(stdout)
    assert found["adapter"] == "adapter" and found["held_out"]["after"]["preferred"]["count"] > 0
    assert "held out" in stderr and (out / "report.html").is_file()
    assert main(["runs", "show", str(out)]) == 0
    capsys.readouterr()
    assert main(["generate", str(out), "q1", "--max-new-tokens", "3", "--runtime", "torch"]) == 0
    assert main(["align", "--resume", str(out), "--out", str(tmp_path / "other")]) == 2
    code, _, stderr = run(capsys, files / "model", "kto", "--resume", out)
    assert code == 2 and "the objective" in stderr


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
def test_plans_and_rewards_are_shown_before_anything_is_trained(files, tmp_path, capsys):
    code, stdout, stderr = run(
        capsys, files / "model", "grpo", "--data", files / "questions.jsonl", "--reward", "length=4", "--dry-run",
        "--json",
    )  # fmt: skip
    plan = json.loads(stdout)
    assert code == 0 and plan["settings"]["objective"] == "grpo" and plan["plan"]["rows_per_step"] == 40, stderr
    code, stdout, _ = run(
        capsys, files / "model", "grpo", "--data", files / "questions.jsonl", "--reward", "length=4", "--dry-reward",
        "8", "--group", "4", "--max-new-tokens", "8", "--device", "cpu",
    )  # fmt: skip
    assert code == 0 and "length: mean" in stdout and "of the groups of 4" in stdout


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ([], 2, "which model"),
        (["MODEL"], 2, "which objective"),
        (["MODEL", "dpi", "--data", "PAIRS"], 2, "did you mean 'dpo'"),
        (["MODEL", "dpo"], 2, "nothing to align with"),
        (["MODEL", "dpo", "--data", "PAIRS", "--gamma", "2"], 2, "gamma is a setting of simpo"),
        (["MODEL", "dpo", "--data", "PAIRS", "--dry-reward", "4"], 2, "for grpo"),
        (["MODEL", "dpo", "--data", "prefs:nobody"], 2, "unknown set of preferences"),
        (["nowhere", "dpo", "--data", "PAIRS"], 5, "nowhere"),
    ],
)
def test_what_cannot_be_done_is_refused_with_what_to_type(files, tmp_path, capsys, words, code, said):
    places = {"MODEL": str(files / "model"), "PAIRS": str(files / "pairs.jsonl")}
    found, _, stderr = run(capsys, *(places.get(word, word) for word in words), "--out", tmp_path / "run")
    assert (found, said in stderr) == (code, True), stderr
