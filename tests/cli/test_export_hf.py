"""`export hf` as a user meets it."""

import json

import pytest

from mamba_slm.cli.main import main
from small_models import save_small_model


@pytest.fixture
def model(tmp_path):
    return save_small_model(tmp_path / "model")


def test_a_summary_for_people_and_one_for_programs(model, tmp_path, capsys):
    assert main(["export", "hf", str(model), "--out", str(tmp_path / "out")]) == 0
    shown = capsys.readouterr()
    assert "verified  largest difference of a logit" in shown.out
    assert "transformers.js  yes" in shown.out
    assert "comparing" in shown.err
    words = ["export", "hf", str(model), "--out", str(tmp_path / "half"), "--dtype", "bfloat16", "--quiet", "--json"]
    assert main([*words, "--max-shard-size", "20k"]) == 0
    shown = capsys.readouterr()
    summary = json.loads(shown.out)
    assert shown.err == ""
    assert summary["parity"]["max_logit_error"] <= 1e-4
    assert summary["rounding"]["mean_kl"] > 0
    assert summary["dtype"] == "bfloat16"
    assert summary["bytes"] == sum(path.stat().st_size for path in (tmp_path / "half").iterdir())
    assert sum(name.endswith(".safetensors") for name in summary["files"]) > 1
    assert summary["runtimes"]["vLLM"] == {"loads": True, "reasons": [], "remarks": []}


def test_a_dry_run_says_who_can_load_the_model_and_writes_nothing(model, tmp_path, capsys):
    values = json.loads((model / "config.json").read_text())
    values["model"] |= {"rope_scaling": "yarn", "rope_scaling_factor": 2.0, "max_context_tokens": 4096}
    values["model"]["pattern"] = "M*-M-"
    (model / "config.json").write_text(json.dumps(values))
    assert main(["export", "hf", str(model), "--dry-run"]) == 0
    shown = capsys.readouterr()
    assert "dead parameters" in shown.err
    sglang = next(line for line in shown.out.splitlines() if line.startswith("SGLang"))
    assert sglang.split()[1] == "no"
    assert "rope_scaling = yarn" in sglang
    assert main(["export", "hf", str(model), "--dry-run", "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["pattern"] == "M-*-M-"
    assert not summary["runtimes"]["SGLang"]["loads"]
    assert summary["runtimes"]["llama.cpp"]["loads"]
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_bad_requests_have_their_exit_codes(model, tmp_path, capsys):
    out = str(tmp_path / "out")
    assert main(["export", "hf", str(tmp_path / "absent"), "--out", out]) == 5
    assert main(["export", "hf", str(model)]) == 2
    assert "--out is missing" in capsys.readouterr().err
    assert main(["export", "hf", str(model), "--out", str(model)]) == 2
    assert "exists already" in capsys.readouterr().err
    assert main(["export", "hf", str(model), "--out", out, "--tolerance", "0"]) == 2
    assert "--tolerance: '0' is not a number above 0" in capsys.readouterr().err
    assert main(["export", "hf", str(model), "--out", out, "--max-shard-size", "0"]) == 2
    assert main(["export", "hf", str(model), "--out", out, "--dtype", "int8"]) == 2
    assert main(["export", "hf", str(model), "--out", out, "--tolerance", "1e-12"]) == 6
    assert "first layer that drifts" in capsys.readouterr().err
    (model / "tokenizer.json").unlink()
    assert main(["export", "hf", str(model), "--out", out]) == 5
    assert "has no tokenizer.json" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_an_unknown_format_is_named_with_the_known_ones(capsys):
    assert main(["export", "hff", "model"]) == 2
    assert "did you mean 'hf'" in capsys.readouterr().err
    assert main(["export"]) == 2
