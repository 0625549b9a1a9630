"""`import` as a user meets it."""

import json

import pytest

from export.their_models import edit_config, save_granite
from mamba_slm.cli.main import main


@pytest.fixture
def theirs(tmp_path):
    return save_granite(tmp_path / "theirs", residual_multiplier=0.5)


def test_an_imported_model_runs_here(theirs, tmp_path, capsys):
    out = str(tmp_path / "ours")
    assert main(["import", str(theirs), "--out", out]) == 0
    shown = capsys.readouterr()
    assert "pattern M-*-M-" in shown.out
    assert "verified  largest difference of a logit" in shown.out
    assert "multiplied into the weights: residual_multiplier 0.5" in shown.err
    assert main(["import", str(theirs), "--out", out, "--overwrite", "--json", "--quiet"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["multiplied_into_weights"] == {"residual_multiplier": 0.5}
    assert summary["parity"]["max_logit_error"] <= 1e-4
    assert main(["generate", out, "def f", "--max-new-tokens", "3", "--temperature", "0"]) == 0
    assert main(["verify", out, str(theirs)]) == 0


def test_what_cannot_be_imported_is_refused_with_the_reason(theirs, tmp_path, capsys):
    out = str(tmp_path / "ours")
    assert main(["import", str(tmp_path / "absent"), "--out", out]) == 5
    assert main(["import", str(theirs), "--out", str(theirs)]) == 2
    edit_config(theirs, num_local_experts=4)
    assert main(["import", str(theirs), "--out", out]) == 2
    assert "num_local_experts is 4" in capsys.readouterr().err
    edit_config(theirs, num_local_experts=0, secret_sauce=True)
    assert main(["import", str(theirs), "--out", out]) == 2
    assert "secret_sauce" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["theirs"]
