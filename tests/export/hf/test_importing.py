"""Dense GraniteMoeHybrids become models of ours; every other folder is refused with the reason."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from export.their_models import MULTIPLIERS, edit_config, save_granite, save_ours
from mamba_slm.core.errors import CheckFailedError, CheckpointError, ConfigError, DataError, UsageError
from mamba_slm.export.hf import importing as module
from mamba_slm.export.hf.export import export_hf
from mamba_slm.export.hf.importing import fold, import_hf, read_config, read_tensors
from mamba_slm.export.hf.runner import open_hf
from mamba_slm.model.checkpoint import load_config, load_model
from mamba_slm.model.weight_files import weight_files
from mamba_slm.text.tokenizer import Tokenizer
from small_models import small_tokenizer

LEGACY = {"layer_types": ["mamba", "attention", "mamba"], "time_step_limit": [0.0, 1e9], "rope_theta": 10_000.0}


@pytest.mark.parametrize("spelling", ["of transformers 5", "legacy"])
def test_both_spellings_are_read_and_every_bit_is_kept(tmp_path, spelling):
    folder = save_granite(tmp_path / "theirs", dtype=torch.bfloat16)
    if spelling == "legacy":
        edit_config(folder, **LEGACY)
    found = import_hf(folder, tmp_path / "ours")
    assert found.config.pattern == "M-*-M-"
    assert found.parity.max_logit_error <= 1e-4
    assert (found.folded, found.removed_feed_forwards, found.tokenizer) == ({}, 0, True)
    theirs, ours = load_file(folder / "model.safetensors"), load_file(tmp_path / "ours" / "model.safetensors")
    query = theirs["model.layers.1.self_attn.q_proj.weight"]
    assert ours["sublayers.2.mixer.q_proj.weight"].dtype == torch.bfloat16
    assert ours["sublayers.2.mixer.q_proj.weight"].equal(query)
    total = sum(tensor.nbytes for tensor in ours.values())
    assert total == sum(tensor.nbytes for name, tensor in theirs.items() if name != "lm_head.weight")
    assert Tokenizer.load(tmp_path / "ours").fingerprint == small_tokenizer().fingerprint


@pytest.mark.parametrize("kind", ["portable", "classic, untied, nope", "only mamba", "only attention"])
def test_exported_and_imported_again_a_model_is_the_same_bit_for_bit(tmp_path, kind):
    model = save_ours(tmp_path / "model", kind)
    (model / "chat_template.jinja").write_text("{{ messages[0].content }}")
    export_hf(model, tmp_path / "theirs", max_shard_bytes=20_000)
    said = []
    found = import_hf(tmp_path / "theirs", tmp_path / "again", say=said.append)
    assert load_config(tmp_path / "again") == load_config(model)
    before, after = (load_file(folder / "model.safetensors") for folder in (model, tmp_path / "again"))
    assert list(before) == list(after)
    assert all(tensor.equal(after[name]) for name, tensor in before.items())
    assert (tmp_path / "again" / "chat_template.jinja").read_text() == "{{ messages[0].content }}"
    assert found.removed_feed_forwards == (3 if kind.startswith("classic") else 0)
    assert any("feed-forwards of zeros" in line for line in said) == kind.startswith("classic")


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("position", ["rope", "nope", None])
def test_multipliers_go_into_the_weights(tmp_path, tied, position):
    settings = MULTIPLIERS | {"tie_word_embeddings": tied, "position_embedding_type": position}
    folder = save_granite(tmp_path / "theirs", **settings)
    found = import_hf(folder, tmp_path / "ours")
    assert found.folded == MULTIPLIERS
    assert found.parity.max_logit_error <= 1e-4
    theirs = open_hf(folder).trace([1, 2, 3], residuals=True)
    stream: list[torch.Tensor] = []
    with torch.no_grad():
        load_model(tmp_path / "ours").hidden_states(torch.tensor([[1, 2, 3]]), residuals=stream)
    for (name, expected), hidden in zip(theirs.residuals, stream, strict=False):
        assert torch.allclose(hidden[0], expected, atol=1e-4), name


def test_folding_gives_float32_and_leaves_what_no_multiplier_touches():
    tensors = {"sublayers.0.norm.weight": torch.ones(3).bfloat16(), "embedding.weight": torch.ones(2, 2).bfloat16()}
    config, multipliers = read_config(granite_values(embedding_multiplier=12.0))
    found = fold(tensors, config, multipliers)
    assert {tensor.dtype for tensor in found.values()} == {torch.float32}
    assert found["sublayers.0.norm.weight"].eq(1).all()
    assert found["embedding.weight"].eq(12).all()


def granite_values(**changes):
    return {
        "model_type": "granitemoehybrid", "vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 2,
        "layer_types": ["linear_attention", "full_attention"], "num_attention_heads": 4, "num_key_value_heads": 2,
        "shared_intermediate_size": 40, "attention_multiplier": 8**-0.5, "num_local_experts": 0, "mamba_n_heads": 8,
        "mamba_d_state": 16, **changes,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"model_type": "bamba"}, "model_type is 'bamba'"),
        ({"num_local_experts": 8}, "num_local_experts is 8: a mixture of experts"),
        ({"mlp_bias": True}, "mlp_bias is True"),
        ({"normalization_function": "layernorm"}, "normalization_function is 'layernorm'"),
        ({"sliding_window": 4096}, "sliding_window = 4096, which is not known"),
        ({"layer_types": ["mamba", "sliding_attention"]}, "sliding_attention"),
        ({"quantization_config": {"bits": 4}}, "quantization_config"),
        ({"time_step_limit": [0.001, 100.0]}, "time_step_limit"),
        ({"attention_bias": True}, "attention_bias"),
        ({"head_dim": 16}, "head_dim"),
        ({"logits_scaling": 0}, "logits_scaling is 0"),
    ],
)
def test_what_our_model_does_not_compute_is_refused_by_name(changes, named):
    with pytest.raises(ConfigError, match=named):
        read_config(granite_values(**changes))


def test_keys_that_change_nothing_are_passed_over():
    values = granite_values(initializer_range=0.1, attention_dropout=0.1, transformers_version="9", rope_scaling=None)
    assert read_config(values) == read_config(granite_values())


def test_experts_are_refused_where_the_key_is_absent():
    values = granite_values()
    del values["num_local_experts"]
    with pytest.raises(ConfigError, match="num_local_experts is 8"):
        read_config(values)


def test_folders_that_are_incomplete_are_refused(tmp_path):
    folder = save_granite(tmp_path / "theirs")
    with pytest.raises(DataError, match=r"has no config\.json"):
        import_hf(tmp_path, tmp_path / "ours")
    (folder / "tokenizer.json").rename(folder / "tokenizer.other")
    with pytest.raises(DataError, match="no tokenizer"):
        import_hf(folder, tmp_path / "ours")
    found = import_hf(folder, tmp_path / "without", needs_tokenizer=False)
    assert not found.tokenizer
    with pytest.raises(UsageError, match="exists already"):
        import_hf(folder, tmp_path / "without", needs_tokenizer=False)
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match=r"no model\.safetensors") as caught:
        import_hf(folder, tmp_path / "ours", needs_tokenizer=False)
    assert "pickles" in caught.value.hint
    assert not (tmp_path / "ours").exists()


def test_a_missing_shard_and_a_broken_index_are_named(tmp_path):
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "model-00001-of-00002.safetensors"}}))
    with pytest.raises(CheckpointError, match=r"00001-of-00002.*missing"):
        weight_files(tmp_path)
    index.write_text("[]")
    with pytest.raises(CheckpointError, match="not an index"):
        weight_files(tmp_path)


def test_quantized_and_damaged_weights_are_refused(tmp_path):
    save_file({"a": torch.zeros(2, dtype=torch.int8)}, tmp_path / "a.safetensors")
    with pytest.raises(CheckpointError, match=r"a is stored as torch\.int8"):
        read_tensors([tmp_path / "a.safetensors"])
    (tmp_path / "a.safetensors").write_bytes(b"short")
    with pytest.raises(CheckpointError, match="cannot be read"):
        read_tensors([tmp_path / "a.safetensors"])


def test_a_tokenizer_larger_than_the_model_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match="but a model of 64"):
        import_hf(save_granite(tmp_path / "theirs", vocab_size=64), tmp_path / "ours")


def test_a_wrong_conversion_is_caught_its_layer_named_and_nothing_is_left(tmp_path, monkeypatch):
    folder = save_granite(tmp_path / "theirs", **MULTIPLIERS)

    def without_residual(tensors, config, multipliers):
        return fold(tensors, config, {name: value for name, value in multipliers.items() if name[0] != "r"})

    monkeypatch.setattr(module, "fold", without_residual)
    with pytest.raises(CheckFailedError, match="first layer that drifts: layer 0 Mamba-2"):
        import_hf(folder, tmp_path / "ours")
    assert not (tmp_path / "ours").exists()
