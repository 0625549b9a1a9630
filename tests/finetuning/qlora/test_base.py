"""Promises about the 4-bit base of QLoRA: the same codes as `quantize` makes, exact products, gradients, frozen."""

import subprocess
import sys
import warnings
from typing import Any

import pytest
import torch

from mamba_slm.core.errors import ConfigError, UsageError
from mamba_slm.finetuning.qlora.base import load_four_bit_base
from mamba_slm.finetuning.qlora.settings import FourBitSettings
from mamba_slm.model.checkpoint import load_model, save_model
from mamba_slm.model.config import ModelConfig
from mamba_slm.model.init import build_model
from mamba_slm.model.matrices import matrix_names, part_of
from mamba_slm.model.packed import NearestMatrices, dequantized_model, nearest
from mamba_slm.model.quantization import Quantization
from mamba_slm.model.quantized import save_quantized
from mamba_slm.ops.lowbit.blocks import dequantize, quantize_nearest
from mamba_slm.ops.lowbit.scheme import Scheme, scheme_named
from small_models import recompute_activations
from tolerances import assert_close, tolerance_of

pytest.importorskip("bitsandbytes")
pytest.importorskip("peft")

CONFIG = ModelConfig(
    pattern="M-*-M-", vocab_size=96, hidden_size=64, num_heads=2, num_kv_heads=1, feed_forward_size=96,
    state_size=16, ssm_head_dim=32, chunk_size=8, max_context_tokens=48,
)  # fmt: skip
TOKENS = torch.randint(0, 96, (2, 24), generator=torch.Generator().manual_seed(1))
INSIDE = [name for name in matrix_names(CONFIG) if part_of(name) not in ("embedding", "head")]
FOUR_BITS = [
    FourBitSettings(format=name, double_quantization=double) for name in ("nf4", "fp4") for double in (False, True)
]


@pytest.fixture(scope="module")
def model():
    generator = torch.Generator().manual_seed(0)
    model = build_model(CONFIG, seed=0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("proj.weight"):
                parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.2)
    return model.eval()


@pytest.fixture(scope="module")
def folder(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    save_model(model, folder)
    return folder


def unrounded(model, settings):
    """The model in float32 that a 4-bit base stands for."""
    plan = settings.plan
    names = {f"{name}.weight" for name in matrix_names(model.config)}
    others = {name: tensor for name, tensor in model.state_dict().items() if name not in names}
    return dequantized_model(model.config, nearest(model, plan), others)


def with_lora(base, rank=4, **changes) -> Any:
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(0)
    targets = sorted({part_of(name) for name in INSIDE})
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)  # peft asks it
        return get_peft_model(base, LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=targets, **changes))


@pytest.mark.parametrize("settings", FOUR_BITS, ids=str)
def test_the_base_computes_what_its_codes_stand_for(model, folder, settings):
    base = load_four_bit_base(folder, settings)
    with torch.no_grad():
        found = base(TOKENS).logits
        assert_close(found, unrounded(model, settings)(TOKENS), tolerance_of("model").values)
        assert torch.equal(base.train()(TOKENS).logits, found)  # training and evaluation compute the same
    assert not any(parameter.requires_grad for parameter in base.parameters())


def test_matrices_are_those_of_quantize_and_the_rest_stays_as_it_was(model, folder):
    from mamba_slm.finetuning.qlora.linear import FourBitProjection

    base = load_four_bit_base(folder)
    for name in INSIDE:
        layer = base.model.get_submodule(name)
        assert isinstance(layer, FourBitProjection)
        weight = model.get_submodule(name).weight
        assert torch.equal(layer.dequantized(), dequantize(quantize_nearest(weight, FourBitSettings().scheme)))
    kept = {name: tensor for name, tensor in model.state_dict().items() if name.removesuffix(".weight") not in INSIDE}
    for name, tensor in kept.items():
        assert torch.equal(base.model.state_dict()[name], tensor)
    assert base.lm_head.weight is base.model.embedding.weight
    packed = sum(p.nbytes for n, p in base.model.named_parameters() if n.removesuffix(".weight") in INSIDE)
    assert packed == sum(model.get_submodule(name).weight.numel() for name in INSIDE) // 2


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_gradients_of_adapters_are_those_over_the_model_in_floating_point(model, folder, dtype):
    from mamba_slm.model.hf import HybridSlmForCausalLM

    found = with_lora(load_four_bit_base(folder, dtype=dtype))
    expected = with_lora(HybridSlmForCausalLM.from_language_model(unrounded(model, FourBitSettings())))
    parameters = [dict(one.named_parameters()) for one in (found, expected)]
    for name, parameter in parameters[0].items():
        if "lora_" in name:
            with torch.no_grad():
                parameter.copy_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(3)) * 0.1)
                parameters[1][name].copy_(parameter)
    for one in (found, expected):
        one(TOKENS, labels=TOKENS).loss.backward()
    names = [name for name in parameters[0] if "lora_" in name]
    assert len(names) == 2 * len(INSIDE)
    tolerance = tolerance_of("model", dtype).gradients
    for name in names:
        ours, gradient = (each[name].grad for each in parameters)
        assert ours is not None and gradient is not None and gradient.any()
        error = torch.linalg.vector_norm(ours - gradient)  # that of single values depends on the CPU
        assert error <= tolerance * torch.linalg.vector_norm(gradient), name


