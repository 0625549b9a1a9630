"""Opening what was exported, whole folders and single graphs."""

import onnx
import pytest
import torch

from export.onnx.onnx_models import exported, sequences, small_model
from mamba_slm.core.errors import DataError, UnknownNameError
from mamba_slm.export.compare import compare
from mamba_slm.export.onnx import build
from mamba_slm.export.onnx.export import write_onnx_folder
from mamba_slm.export.onnx.runner import OnnxRunner, open_onnx
from mamba_slm.export.onnx.session import open_session, session_states
from mamba_slm.export.source import Source
from mamba_slm.export.trace import OurRunner, open_runner
from mamba_slm.model.onnx_contract import onnx_states
from small_models import small_tokenizer, varied_model


def test_a_folder_and_its_graph_files_open_as_runners(tmp_path):
    model = small_model()
    write_onnx_folder(Source(tmp_path, model, None), tmp_path, forms=["fused", "portable"])
    found = {path: open_runner(tmp_path / path) for path in (".", "onnx/model.onnx", "onnx/portable.onnx")}
    assert [runner.description.split(", ")[1:] for runner in found.values()] == [
        ["fused", "fp32"],
        ["fused", "fp32"],
        ["portable", "fp32"],
    ]
    tokens = sequences(30)[0]
    with torch.inference_mode():
        expected = model(torch.tensor([tokens]))[0]
    for runner in found.values():
        torch.testing.assert_close(runner.trace(tokens).logits, expected, atol=1e-4, rtol=0)
        assert (runner.vocab_size, runner.max_tokens) == (61, 256)


def test_a_graph_of_somebody_else_is_refused(tmp_path):
    other = tmp_path / "other.onnx"
    other.write_bytes(b"x")
    with pytest.raises(DataError, match=r"other.onnx is not a graph that mamba-slm wrote"):
        open_onnx(other)
    exported(tmp_path, small_model())
    with pytest.raises(DataError, match=r"other.onnx is not a graph that mamba-slm wrote"):
        open_onnx(other)


def test_a_damaged_graph_is_refused_with_its_path(tmp_path):
    runner = exported(tmp_path, small_model())
    runner.graph_file.write_bytes(runner.graph_file.read_bytes()[:5000])
    with pytest.raises(DataError, match=r"cannot load .*model.onnx"):
        runner.trace([1, 2])


def test_text_is_encoded_by_the_tokenizer_of_the_folder(tmp_path):
    source = Source(tmp_path, varied_model(), small_tokenizer())
    write_onnx_folder(source, tmp_path)
    assert open_onnx(tmp_path).encode("def f():") == small_tokenizer().encode("def f():")
    (tmp_path / "tokenizer.json").unlink()
    assert open_onnx(tmp_path).encode("def f():") is None


@pytest.mark.parametrize("form", ["fused", "portable"])
@pytest.mark.parametrize("weights", ["fp32", "int4"])
def test_large_weights_lie_in_a_file_of_their_own_and_still_open(tmp_path, monkeypatch, form, weights):
    monkeypatch.setattr(build, "LARGEST_SINGLE_FILE", 1000)
    model = small_model()
    runner = exported(tmp_path, model, form, weights=weights)
    data = runner.graph_file.with_name(f"{runner.graph_file.name}_data")
    assert data.is_file()
    assert runner.graph_file.stat().st_size < sum(p.numel() for p in model.parameters()) * 4
    assert len(onnx.load(runner.graph_file, load_external_data=False).graph.node) > 50
    source = Source(tmp_path, model, None)
    found = compare(OurRunner(source), runner, sequences(20), tolerance=-1.0)  # looks for the layer in any case
    assert found.max_logit_error < (1e-4 if weights == "fp32" else 5)
    assert len(found.layers) == 9
    assert '"use_external_data_format": true' in (tmp_path / "config.json").read_text()


def test_states_and_providers_come_from_the_session(tmp_path):
    runner = exported(tmp_path, small_model())
    found = {each.name: each.shape for each in session_states(runner.session)}
    expected = {
        state.past: tuple("past_sequence_length" if size == "past_length" else size for size in state.shape)
        for state in onnx_states(runner.config)
    }
    assert found == expected
    with pytest.raises(UnknownNameError, match="unknown execution provider 'CUDAExecutionProvide'"):
        open_session(runner.graph_file, providers=["CUDAExecutionProvide"])
    assert open_session(runner.graph_file, num_threads=1).get_providers() == ["CPUExecutionProvider"]


def test_a_form_that_was_not_exported_is_refused(tmp_path):
    exported(tmp_path, small_model(), "portable")
    with pytest.raises(DataError, match="holds no fused graph, only portable"):
        OnnxRunner(tmp_path, form="fused")
