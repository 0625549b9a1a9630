"""Promises of quantizing a folder: what is reported is what was written, and nothing that falls short is kept."""

import json
import shutil

import pytest
import torch

from mamba_slm.core.errors import ConfigError, DataError, UsageError
from mamba_slm.model.checkpoint import load_model, save_model
from mamba_slm.model.quantization import Quantization
from mamba_slm.model.quantized import load_dequantized, quantization_of
from mamba_slm.ops.lowbit.scheme import scheme_named
from mamba_slm.quantization.compare import compare_formats, parse_compared
from mamba_slm.quantization.config import QuantizeConfig
from mamba_slm.quantization.folder import DropTooLargeError, quantize_folder
from mamba_slm.quantization.measure import Reference
from mamba_slm.quantization.texts import rows_of, token_documents
from small_models import save_small_model, small_tokenizer, varied_model

TEXT = "".join(f"def f{number}(a):\n    return a + {number}\n\n" for number in range(30))
QUICK = {"speed": False, "sensitivity": "none", "text_tokens": 200, "sensitivity_tokens": 60}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save_small_model(tmp_path_factory.mktemp("models") / "small")


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    path = tmp_path_factory.mktemp("texts") / "text.txt"
    path.write_text(TEXT)
    return path


@pytest.mark.parametrize("to", ["int8", "int4", "nf4", "mixed", "int8-dynamic"])
def test_what_is_reported_is_what_was_written(model, text, tmp_path, to):
    report = quantize_folder(model, tmp_path / "out", QuantizeConfig(to=to, text=text, **QUICK))
    assert report.size.file_bytes == (tmp_path / "out/model.safetensors").stat().st_size
    rows = rows_of(token_documents(text, small_tokenizer()), num_tokens=200, row_tokens=48)
    again = Reference(load_model(model), rows).quality_of(load_model(tmp_path / "out"))
    assert report.quality == again
    if to != "int8-dynamic":  # whose products round their inputs, which no matrix shows
        by_definition = Reference(load_model(model), rows).quality_of(load_dequantized(tmp_path / "out"))
        assert report.quality.mean_kl == pytest.approx(by_definition.mean_kl, rel=1e-2, abs=1e-6)
    stored = json.loads((tmp_path / "out/report.json").read_text())
    assert stored["quality"] == report.quality.to_dict()
    assert (tmp_path / "out/tokenizer.json").read_bytes() == (model / "tokenizer.json").read_bytes()
    assert "https://" not in (tmp_path / "out/report.html").read_text()


def test_each_part_and_each_matrix_is_measured_alone_and_the_model_stays_as_it_was(model, text, tmp_path):
    settings = {**QUICK, "sensitivity": "matrices"}
    report = quantize_folder(model, tmp_path / "out", QuantizeConfig(to="int4", text=text, **settings))
    costs = [part.quality.mean_kl for part in report.parts]
    assert costs == sorted(costs, reverse=True) and len(costs) == 9
    assert len(report.matrices) == len({each.name for each in report.matrices}) == 15
    assert report.worst[0].quality.mean_kl == max(each.quality.mean_kl for each in report.matrices)
    assert all(part.quality.num_tokens < 60 for part in report.parts)


def test_gptq_learns_from_other_documents_than_it_is_measured_on(model, tmp_path):
    lines = "".join(json.dumps({"text": TEXT[start : start + 60]}) + "\n" for start in range(0, 900, 60))
    (tmp_path / "text.jsonl").write_text(lines)
    said = []
    config = QuantizeConfig(to="int4", calibration=tmp_path / "text.jsonl", calibration_tokens=300, **QUICK)
    report = quantize_folder(model, tmp_path / "out", config, say=said.append)
    assert report.method == "gptq" and any("automatic" in line for line in said)
    assert report.text.endswith("documents kept apart")
    assert report.calibration.endswith("text.jsonl")


