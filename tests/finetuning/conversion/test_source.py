"""A Llama folder read as a model of ours computes what transformers computes, or is refused by name."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from finetuning.conversion.llama_folders import LLAMA3, SIZES, save, varied_llama
from mamba_slm.core.errors import CheckpointError, ConfigError, DataError
from mamba_slm.finetuning.conversion.source import load_llama, open_llama
from mamba_slm.model.llama import model_config_from_llama
from small_models import VOCAB_SIZE
from tolerances import TOLERANCES, assert_close

EXACT = TOLERANCES["oracle", "float32"].values

YARN = {"rope_type": "yarn", "rope_theta": 10_000.0, "factor": 4.0, "original_max_position_embeddings": 32}
KINDS = {
    "plain": (LlamaConfig(**SIZES), LlamaForCausalLM),
    "tied, all heads have keys": (
        LlamaConfig(**SIZES | {"tie_word_embeddings": True, "num_key_value_heads": 4}),
        LlamaForCausalLM,
    ),
    "llama 3.2": (LlamaConfig(**SIZES, rope_parameters=LLAMA3, rms_norm_eps=1e-5), LlamaForCausalLM),
    "linear": (
        LlamaConfig(**SIZES, rope_parameters={"rope_type": "linear", "rope_theta": 10_000.0, "factor": 2.0}),
        LlamaForCausalLM,
    ),
    "yarn": (LlamaConfig(**SIZES, rope_parameters=YARN), LlamaForCausalLM),
    "mistral with a window": (MistralConfig(**SIZES, sliding_window=24), MistralForCausalLM),
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_logits_are_those_of_transformers(kind, tmp_path):
    config, cls = KINDS[kind]
    theirs = varied_llama(config, cls)
    ours = load_llama(save(theirs, tmp_path / "llama"))
    tokens = torch.randint(0, VOCAB_SIZE, (2, 100), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = theirs(tokens).logits
        assert expected.std() > 0.3
        assert_close(ours(tokens), expected, EXACT)


def test_weights_in_several_files_and_bfloat16_are_read(tmp_path):
    model = varied_llama().to(torch.bfloat16)
    whole = load_llama(save(model, tmp_path / "whole"))
    model.save_pretrained(tmp_path / "pieces", max_shard_size="20KB")
    assert len(list((tmp_path / "pieces").glob("model-*.safetensors"))) > 1
    pieces = load_llama(tmp_path / "pieces")
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, pieces.state_dict()[name]), name


def test_qwen2_is_read_where_its_biases_are_zero_and_refused_by_name_where_not(tmp_path):
    config = Qwen2Config(**SIZES)
    model = varied_llama(config, Qwen2ForCausalLM)
    with pytest.raises(CheckpointError, match=r"layers\.0\.self_attn\.k_proj\.bias"):
        open_llama(save(model, tmp_path / "with"))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.zero_()
    ours = load_llama(save(model, tmp_path / "without"))
    tokens = torch.arange(40)[None]
    with torch.no_grad():
        assert_close(ours(tokens), model(tokens).logits, EXACT)


def test_the_keys_of_older_versions_mean_the_same():
    values = LlamaConfig(**SIZES, rope_parameters=LLAMA3).to_dict()
    rope = dict(values.pop("rope_parameters"))
    older = {**values, "rope_theta": rope.pop("rope_theta"), "rope_scaling": {**rope, "type": rope.pop("rope_type")}}
    assert model_config_from_llama(older) == model_config_from_llama(
        LlamaConfig(**SIZES, rope_parameters=LLAMA3).to_dict()
    )


def test_the_context_of_llama_32_keeps_its_frequencies():
    values = LlamaConfig(
        **SIZES | {"max_position_embeddings": 131_072},
        rope_parameters=LLAMA3 | {"original_max_position_embeddings": 8192},
    ).to_dict()
    assert model_config_from_llama(values).max_context_tokens == 8192 * 32


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"model_type": "gemma2"}, "gemma2"),
        ({"hidden_act": "gelu"}, "hidden_act"),
        ({"head_dim": 16}, "head_dim is 16"),
        ({"quantization_config": {"quant_method": "gptq"}}, "quantization_config"),
        ({"rope_parameters": {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}}, "dynamic"),
        ({"rope_parameters": LLAMA3 | {"high_freq_factor": 8.0}}, "high_freq_factor"),
        ({"num_key_value_heads": 3}, "num_kv_heads"),
        ({"intermediate_size": None}, "intermediate_size"),
        ({"model_type": "qwen2", "use_sliding_window": True}, "use_sliding_window"),
    ],
)
def test_what_our_model_does_not_compute_is_refused_with_its_key(changes, named):
    with pytest.raises(ConfigError, match=named):
        model_config_from_llama(LlamaConfig(**SIZES).to_dict() | changes)


def test_a_folder_that_is_no_llama_says_so(tmp_path):
    with pytest.raises(DataError, match=r"holds no config\.json"):
        open_llama(tmp_path)
    folder = save(varied_llama(), tmp_path / "llama")
    tensors = load_file(folder / "model.safetensors")
    del tensors["model.norm.weight"]
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"lacks the tensor model\.norm\.weight"):
        open_llama(folder)
    (folder / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"has no model\.safetensors and no"):
        open_llama(folder)
    (folder / "config.json").write_text(json.dumps({})[:1])
    with pytest.raises(DataError, match="not JSON"):
        open_llama(folder)


def test_weights_of_another_size_than_the_config_says_are_named(tmp_path):
    folder = save(varied_llama(), tmp_path / "llama")
    values = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(values | {"intermediate_size": 56}))
    with pytest.raises(CheckpointError, match=r"gate_proj.*\[96, 32\].*\[112, 32\]"):
        open_llama(folder)
