"""The files hold what the portable rules ask for, in the dtypes and sizes that were asked for."""

import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from mamba_slm.core.errors import ConfigError
from mamba_slm.export.hf.lint import verdicts
from mamba_slm.export.hf.write import (
    KEPT_FLOAT32,
    generation_config,
    hf_config,
    rounded,
    split_by_bytes,
    weights_bytes,
    write_folder,
    written_files,
)
from mamba_slm.export.portable import make_portable
from mamba_slm.model.granite import to_granite_tensors
from model.hf_models import CONFIGS, varied
from small_models import small_tokenizer

DTYPES = [torch.float32, torch.bfloat16, torch.float16]
PORTABLE_KINDS = ["portable", "classic, untied, nope", "only mamba", "only attention"]


def granite_tensors(kind="portable"):
    model = make_portable(varied(kind))
    return to_granite_tensors(model.state_dict(), model.config)


def test_the_config_spells_every_key_as_all_runtimes_read_it():
    values = hf_config(CONFIGS["portable"], dtype=torch.bfloat16, tokenizer=small_tokenizer())
    assert values["layer_types"] == ["mamba", "attention", "mamba"]
    assert values["time_step_limit"] == [0.0, 65504.0]
    assert values["rope_theta"] == values["rope_parameters"]["rope_theta"] == 500_000.0
    assert values["attention_multiplier"] == 16**-0.5
    assert values["num_local_experts"] == 0
    assert values["shared_intermediate_size"] == values["intermediate_size"] == 48
    assert (values["dtype"], values["torch_dtype"]) == ("bfloat16", "bfloat16")
    assert (values["bos_token_id"], values["eos_token_id"], values["pad_token_id"]) == (0, 0, 3)
    nope = replace(CONFIGS["portable"], position="nope")
    assert hf_config(nope, dtype=torch.float32)["position_embedding_type"] == "nope"
    json.dumps(values, allow_nan=False)


def test_no_runtime_is_lost_by_the_config_of_a_portable_model():
    values = hf_config(CONFIGS["portable"], dtype=torch.float32)
    assert all(verdict.loads for verdict in verdicts(values))


@pytest.mark.parametrize("dtype", DTYPES)
def test_only_the_parameters_of_the_scan_stay_float32(dtype):
    found = rounded(granite_tensors(), dtype)
    for name, tensor in found.items():
        assert tensor.dtype == (torch.float32 if name.endswith(KEPT_FLOAT32) else dtype), name
    assert sum(name.endswith(KEPT_FLOAT32) for name in found) == 6


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", PORTABLE_KINDS)
def test_the_bytes_are_known_beforehand(tmp_path, kind, dtype):
    model = make_portable(varied(kind))
    write_folder(tmp_path, model, dtype=dtype)
    tensors = load_file(tmp_path / "model.safetensors")
    assert sum(tensor.nbytes for tensor in tensors.values()) == weights_bytes(model.config, dtype)
    assert ("lm_head.weight" in tensors) != model.config.tie_embeddings


def test_a_value_too_large_for_float16_is_refused_by_name():
    tensors = granite_tensors()
    tensors["model.norm.weight"] = torch.full((32,), 1e5)
    with pytest.raises(ConfigError, match=r"model\.norm\.weight does not fit into float16: .* 100000") as caught:
        rounded(tensors, torch.float16)
    assert "bfloat16" in caught.value.hint
    rounded(tensors, torch.bfloat16)


@pytest.mark.parametrize("max_bytes", [1, 10_000, 40_960, 10**9])
def test_shards_hold_every_tensor_once_and_keep_to_their_size(tmp_path, max_bytes):
    model = varied("portable")
    write_folder(tmp_path, model, dtype=torch.float32, max_shard_bytes=max_bytes)
    tensors = granite_tensors()
    files = sorted(tmp_path.glob("*.safetensors"))
    found = {name: (file.name, tensor) for file in files for name, tensor in load_file(file).items()}
    assert {name: tensor.shape for name, (_, tensor) in found.items()} == {
        name: tensor.shape for name, tensor in tensors.items()
    }
    for file in files:
        shard = load_file(file)
        assert len(shard) == 1 or sum(tensor.nbytes for tensor in shard.values()) <= max_bytes
    index = tmp_path / "model.safetensors.index.json"
    assert index.exists() == (len(files) > 1)
    if index.exists():
        stored = json.loads(index.read_text())
        assert stored["weight_map"] == {name: file for name, (file, _) in found.items()}
        assert stored["metadata"]["total_size"] == sum(tensor.nbytes for tensor in tensors.values())


def test_tensors_are_cut_in_their_order():
    tensors = {name: torch.zeros(size) for name, size in {"a": 1, "b": 1, "c": 5, "d": 1}.items()}
    assert split_by_bytes(tensors, 8) == [["a", "b"], ["c"], ["d"]]


def test_a_reply_ends_at_the_end_of_a_document_or_of_a_turn():
    values = generation_config(small_tokenizer())
    assert values["eos_token_id"] == [0, 2]
    assert values["do_sample"]


def test_the_tokenizer_travels_under_a_name_that_old_versions_know(tmp_path):
    write_folder(tmp_path, varied("portable"), dtype=torch.float32, tokenizer=small_tokenizer(), chat_template="hi")
    described = json.loads((tmp_path / "tokenizer_config.json").read_text())
    assert described["tokenizer_class"] == "PreTrainedTokenizerFast"
    assert (tmp_path / "chat_template.jinja").read_text() == "hi"
    sizes = written_files(tmp_path)
    assert set(sizes) == {
        *("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"),
        *("chat_template.jinja", "generation_config.json"),
    }
    assert all(sizes.values())
