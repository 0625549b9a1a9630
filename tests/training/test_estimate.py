import dataclasses
import subprocess
import sys

import pytest
import torch

from mamba_slm.core.hardware import find_gpu
from mamba_slm.model.config import ModelConfig
from mamba_slm.model.count import count_parameters, train_flops_per_token
from mamba_slm.model.init import build_model
from mamba_slm.model.pattern import ATTENTION, FEED_FORWARD, MAMBA
from mamba_slm.model.presets import preset
from mamba_slm.ops.loss import DEFAULT_LOSS_CHUNK_TOKENS, LEAST_CHUNK_TOKENS_OF_GPUS
from mamba_slm.ops.native.scan import CHUNK
from mamba_slm.ops.ssd import automatic_ssd_backend
from mamba_slm.ops.ssd_forward import FORWARD_CHUNK_SIZE
from mamba_slm.ops.ssd_training import CHUNKS_PER_PIECE
from mamba_slm.training.activations import NATIVE_CHUNK_TOKENS, SCAN_PIECE_TOKENS, sublayer_bytes_per_token
from mamba_slm.training.estimate import estimate_training
from mamba_slm.training.kernels import kernels_in_use
from mamba_slm.training.memory_estimate import LOSS_CHUNK_TOKENS, LOSS_CHUNK_TOKENS_OF_GPUS, estimate_memory
from mamba_slm.training.precision import Precision
from mamba_slm.training.spread import Spread

SHAPE = {"context_tokens": 256, "batch_tokens": 4096, "rows_at_once": 16}
SIZES = [
    {"hidden_size": 64, "feed_forward_size": 96, "state_size": 32, "ssm_head_dim": 32, "chunk_size": 32},
    {"hidden_size": 128, "feed_forward_size": 512, "state_size": 64, "ssm_head_dim": 64, "chunk_size": 64, "expand": 1},
]
EIGHT = Spread(engine="fsdp", processes=8)
FIT = 0.05  # the coefficients are rounded; a sublayer that saves another tensor is off by more


