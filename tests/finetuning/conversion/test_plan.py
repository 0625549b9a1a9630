"""What a conversion will cost is said from config.json alone."""

import dataclasses
import json

import pytest
from transformers import LlamaConfig

from finetuning.conversion.llama_folders import LLAMA3
from mamba_slm.cli.main import main
from mamba_slm.core.hardware import find_gpu
from mamba_slm.finetuning.conversion.distillation import TRAINING, Distillation
from mamba_slm.finetuning.conversion.plan import plan_conversion
from mamba_slm.finetuning.conversion.shape import HybridShape
from mamba_slm.model.llama import model_config_from_llama
from mamba_slm.training.config import TrainConfig

LLAMA_32_1B = {
    "hidden_size": 2048,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "num_hidden_layers": 16,
    "intermediate_size": 8192,
    "vocab_size": 128_256,
    "max_position_embeddings": 131_072,
    "rms_norm_eps": 1e-5,
    "tie_word_embeddings": True,
    "rope_parameters": LLAMA3 | {"original_max_position_embeddings": 8192},
}
WORDS = ["--context-tokens", "2048", "--batch-tokens", "512Ki", "--max-tokens", "3B", "--precision", "bf16"]


def test_llama_32_1b_keeps_six_layers_of_attention_and_the_teacher_costs_memory_and_a_third_more_time():
    teacher = model_config_from_llama(LlamaConfig(**LLAMA_32_1B).to_dict())
    hybrid = HybridShape().hybrid(teacher)
    assert hybrid.pattern == "M-*-*-M-M-M-M-*-M-M-M-M-M-*-*-*-"
    config = TrainConfig(**TRAINING, context_tokens=2048, batch_tokens=2**19, max_tokens=10**9, precision="bf16")
    plan = plan_conversion(teacher, hybrid, config, Distillation(), find_gpu("H100 80GB"))
    assert plan.teacher_bytes > 2 * 1.23e9
    without = dataclasses.replace(plan.estimate).memory_bytes
    assert plan.memory_bytes == without + plan.teacher_bytes
    only_new = plan_conversion(teacher, hybrid, config, Distillation(trained="mamba"), find_gpu("H100 80GB"))
    assert only_new.estimate.memory.optimizer == pytest.approx(plan.estimate.memory.optimizer * 0.186, rel=0.01)


def test_attention_that_stays_can_give_up_the_stretched_positions_for_the_context_before_them():
    teacher = model_config_from_llama(LlamaConfig(**LLAMA_32_1B).to_dict())
    assert (teacher.rope_scaling, HybridShape().hybrid(teacher).max_context_tokens) == ("llama3", 262_144)
    for kept in (0.35, 1.0):
        plain = HybridShape(rotation="plain", keep_attention=kept).hybrid(teacher)
        assert (plain.rope_scaling, plain.rope_scaling_factor, plain.max_context_tokens) == ("none", 1.0, 8192)


def test_the_dry_run_reads_no_weights_and_writes_nothing(tmp_path, capsys):
    LlamaConfig(**LLAMA_32_1B).save_pretrained(tmp_path)
    before = set(tmp_path.iterdir())
    assert main(["convert", str(tmp_path), "--dry-run", "--gpu", "H100 80GB", *WORDS, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["source_parameters"] == 1_235_814_400 and said["tokens"] >= 3 * 10**9 and said["seconds"] > 0
    assert main(["convert", str(tmp_path), "--dry-run"]) == 0
    assert "6 of 16 layers keep attention" in capsys.readouterr().out
    assert set(tmp_path.iterdir()) == before
