"""Promises of the runners that hold without llama.cpp."""

import importlib.util
import sys

import pytest

from export.gguf.small_gguf_models import LITTLE, small_source
from mamba_slm.core.errors import MissingDependencyError
from mamba_slm.export.compare import compare
from mamba_slm.export.gguf.runner import (
    LlamaCppRunner,
    llama_cpp_is_installed,
    llama_cpp_package,
    open_gguf,
)
from mamba_slm.export.gguf.write import plan_file, write_gguf
from mamba_slm.export.trace import OurRunner


def test_the_description_says_how_the_weights_are_stored(tmp_path):
    for file_type, described in (("F32", "F32"), ("Q6_K", "F16, Q8_0"), ("BF16", "BF16")):
        path = tmp_path / f"{file_type}.gguf"
        write_gguf(plan_file(small_source(hidden_size=32, num_heads=1, num_kv_heads=1, feed_forward_size=40,
                                          ssm_head_dim=16), file_type=file_type, name="x"), path)  # fmt: skip
        assert open_gguf(path).description == f"GGUF on our model, {described}"


def test_layers_that_drift_are_found_by_name(tmp_path):
    source = small_source(**LITTLE)
    path = tmp_path / "small.gguf"
    write_gguf(plan_file(source, file_type="F32", name="x"), path)
    runner = open_gguf(path)
    runner.read.model.sublayers[4].mixer.D.data.add_(1)  # type: ignore[union-attr]
    found = compare(OurRunner(source), runner, [[1, 2, 3, 4]])
    assert found.first_drift == "layer 2 Mamba-2"


def test_without_llama_cpp_the_way_to_get_it_is_said(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "llama_cpp", None)
    with pytest.raises(MissingDependencyError, match=r"running a model in llama\.cpp needs llama_cpp") as caught:
        llama_cpp_package()
    assert "pip install llama-cpp-python" in caught.value.hint
    with pytest.raises(MissingDependencyError):
        LlamaCppRunner(tmp_path / "x.gguf")


def test_whether_llama_cpp_is_there_is_known_without_loading_it():
    assert llama_cpp_is_installed() == (importlib.util.find_spec("llama_cpp") is not None)
