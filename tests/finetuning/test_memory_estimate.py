"""Promises about the memory of fine-tuning: what is trained, held and kept, and what two real steps take."""

import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from mamba_slm.finetuning.adapters.settings import LoraSettings
from mamba_slm.finetuning.memory_estimate import (
    FinetuneShape,
    base_bytes,
    estimate_finetune_memory,
    saved_bytes_per_token,
    trained_parameters,
)
from mamba_slm.finetuning.qlora.settings import FourBitSettings
from mamba_slm.model.checkpoint import load_model, save_model
from mamba_slm.model.config import ModelConfig
from mamba_slm.model.count import count_parameters
from mamba_slm.model.init import build_model
from mamba_slm.model.presets import preset
from mamba_slm.training.kernels import kernels_in_use
from mamba_slm.training.precision import Precision

pytest.importorskip("bitsandbytes")
pytest.importorskip("peft")

SIZES = {
    "vocab_size": 64, "hidden_size": 128, "num_heads": 2, "num_kv_heads": 1, "feed_forward_size": 512,
    "state_size": 64, "ssm_head_dim": 64, "chunk_size": 64,
}  # fmt: skip
ROWS, LENGTH = 2, 128
SHAPE = FinetuneShape(method="qlora", context_tokens=LENGTH, rows_at_once=ROWS, precision="fp32")
FIT = 0.05
GIB = 2**30


def adapted(config, shape, folder):
    """The model as `finetune` makes it."""
    from mamba_slm.finetuning.adapters.attach import attach
    from mamba_slm.finetuning.qlora.base import load_four_bit_base
    from mamba_slm.model.hf import HybridSlmForCausalLM

    folder.mkdir()
    save_model(build_model(config, seed=0), folder)
    if shape.method == "lora":
        return attach(HybridSlmForCausalLM.from_language_model(load_model(folder)), shape.lora)
    dtype = torch.float32 if shape.precision == "fp32" else torch.bfloat16
    return attach(load_four_bit_base(folder, shape.four_bit, dtype=dtype), shape.lora)


@pytest.mark.parametrize(
    "lora",
    [
        LoraSettings(),
        LoraSettings(rank=3, dora=True, targets=("in_proj", "o_proj")),
        LoraSettings(rank=8, full=("conv", "A_log", "D", "dt_bias", "norms")),
    ],
    ids=["all", "dora", "full tensors"],
)
def test_as_many_numbers_are_trained_as_counted(lora, tmp_path):
    config = ModelConfig(pattern="M-*-M", **SIZES)
    model = adapted(config, replace(SHAPE, method="lora", lora=lora), tmp_path / "model")
    found = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    assert found == trained_parameters(config, replace(SHAPE, lora=lora))


@pytest.mark.parametrize("double", [False, True])
def test_the_base_holds_as_many_bytes_as_counted(double, tmp_path):
    from mamba_slm.finetuning.qlora.base import load_four_bit_base

    config, four_bit = ModelConfig(pattern="M-*-M", **SIZES), FourBitSettings(double_quantization=double)
    save_model(build_model(config, seed=0), tmp_path)
    held = {}
    for module in load_four_bit_base(tmp_path, four_bit).modules():
        for tensor in module.parameters(recurse=False):
            state = getattr(tensor, "quant_state", None)
            scales = [] if state is None else [state.absmax] + ([state.state2.absmax] if state.nested else [])
            held |= {part.data_ptr(): part.nbytes for part in (tensor, *scales)}
    assert sum(held.values()) == base_bytes(config, replace(SHAPE, four_bit=four_bit))


def saved_bytes(pattern, shape, folder):
    """Bytes that autograd keeps in a forward pass: every storage once, parameters and codes left out."""
    config = ModelConfig(pattern=pattern, **SIZES)
    model = adapted(config, shape, folder / pattern).train()
    known = {parameter.data_ptr() for parameter in model.parameters()}
    sizes = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known:
            sizes[storage.data_ptr()] = (storage.nbytes(), tensor)  # kept alive: addresses must stay apart
        return tensor

    documents = (torch.arange(LENGTH) // (LENGTH // 2 + 1)).expand(ROWS, -1)
    embedded = torch.zeros(ROWS, LENGTH, config.hidden_size, requires_grad=True)
    with (
        torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor),
        Precision(shape.precision, "cpu").autocast(),
    ):
        model(inputs_embeds=embedded, seq_idx=documents, logits_to_keep=1)
    return sum(size for size, _ in sizes.values())


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"precision": "bf16"},
        {"lora": LoraSettings(rank=4, dropout=0.1)},
        {"lora": LoraSettings(rank=8, targets=("in_proj", "o_proj", "down_proj"))},
    ],
    ids=["fp32", "bf16", "dropout", "some targets"],
)
def test_the_activation_formula_counts_what_autograd_saves(changes, tmp_path):
    shape = replace(SHAPE, **changes)
    with kernels_in_use("auto", "cpu", lambda line: None) as kernels:
        if "compiled" not in kernels:
            pytest.skip(f"no compiled kernels here: {kernels}")
        for kind in "M*-":
            one, two = (saved_bytes(pattern, shape, tmp_path) for pattern in (kind, 2 * kind))
            config = ModelConfig(pattern=kind, **SIZES)
            copies = 2 * trained_parameters(config, shape) if shape.precision == "bf16" else 0  # beside the adapters
            found = (two - one - copies) / (ROWS * LENGTH)
            assert saved_bytes_per_token(config, 0, shape) == pytest.approx(found, rel=FIT), kind


def test_every_way_to_save_memory_saves_memory():
    config, shape = preset("1.3B"), FinetuneShape(method="qlora", context_tokens=2048, rows_at_once=1, precision="bf16")

    def total(**changes):
        return estimate_finetune_memory(config, replace(shape, on_gpu=True, **changes)).total

    assert total() < total(method="lora") < total(method="full")
    assert total(gradient_checkpointing=True) < total() and total(context_tokens=1024) < total()
    assert total(optimizer="adamw8bit") < total()
    assert total(four_bit=FourBitSettings()) < total(four_bit=FourBitSettings(double_quantization=False))
    assert total(lora=LoraSettings(rank=4)) < total() < total(lora=LoraSettings(dropout=0.1))


def test_qlora_of_the_largest_size_that_was_published_for_one_gpu_fits_it():
    """1.3B at 2,048 tokens on 24 GB; its matrices alone take 4.13 bits each."""
    config = preset("1.3B")
    shape = FinetuneShape(
        method="qlora", context_tokens=2048, rows_at_once=1, precision="bf16", gradient_checkpointing=True, on_gpu=True
    )
    memory = estimate_finetune_memory(config, shape)
    inside = count_parameters(config).total - count_parameters(config).embedding
    assert memory.base == pytest.approx(2 * count_parameters(config).embedding + inside * 4.13 / 8, rel=0.01)
    assert memory.total < 8 * GIB


def test_estimating_needs_no_torch():
    program = "import sys; import mamba_slm.finetuning.memory_estimate; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True)
