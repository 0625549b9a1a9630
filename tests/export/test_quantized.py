"""Promises for quantized model folders: every export keeps their numbers or says what it does instead."""

import json

import pytest
import torch

from export.gguf.small_gguf_models import LITTLE, model_of, small_config
from mamba_slm.cli.main import main
from mamba_slm.core.errors import ConfigError, UsageError
from mamba_slm.export.hf.export import export_hf
from mamba_slm.export.onnx.export import export_onnx
from mamba_slm.export.source import open_source
from mamba_slm.export.trace import open_runner
from mamba_slm.model.quantized import load_dequantized
from quantized_models import save_quantized_model
from small_models import small_tokenizer


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A folder as `quantize` writes it, by the name of the quantization."""
    made = {}

    def folder(name):
        if name not in made:
            made[name] = tmp_path_factory.mktemp("quantized") / "model"
            save_quantized_model(model_of(small_config(**LITTLE)), made[name], name)
            small_tokenizer().save(made[name])
        return made[name]

    return folder


def run(*arguments):
    """Run the command; fail with its exit code."""
    assert main([str(each) for each in arguments]) == 0


def test_a_source_has_the_numbers_and_what_they_stand_for(folders):
    source = open_source(folders("int4 beside bfloat16"))
    expected = load_dequantized(folders("int4 beside bfloat16")).state_dict()
    assert all(tensor.equal(expected[name]) for name, tensor in source.model.state_dict().items())
    assert not any("in_proj" in name or "k_proj" in name for name in source.quantized)
    assert {str(each.scheme) for each in source.quantized.values()} == {"int4, blocks of 32"}
    assert open_runner(source.folder).description == "mamba-slm, float32 with the values of quantized weights"


def test_a_gguf_file_of_a_quantized_model_is_verified_against_it_like_a_float32_one(folders, tmp_path, capsys):
    model, out = folders("mixed"), tmp_path / "x.gguf"
    run("export", "gguf", model, "--out", out, "--no-llama-cpp", "--json")
    found = json.loads(capsys.readouterr().out)
    assert found["file_type"] == "as stored"
    assert set(found["tensors_by_type"]) == {"Q8_0", "Q4_0", "F32"}
    run("verify", model, out, "--json")  # at the tolerance of float32
    assert json.loads(capsys.readouterr().out)["random"]["max_logit_error"] < 1e-5


def test_gguf_of_another_type_says_that_it_rounds_again(folders, tmp_path, capsys):
    run("export", "gguf", folders("nf4"), "--out", tmp_path / "x.gguf", "--no-llama-cpp", "--type", "Q8_0")
    assert "matrices that were quantized already, not to the last bit as stored: " in capsys.readouterr().out


def test_an_onnx_folder_keeps_the_numbers_and_measures_what_remains(folders, tmp_path, capsys):
    model, out = folders("mixed"), tmp_path / "onnx"
    run("export", "onnx", model, "--out", out)
    said = capsys.readouterr()
    assert "writing fused, weights in their own numbers (int4, int8)" in said.err
    assert "verified  fused, products in float32: largest difference of a logit from the model" in said.out
    assert "64 greedy tokens equal" in said.out
    assert "the weights are the quantized model's own" in said.out
    assert json.loads((out / "quantization.json").read_text())["mean_kl"] > 0


def test_onnx_rounds_again_only_when_asked_and_says_so(folders, tmp_path):
    said = []
    found = export_onnx(folders("int4"), tmp_path / "onnx", weights="int8", say=said.append)
    assert "warning: the model is quantized already; its values are written rounded again to int8" in said
    assert found.exact == {}
    with pytest.raises(ConfigError, match="a quantized model has its blocks already"):
        export_onnx(folders("int4"), tmp_path / "other", block_size=64)


def test_hugging_face_gets_a_quantized_model_only_dequantized_and_when_asked(folders, tmp_path, capsys):
    model = folders("int8")
    with pytest.raises(
        UsageError, match=r"is quantized \(int8, blocks of 32\), and a folder of Hugging Face"
    ) as caught:
        export_hf(model, tmp_path / "hf")
    assert "--dequantize" in str(caught.value.hint)
    run("export", "hf", model, "--out", tmp_path / "hf", "--dequantize", "--json")
    found = json.loads(capsys.readouterr().out)
    assert "values that numbers of few bits stand for (int8, blocks of 32)" in found["warnings"][0]
    assert found["parity"]["max_logit_error"] < 1e-4
    theirs, ours = open_runner(tmp_path / "hf"), open_runner(model)
    torch.testing.assert_close(theirs.trace([5, 6, 7]).logits, ours.trace([5, 6, 7]).logits, atol=1e-4, rtol=0)