def saved_bytes(config, *, rows, context_tokens, precision, backend):
    """Bytes that autograd keeps in a forward pass: every storage once, parameters left out."""
    model = build_model(config)
    for sublayer in model.sublayers:
        if backend and sublayer.kind == MAMBA:
            sublayer.mixer.scan_backend = backend
    parameters = {parameter.data_ptr() for parameter in model.parameters()}
    sizes = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in parameters:
            sizes[storage.data_ptr()] = (storage.nbytes(), tensor)  # kept alive: addresses must stay apart
        return tensor

    tokens = torch.zeros(rows, context_tokens, dtype=torch.int64)
    documents = (torch.arange(context_tokens) // (context_tokens // 2 + 1)).expand(rows, -1)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor), Precision(precision, "cpu").autocast():
        model.hidden_states(tokens, document_ids=documents)
    return sum(size for size, _ in sizes.values())


@pytest.mark.parametrize("where", ["torch", "native", "gpu"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("size", SIZES, ids=["small", "wide"])
@pytest.mark.parametrize("kind", [MAMBA, ATTENTION, FEED_FORWARD])
def test_the_activation_formula_counts_what_autograd_saves(kind, size, precision, where, monkeypatch):
    backend, on_gpu = None, where == "gpu"
    if on_gpu:  # where documents are kept apart by a mask
        monkeypatch.setattr("mamba_slm.ops.attention.is_worth_it", lambda num_documents, size: False)
    if where != "native":
        backend, _ = automatic_ssd_backend("cuda" if on_gpu else "cpu")

    def saved(pattern):
        config = ModelConfig(pattern=pattern, vocab_size=16, num_heads=2, num_kv_heads=1, **size)
        return config, saved_bytes(config, rows=2, context_tokens=128, precision=precision, backend=backend)

    with kernels_in_use("auto" if where == "native" else "torch", "cpu", lambda line: None) as kernels:
        if where == "native" and "compiled" not in kernels:
            pytest.skip(f"no compiled kernels here: {kernels}")
        config, one = saved(kind)
        _, two = saved(2 * kind)
    half_weights = 0
    if precision == "bf16":  # autocast keeps a copy of the matrices, which the estimate counts with the weights
        half_weights = 2 * sum(p.numel() for n, p in build_model(config).sublayers[0].named_parameters() if "proj" in n)
    found = (two - one - half_weights) / (2 * 128)
    kernels = "native" if where == "native" else "torch"
    expected = sublayer_bytes_per_token(
        config, kind, context_tokens=128, precision=precision, on_gpu=on_gpu, kernels=kernels
    )
    assert expected == pytest.approx(found, rel=FIT)


def test_the_estimate_knows_how_often_the_scan_keeps_a_state():
    assert SCAN_PIECE_TOKENS == FORWARD_CHUNK_SIZE * CHUNKS_PER_PIECE
    assert NATIVE_CHUNK_TOKENS == CHUNK


def test_estimating_needs_no_torch():
    program = (
        "import sys; from mamba_slm.training import activations, config, estimate, fitting, memory;"
        "from mamba_slm.training import memory_estimate, pace, plan, presets, prospects;"
        "from mamba_slm.training import measuring, out_of_memory, published_runs, schedule, spread;"
        "assert 'torch' not in sys.modules and 'numpy' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
    assert LOSS_CHUNK_TOKENS == DEFAULT_LOSS_CHUNK_TOKENS
    assert LOSS_CHUNK_TOKENS_OF_GPUS == LEAST_CHUNK_TOKENS_OF_GPUS


def test_time_and_cost_follow_from_rate_and_price():
    config, gpu = preset("1.3B"), find_gpu("H100 80GB")
    shape = {"context_tokens": 4096, "batch_tokens": 2**20, "rows_at_once": 2}
    plan = estimate_training(config, **shape, tokens=30 * 10**9, gpu=gpu, spread=EIGHT, mfu=0.4, price_per_hour_usd=2.0)
    rate = 8 * gpu.flops_per_second("bf16") * 0.4 / train_flops_per_token(config, 4096)
    assert plan.tokens_per_second == pytest.approx(rate)
    assert plan.seconds == pytest.approx(30e9 / rate)
    assert plan.cost_usd == pytest.approx(plan.seconds / 3600 * 8 * 2.0)
    assert plan.steps == -(-30 * 10**9 // 2**20)
    assert plan.fits


def test_an_assumption_is_called_one():
    plan = estimate_training(preset("125M"), **SHAPE, tokens=10**9, gpu=find_gpu("A100 80GB"))
    assert "(assumed)" in plan.how and "not a quote" in plan.how
    given = estimate_training(
        preset("125M"), **SHAPE, tokens=10**9, gpu=find_gpu("A100 80GB"), mfu=0.3, price_per_hour_usd=1.0
    )
    assert "assumed" not in given.how


def test_a_cpu_that_was_not_measured_gets_memory_and_no_times():
    plan = estimate_training(preset("nano"), **SHAPE, tokens=10**6, precision="fp32")
    assert plan.seconds is None and plan.cost_usd is None
    assert plan.memory.total > 0
    assert "no times" in plan.how


def test_a_time_limit_predicts_tokens_and_the_earlier_limit_counts():
    measured = {"cpu_flops_per_second": 100e9, "precision": "fp32"}
    plan = estimate_training(preset("nano"), **SHAPE, seconds=100.0, **measured)
    assert plan.tokens == pytest.approx(plan.tokens_per_second * 100, rel=0.03)
    assert plan.seconds == pytest.approx(100.0, rel=0.03)
    assert estimate_training(preset("nano"), **SHAPE, tokens=4096, seconds=100.0, **measured).tokens == 4096


def test_every_way_to_save_memory_saves_memory():
    config = preset("125M")
    base = {"context_tokens": 2048, "rows_at_once": 8, "precision": "fp32", "gradient_checkpointing": False}

    def total(**change):
        return estimate_memory(config, **{**base, **change}).total

    assert total(rows_at_once=4) < total()
    assert total(gradient_checkpointing=True) < total()
    assert total(context_tokens=1024) < total()
    assert total(spread=Spread(engine="fsdp", processes=4)) < total()
    assert total(optimizer="muon") < total()
    assert (
        estimate_memory(config, **{**base, "precision": "bf16"}).activations
        < estimate_memory(config, **base).activations
    )


def test_weights_gradients_and_moments_are_16_bytes_per_parameter():
    memory = estimate_memory(
        preset("125M"), context_tokens=512, rows_at_once=1, precision="fp32", gradient_checkpointing=False
    )
    parameters = count_parameters(preset("125M")).total
    assert memory.weights + memory.gradients + memory.optimizer == 16 * parameters


def test_an_estimate_prints_its_parts_and_is_plain_json():
    import json

    plan = estimate_training(
        preset("nano"), **SHAPE, tokens=10**6, precision="fp32", cpu_flops_per_second=1e11, device_memory_bytes=2**20
    )
    text = str(plan)
    for word in ("parameters", "memory", "weights", "activations", "does not fit", "tok/s", "time", "measured"):
        assert word in text
    content = json.loads(json.dumps(plan.to_dict()))
    assert content["parameters"] == plan.parameters and content["memory_bytes"] == round(plan.memory.total)
    assert content["fits"] is False
    assert dataclasses.replace(plan, device_memory_bytes=None).fits is None


@pytest.mark.parametrize("name", ["demo", "60M", "1.3B", "13B"])
@pytest.mark.parametrize("layout", ["portable", "classic"])
def test_every_size_can_be_estimated(name, layout):
    plan = estimate_training(
        preset(name, layout=layout), **SHAPE, tokens=10**9, gpu=find_gpu("H100 80GB"), spread=EIGHT
    )
    assert plan.seconds > 0 and plan.cost_usd > 0
