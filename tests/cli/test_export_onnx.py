"""Promises of `mamba-slm export onnx`, as a user meets them."""

import json
import shutil
import subprocess
import sys

import pytest

from mamba_slm.cli.main import main
from mamba_slm.export.onnx.fused import FusedLowering
from small_models import save_complete_model


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save_complete_model(tmp_path_factory.mktemp("models") / "small", max_context_tokens=96)


def test_a_user_exports_verifies_and_reads_the_report(model, tmp_path):
    command = [sys.executable, "-m", "mamba_slm.cli.main", "export", "onnx", str(model), "--out", "out"]
    done = subprocess.run(
        [*command, "--weights", "int8", "--form", "both"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    lines = done.stdout.splitlines()
    assert lines[0].startswith("out  ")
    assert lines[0].endswith("files, int8")
    assert lines[1].startswith("verified  fused: largest difference of a logit from its own rounded weights ")
    assert lines[2].startswith("verified  portable: ")
    assert lines[3].startswith("int8  KL 0.")
    assert "tokens of mamba-slm's source code; 8 bits are near lossless" in lines[3]
    assert "opening onnx/portable_quantized.onnx in ONNX Runtime and comparing" in done.stderr
    assert json.loads((tmp_path / "out/mamba_slm_onnx.json").read_text())["block_size"] == 16
    again = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (again.returncode, again.stdout) == (2, "")
    assert "error: out exists already" in again.stderr


def test_json_has_files_errors_and_report(model, tmp_path, capsys):
    assert main(["export", "onnx", str(model), "--out", str(tmp_path / "out"), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["graphs"] == {"fused": "onnx/model.onnx"}
    assert printed["files"]["onnx/model.onnx"] == (tmp_path / "out/onnx/model.onnx").stat().st_size
    assert printed["bytes"] == sum(printed["files"].values())
    check = printed["checks"]["fused"]
    assert 0 < check["max_logit_error"] < 1e-4
    assert check["greedy_tokens"] == 64
    assert len(check["readings"]) == 5
    assert printed["report"] is None


def test_float32_says_that_greedy_text_is_equal(model, tmp_path, capsys):
    assert main(["export", "onnx", str(model), "--out", str(tmp_path / "out")]) == 0
    assert "in 5 ways of reading, 64 greedy tokens equal" in capsys.readouterr().out


def test_a_failed_check_exits_6_names_the_layer_and_leaves_nothing(model, tmp_path, capsys, monkeypatch):
    def without_gate(self, y, z, weight):
        normed = self.writer.unique("normed")
        self.norm(y, weight, normed)
        return normed

    monkeypatch.setattr(FusedLowering, "gated_norm", without_gate)
    assert main(["export", "onnx", str(model), "--out", str(tmp_path / "out")]) == 6
    assert "first layer that drifts: layer 0 Mamba-2" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--weights", "int8", "--block-size", "64"], 2, "hidden_size is 32, not a multiple of the block size 64"),
        (["--weights", "int8", "--block-size", "33"], 2, "block size 33 is not possible"),
        (["--weights", "int4", "--text", "absent.txt"], 5, "absent.txt cannot be read"),
    ],
)
def test_bad_requests_are_refused(model, tmp_path, capsys, arguments, code, message):
    assert main(["export", "onnx", str(model), "--out", str(tmp_path / "out"), *arguments]) == code
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_model_without_tokenizer_and_a_folder_that_is_no_model_are_refused(model, tmp_path, capsys):
    bare = shutil.copytree(model, tmp_path / "bare")
    (bare / "tokenizer.json").unlink()
    assert main(["export", "onnx", str(bare), "--out", str(tmp_path / "out")]) == 5
    assert "has no tokenizer.json" in capsys.readouterr().err
    assert main(["export", "onnx", str(tmp_path), "--out", str(tmp_path / "out")]) == 5
    assert "is not a model" in capsys.readouterr().err