def test_a_model_that_was_trained_for_a_format_is_stored_in_it_without_being_asked(model, text, tmp_path):
    trained = shutil.copytree(model, tmp_path / "trained")
    config = json.loads((trained / "config.json").read_text())
    wanted = Quantization(default=scheme_named("int4"), method="qat")
    (trained / "config.json").write_text(json.dumps(config | {"trained_for": wanted.to_json()}))
    report = quantize_folder(trained, tmp_path / "out", QuantizeConfig(text=text, **QUICK))
    assert (report.method, quantization_of(tmp_path / "out")) == ("qat", wanted)


def test_without_any_text_the_model_is_measured_on_what_it_writes(model, tmp_path):
    said = []
    report = quantize_folder(model, tmp_path / "out", QuantizeConfig(to="int8", **QUICK), say=said.append)
    assert "by itself" in report.text and any("--text FILE" in line for line in said)


def test_too_large_a_drop_leaves_nothing_and_proposes_what_was_measured(model, text, tmp_path):
    config = QuantizeConfig(to="int4", text=text, max_drop=0.001, **QUICK)
    with pytest.raises(DropTooLargeError, match=r"more than the 0\.10%") as refused:
        quantize_folder(model, tmp_path / "out", config)
    assert refused.value.exit_code == 6
    assert list(tmp_path.iterdir()) == []
    hint = refused.value.hint
    assert hint.startswith(("--keep ", "even --keep ")) and "measured" in hint
    kept = hint.removeprefix("even ").split()[1]
    if hint.startswith("--keep"):
        report = quantize_folder(model, tmp_path / "out", QuantizeConfig(**vars(config) | {"keep": (kept,)}))
        assert report.is_within


def test_what_cannot_be_quantized_is_refused_before_the_work(model, text, tmp_path):
    (tmp_path / "there").mkdir()
    with pytest.raises(UsageError, match="exists already"):
        quantize_folder(model, tmp_path / "there", QuantizeConfig(to="int8", **QUICK))
    with pytest.raises(UsageError, match="which format"):
        quantize_folder(model, tmp_path / "out", QuantizeConfig(**QUICK))
    quantize_folder(model, tmp_path / "out", QuantizeConfig(to="int8", text=text, **QUICK))
    with pytest.raises(UsageError, match="is quantized"):
        quantize_folder(tmp_path / "out", tmp_path / "again", QuantizeConfig(to="int4", **QUICK))
    bare = tmp_path / "bare"
    bare.mkdir()
    save_model(varied_model(), bare)
    with pytest.raises(DataError, match=r"has no tokenizer\.json"):
        quantize_folder(bare, tmp_path / "again", QuantizeConfig(to="int8", **QUICK))


def test_speed_is_measured_beside_bfloat16(model, text, tmp_path):
    settings = {**QUICK, "speed": True}
    speed = quantize_folder(model, tmp_path / "out", QuantizeConfig(to="int8", text=text, **settings)).speed
    assert speed is not None and speed.decode_ratio > 0 and "in turns with the original in bfloat16" in speed.how


def test_compared_formats_are_measured_on_the_same_text_and_nothing_is_left(model, text, tmp_path):
    config = QuantizeConfig(text=text, calibration=text, calibration_tokens=200, asymmetric=True, **QUICK)
    found = compare_formats(model, "int8,nf4,gptq,mixed:hqq", config)
    assert list(found.reports) == ["int8", "nf4", "gptq", "mixed:hqq"]
    assert {report.quality.perplexity_before for report in found.reports.values()} == {found.perplexity}
    assert [report.method for report in found.reports.values()] == ["nearest", "nearest", "gptq", "hqq"]
    sizes = {name: report.size.bits_per_weight for name, report in found.reports.items()}
    assert sizes["int8"] > sizes["mixed:hqq"] > sizes["gptq"]
    assert json.dumps(found.to_dict(), allow_nan=False)
    assert torch.equal(load_model(model).embedding.weight, varied_model().embedding.weight)


@pytest.mark.parametrize(
    ("names", "error"), [("", "nothing to compare"), ("int3", "did you mean"), ("int4:gpt", "gptq")]
)
def test_names_to_compare_are_checked(names, error):
    with pytest.raises(ConfigError, match=error):
        parse_compared(names)
