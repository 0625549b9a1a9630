"""Other programs run the same weights, and are timed from the same place."""

import dataclasses
import json

import numpy
import pytest
import torch

from mamba_slm.cli.bench_engines import export_for
from mamba_slm.core.errors import CheckFailedError, ConfigError, UsageError
from mamba_slm.evaluation.bench.cells import BenchSettings, Cell, engines_of
from mamba_slm.evaluation.bench.names import ENGINES
from mamba_slm.evaluation.bench.proofs import rounded_difference
from mamba_slm.evaluation.bench.worker import ContenderWork
from quantized_models import save_quantized_model
from small_models import varied_model

LLAMA_CPP = tuple(name for name in ENGINES if name.startswith("llama.cpp"))


@pytest.fixture(scope="module")
def exported(small_folder, tmp_path_factory):
    return export_for(
        [name for name in ENGINES if name.startswith("onnx")],
        str(small_folder),
        seed=3,
        folder=tmp_path_factory.mktemp("exported"),
    )


@pytest.mark.parametrize("task", ["prefill", "decode"])
@pytest.mark.parametrize("name", [name for name in ENGINES if name.startswith("onnx")])
def test_an_engine_proves_our_function_and_can_be_timed(job, exported, tmp_path, task, name):
    ContenderWork(job("ours", task)).prove()
    work = ContenderWork(dataclasses.replace(job(name, task), exported=str(exported[name])))
    work.prove()
    difference = rounded_difference(work.job.cell, name, tmp_path)
    assert difference < {"onnx-fp32": 1e-5, "onnx-int8": 0.1, "onnx-int4": 0.7}[name]
    for _ in range(2):  # from the same place every time
        assert work.round()["seconds"] > 0
        if task == "decode":
            assert work.contender.state.num_tokens.tolist() == [19]
    assert work.facts["weight_bytes"] == sum(file.stat().st_size for file in exported[name].rglob("*.onnx*"))
    json.dumps(work.facts)


def test_logits_of_another_function_are_refused(tmp_path):
    cell = Cell(task="decode", tokens=8, precision="fp32")
    numpy.save(tmp_path / "ours.npy", numpy.ones(4))
    numpy.save(tmp_path / "onnx-fp32.npy", numpy.ones(4) * 1.01)
    with pytest.raises(CheckFailedError, match="onnx-fp32 and ours differ by 1"):
        rounded_difference(cell, "onnx-fp32", tmp_path)
    numpy.save(tmp_path / "onnx-int8.npy", torch.full((4,), float("nan")).numpy())
    with pytest.raises(CheckFailedError):
        rounded_difference(cell, "onnx-int8", tmp_path)


def test_engines_take_part_in_fp32_inference_only():
    settings = BenchSettings(engines=("onnx-int8",), lengths=(8,))
    taking_part = {
        (task, precision): engines_of(settings, Cell(task=task, tokens=8, precision=precision))
        for task in ("train", "prefill", "decode")
        for precision in ("fp32", "bf16")
    }
    assert [key for key, engines in taking_part.items() if engines] == [("prefill", "fp32"), ("decode", "fp32")]
    for wrong in ({"tasks": ("train",)}, {"inference_precisions": ("bf16",)}):
        with pytest.raises(ConfigError, match="engines are measured in prefill and decode of fp32"):
            BenchSettings(engines=("onnx-int8",), **wrong)
    with pytest.raises(ConfigError, match="did you mean 'onnx-int8'"):
        BenchSettings(engines=("onnx-int7",))


@pytest.mark.slow
def test_llama_cpp_proves_our_function_and_can_be_timed(tmp_path, job):
    pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed")
    exported = export_for(LLAMA_CPP, "nano", seed=3, folder=tmp_path)
    assert len(set(exported.values())) == len(LLAMA_CPP)
    for task in ("prefill", "decode"):
        ours = dataclasses.replace(job("ours", task), model="nano")
        ContenderWork(ours).prove()
        for name in LLAMA_CPP:
            work = ContenderWork(dataclasses.replace(job(name, task), model="nano", exported=str(exported[name])))
            work.prove()
            assert rounded_difference(work.job.cell, name, tmp_path) > 0
            assert work.round()["seconds"] > 0
            assert work.facts["weight_bytes"] == exported[name].stat().st_size


def test_other_engines_round_weights_themselves_so_a_quantized_model_is_refused(tmp_path):
    model = save_quantized_model(varied_model(), tmp_path / "model", "int8")
    with pytest.raises(UsageError, match=r"timing other engines, which round the weights themselves, needs a model in"):
        export_for(("onnx-fp32",), str(model), seed=3, folder=tmp_path)
