"""Promises about merging what QLoRA trained: the same logits in float32, a stated error in bfloat16."""

import pytest
import torch

from mamba_slm.core.errors import CheckpointError
from mamba_slm.finetuning.adapters.settings import LoraSettings
from mamba_slm.finetuning.qlora.base import load_four_bit_base
from mamba_slm.finetuning.qlora.merge import merge_over_four_bits
from mamba_slm.finetuning.qlora.settings import FourBitSettings
from mamba_slm.model.checkpoint import save_model
from mamba_slm.model.config import ModelConfig
from mamba_slm.model.init import build_model
from mamba_slm.model.packed import nearest
from mamba_slm.model.quantization import Quantization
from mamba_slm.model.quantized import save_quantized
from mamba_slm.ops.lowbit.scheme import scheme_named
from tolerances import assert_close, tolerance_of

pytest.importorskip("bitsandbytes")
pytest.importorskip("peft")

CONFIG = ModelConfig(
    pattern="M-*-M", vocab_size=96, hidden_size=64, num_heads=2, num_kv_heads=1, feed_forward_size=96,
    state_size=16, ssm_head_dim=32, chunk_size=8, max_context_tokens=48,
)  # fmt: skip
TOKENS = torch.randint(0, 96, (2, 24), generator=torch.Generator().manual_seed(1))
FP4 = FourBitSettings(format="fp4", double_quantization=False)
LORAS = [LoraSettings(rank=4), LoraSettings(rank=4, dora=True), LoraSettings(rank=2, full=("A_log", "conv", "norms"))]


def varied(seed=0):
    model = build_model(CONFIG, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("proj.weight"):
                parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.2)
    return model.eval()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("base")
    save_model(varied(), folder)
    return folder


@pytest.fixture(scope="module")
def quantized(tmp_path_factory):
    folder, plan = tmp_path_factory.mktemp("quantized"), Quantization(default=scheme_named("nf4"))
    save_quantized(folder, CONFIG, nearest(varied(), plan), varied().state_dict(), plan)
    return folder


def trained(folder, settings, lora, out):
    """Logits of a QLoRA model whose adapter is far from zero, and the adapter's folder."""
    from mamba_slm.finetuning.adapters.attach import attach
    from mamba_slm.finetuning.adapters.folder import base_of, save_adapter

    model = attach(load_four_bit_base(folder, settings), lora)
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.requires_grad and "magnitude" not in name:
                parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.05)
        logits = model.eval()(TOKENS).logits
    save_adapter(model, out, base_of(folder), settings=lora)
    return logits, out


@pytest.mark.parametrize("lora", LORAS, ids=["lora", "dora", "with full tensors"])
@pytest.mark.parametrize("settings", [FourBitSettings(), FP4], ids=["nf4", "fp4"])
def test_the_merged_model_computes_what_was_trained(settings, lora, folder, tmp_path):
    logits, adapter = trained(folder, settings, lora, tmp_path / "adapter")
    merged = merge_over_four_bits(folder, adapter, settings, dtype=torch.float32)
    with torch.no_grad():
        assert_close(merged.model(TOKENS), logits, tolerance_of("model").values)
    assert merged.largest_error == 0 and "exactly" in str(merged)


def test_in_bfloat16_the_error_is_that_of_rounding_and_is_said(folder, tmp_path):
    logits, adapter = trained(folder, FourBitSettings(), LoraSettings(rank=4), tmp_path / "adapter")
    merged = merge_over_four_bits(folder, adapter)
    assert merged.model.sublayers[0].mixer.in_proj.weight.dtype == torch.bfloat16
    assert merged.model.sublayers[0].mixer.A_log.dtype == torch.float32
    assert 0 < merged.largest_error < 2**-8 and f"{merged.largest_error:.2%}" in str(merged)
    with torch.no_grad():
        assert_close(merged.model(TOKENS), logits, tolerance_of("model", torch.bfloat16).values)


def test_over_a_quantized_folder_its_own_numbers_are_merged(quantized, tmp_path):
    logits, adapter = trained(quantized, None, LoraSettings(rank=4), tmp_path / "adapter")
    merged = merge_over_four_bits(quantized, adapter, dtype=torch.float32)
    with torch.no_grad():
        assert_close(merged.model(TOKENS), logits, tolerance_of("model").values)


def test_an_adapter_of_another_model_is_refused(folder, tmp_path):
    _, adapter = trained(folder, None, LoraSettings(rank=4), tmp_path / "adapter")
    (tmp_path / "other").mkdir()
    save_model(varied(seed=3), tmp_path / "other")
    with pytest.raises(CheckpointError, match="another model"):
        merge_over_four_bits(tmp_path / "other", adapter)