def test_rows_that_32_does_not_divide_are_padded_inside_and_nobody_sees_it(model):
    from mamba_slm.finetuning.qlora.linear import FourBitProjection

    weight = model.sublayers[0].mixer.in_proj.weight.detach()
    assert weight.shape[0] % 32
    blocks = quantize_nearest(weight, scheme_named("nf4"))
    plain, padded = (FourBitProjection(blocks, torch.float32, "cpu", pad=pad) for pad in (False, True))
    assert padded.weight.numel() > plain.weight.numel() and padded.out_features == plain.out_features
    assert torch.equal(padded.dequantized(), plain.dequantized())
    x = torch.randn(5, 64, generator=torch.Generator().manual_seed(2), requires_grad=True)
    results = []
    for layer in (plain, padded):
        out = layer(x)
        (gradient,) = torch.autograd.grad(out.square().sum(), x)
        results.append((out.detach(), gradient))
    for found, expected in zip(results[1], results[0], strict=True):
        assert_close(found, expected, tolerance_of("model").values)


def test_a_folder_that_was_quantized_to_nf4_is_trained_over_as_it_is(model, folder, tmp_path):
    plan = Quantization(default=Scheme(format="nf4", block_size=32), parts={"embedding": scheme_named("int8")})
    matrices = NearestMatrices(model.state_dict(), plan.fitted_to(CONFIG))
    save_quantized(tmp_path, CONFIG, matrices, model.state_dict(), plan)
    base = load_four_bit_base(tmp_path)
    with torch.no_grad():
        assert_close(base(TOKENS).logits, load_dequantized_logits(tmp_path), tolerance_of("model").values)


def load_dequantized_logits(folder):
    from mamba_slm.model.quantized import load_dequantized

    return load_dequantized(folder)(TOKENS)


def test_a_folder_in_another_format_is_refused_by_name(model, tmp_path):
    plan = Quantization(default=scheme_named("int4"))
    save_quantized(tmp_path, CONFIG, nearest(model, plan), model.state_dict(), plan)
    with pytest.raises(UsageError, match="int4"):
        load_four_bit_base(tmp_path)
    with pytest.raises(ConfigError, match="block_size"):
        FourBitSettings(block_size=16)


def test_checkpointed_and_packed_rows_have_the_same_gradients(folder):
    documents = (torch.arange(24) >= 10).int().expand(2, -1)
    found = []
    for checkpointed in (False, True):
        adapted = with_lora(load_four_bit_base(folder)).train()
        if checkpointed:
            recompute_activations(adapted.get_base_model())
            assert adapted.base_model.model.model.gradient_checkpointing
        adapted(TOKENS, labels=TOKENS, seq_idx=documents).loss.backward()
        found.append({name: p.grad for name, p in adapted.named_parameters() if p.requires_grad})
    assert all(torch.equal(found[0][name], gradient) for name, gradient in found[1].items())


@pytest.mark.slow
def test_loading_holds_one_matrix_at_a_time(folder, tmp_path):
    """In a process of its own: what is resident at most is less than half of the model's file."""
    program = """
import sys, torch
from mamba_slm.finetuning.qlora import linear
from mamba_slm.finetuning.qlora.base import load_four_bit_base
from mamba_slm.model import hf
from mamba_slm.training.memory import memory_bytes, peak_memory_bytes
from pathlib import Path
small, folder = map(Path, sys.argv[1:])
load_four_bit_base(small)  # what libraries take once
before = memory_bytes("cpu")
Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
model = load_four_bit_base(folder)
print(peak_memory_bytes("cpu") - before, (folder / "model.safetensors").stat().st_size)
"""
    config = ModelConfig(
        pattern="-" * 32, vocab_size=64, hidden_size=512, num_heads=8, num_kv_heads=2, feed_forward_size=1024
    )
    save_model(build_model(config, seed=0), tmp_path)
    answer = subprocess.run(
        [sys.executable, "-c", program, str(folder), str(tmp_path)], check=True, capture_output=True, text=True
    ).stdout
    peak, size = map(int, answer.split())
    assert size > 190e6 and peak < size / 2


def test_a_loaded_base_says_what_transformers_and_peft_ask(model, folder):
    base = load_four_bit_base(folder)
    assert base.is_loaded_in_4bit and base.config._name_or_path == str(folder)
    adapted = with_lora(base)
    layer = adapted.base_model.model.model.sublayers[0].mixer.in_proj
    assert type(layer).__name__ == "Linear4bit"  # peft's own, not its layer for floating point
    assert load_model(folder).config == base.config.architecture


def test_dora_is_refused_on_matrices_with_rows_of_zeros(folder):
    from mamba_slm.finetuning.adapters.attach import attach
    from mamba_slm.finetuning.adapters.settings import LoraSettings
    from mamba_slm.finetuning.qlora.linear import FourBitProjection

    model = load_four_bit_base(folder)
    blocks = quantize_nearest(torch.randn(40, 64, generator=torch.Generator().manual_seed(2)), scheme_named("nf4"))
    model.get_submodule("model.sublayers.0.mixer").in_proj = FourBitProjection(blocks, torch.float32, "cpu", pad=True)
    with pytest.raises(ConfigError, match=r"1 matrices .* model\.sublayers\.0\.mixer\.in_proj first"):
        attach(model, LoraSettings(dora=True))
