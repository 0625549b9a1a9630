"""Writing a folder: all checks before it appears, nothing left when one fails, bad requests refused before work."""

import json
import shutil

import pytest

from mamba_slm.core.errors import CheckFailedError, ConfigError, DataError, DiskFullError, UsageError
from mamba_slm.export.onnx.export import export_onnx
from mamba_slm.export.onnx.fused import FusedLowering
from mamba_slm.export.trace import open_runner
from small_models import save_small_model


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save_small_model(tmp_path_factory.mktemp("model") / "m", max_context_tokens=96)


def test_both_forms_are_written_checked_and_shown(model, tmp_path):
    said = []
    export = export_onnx(model, tmp_path / "out", forms=("fused", "portable"), say=said.append)
    assert set(export.checks) == {"fused", "portable"}
    assert all(0 < check.max_logit_error < 1e-4 and check.greedy_tokens == 64 for check in export.checks.values())
    assert export.report is None
    assert {str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*") if path.is_file()} == set(
        export.files
    )
    assert len(said) == 3
    assert open_runner(tmp_path / "out").description.endswith("fused, fp32")


def test_quantized_weights_come_with_a_report(model, tmp_path):
    export = export_onnx(model, tmp_path / "out", weights="int8")
    assert export.report is not None
    stored = json.loads((tmp_path / "out/quantization.json").read_text())
    assert stored["mean_kl"] == export.report.mean_kl < 0.01
    assert (stored["weights"], stored["block_size"]) == ("int8", 16)


def test_a_failed_check_leaves_nothing(model, tmp_path, monkeypatch):
    """A lowering that forgets the gate of the feed-forward."""
    monkeypatch.setattr(FusedLowering, "swiglu", lambda self, gate_up: self.split(gate_up, 48, 48)[1])
    with pytest.raises(CheckFailedError, match="first layer that drifts: layer 0 feed-forward"):
        export_onnx(model, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def forbidden(*_, **__):
    raise AssertionError("work began")


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"weights": "int8", "block_size": 64}, ConfigError, "hidden_size is 32"),
        ({"block_size": 32}, ConfigError, "fp32 weights have no blocks"),
        ({"weights": "int8", "text": "absent.txt"}, DataError, "absent.txt cannot be read"),
    ],
)
def test_bad_settings_are_refused_before_work_starts(model, tmp_path, monkeypatch, settings, error, message):
    monkeypatch.setattr("mamba_slm.export.onnx.export.write_onnx_folder", forbidden)
    settings = {name: tmp_path / value if name == "text" else value for name, value in settings.items()}
    with pytest.raises(error, match=message):
        export_onnx(model, tmp_path / "out", **settings)
    assert not (tmp_path / "out").exists()


def test_an_existing_folder_is_kept_unless_it_may_be_replaced(model, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/mine.txt").touch()
    with pytest.raises(UsageError, match="out exists already"):
        export_onnx(model, tmp_path / "out")
    assert (tmp_path / "out/mine.txt").exists()
    export_onnx(model, tmp_path / "out", overwrite=True)
    assert not (tmp_path / "out/mine.txt").exists()
    assert (tmp_path / "out/onnx/model.onnx").is_file()


def test_models_without_tokenizer_and_what_is_no_model_are_refused(model, tmp_path):
    bare = shutil.copytree(model, tmp_path / "bare")
    (bare / "tokenizer.json").unlink()
    with pytest.raises(DataError, match=r"has no tokenizer\.json"):
        export_onnx(bare, tmp_path / "out")
    assert export_onnx(bare, tmp_path / "out", needs_tokenizer=False).checks["fused"].greedy_tokens == 64
    with pytest.raises(DataError, match="is not a model"):
        export_onnx(tmp_path, tmp_path / "other")


def test_too_little_disk_space_is_refused_with_both_numbers(model, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**9, 10**9, 1000))
    monkeypatch.setattr("mamba_slm.export.onnx.export.write_onnx_folder", forbidden)
    with pytest.raises(DiskFullError, match=r"out needs .* has 1000 B free"):
        export_onnx(model, tmp_path / "out")
