"""Model folders: bit-exact round trips, damage that is noticed, formats that are kept."""

import json
import os
import struct
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from conformance.models import CONFIGS, base_model, sequences
from mamba_slm.core.errors import CheckpointError, DataError
from mamba_slm.model.checkpoint import (
    CONFIG_FILE,
    KEPT_IN_FLOAT32,
    WEIGHTS_FILE,
    is_model_folder,
    load_config,
    load_model,
    resolve_model_folder,
    save_model,
)
from mamba_slm.model.config import MODEL_FORMAT_VERSION
from mamba_slm.model.init import build_model
from tolerances import assert_close, tolerance_of

FIXTURES = Path(__file__).parent / "fixtures"
TOKENS = sequences((50,))[0][None]
every_layout = pytest.mark.parametrize("layout", CONFIGS)


@pytest.fixture
def folder(tmp_path):
    """A saved model of the classic layout."""
    path = tmp_path / "model"
    path.mkdir()
    save_model(base_model("classic"), path)
    return path


def edit_config(folder, change):
    """Rewrite config.json after `change` had its way with it."""
    stored = json.loads((folder / CONFIG_FILE).read_text())
    change(stored)
    (folder / CONFIG_FILE).write_text(json.dumps(stored))


def edit_weights(folder, change):
    """Rewrite model.safetensors after `change` had its way with the tensors."""
    tensors = load_file(folder / WEIGHTS_FILE)
    change(tensors)
    save_file(tensors, folder / WEIGHTS_FILE)


@every_layout
def test_a_round_trip_keeps_every_bit_of_weights_config_and_logits(layout, tmp_path):
    model = base_model(layout)
    save_model(model, tmp_path)
    loaded = load_model(tmp_path)
    assert loaded.config == model.config
    expected = model.state_dict()
    assert list(loaded.state_dict()) == list(expected)
    for name, tensor in loaded.state_dict().items():
        assert tensor.dtype == torch.float32
        assert torch.equal(tensor, expected[name]), name
    with torch.no_grad():
        assert torch.equal(loaded(TOKENS), model(TOKENS))


def test_a_loaded_model_is_ready_to_answer_and_to_train(folder):
    model = load_model(folder)
    assert not model.training
    assert all(parameter.requires_grad and not parameter.is_meta for parameter in model.parameters())
    model.loss(TOKENS[:, :-1], TOKENS[:, 1:]).backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_a_tied_head_is_written_once_and_stays_tied(tmp_path):
    save_model(base_model("portable"), tmp_path)
    assert "lm_head.weight" not in load_file(tmp_path / WEIGHTS_FILE)
    loaded = load_model(tmp_path)
    assert loaded.head_weight is loaded.embedding.weight


def test_whoever_may_read_the_config_may_read_the_weights(folder):
    assert (folder / WEIGHTS_FILE).stat().st_mode == (folder / CONFIG_FILE).stat().st_mode


def test_parameter_names_are_the_interface():
    names = {name for config in CONFIGS for name in base_model(config).state_dict()}
    mamba = "norm.weight mixer.in_proj.weight mixer.conv_weight mixer.conv_bias mixer.A_log mixer.D mixer.dt_bias"
    expected = {f"sublayers.0.{name}" for name in [*mamba.split(), "mixer.norm.weight", "mixer.out_proj.weight"]}
    assert {name for name in names if name.startswith("sublayers.0.")} == expected
    assert {name.split(".", 2)[2] for name in names if name.startswith("sublayers.2.")} == {
        "norm.weight",
        *(f"mixer.{letter}_proj.weight" for letter in "qkvo"),
    }
    assert {name.split(".", 2)[2] for name in names if name.startswith("sublayers.3.")} == {
        "norm.weight",
        "mixer.gate_up_proj.weight",
        "mixer.down_proj.weight",
    }
    outside = {name for name in names if not name.startswith("sublayers.")}
    assert outside == {"embedding.weight", "final_norm.weight", "lm_head.weight"}


def test_bf16_keeps_the_sensitive_tensors_in_float32_to_the_bit(folder):
    expected, model = base_model("classic").state_dict(), load_model(folder, dtype=torch.bfloat16)
    kept = {name for name in expected if name.endswith(KEPT_IN_FLOAT32)}
    for ending in ("A_log", "D", "dt_bias", "conv_weight", "conv_bias", "norm.weight"):
        assert any(name.endswith(ending) for name in kept)
    for name, tensor in model.state_dict().items():
        if name in kept:
            assert tensor.dtype == torch.float32
            assert torch.equal(tensor, expected[name]), name
        else:
            assert tensor.dtype == torch.bfloat16
            assert torch.equal(tensor, expected[name].bfloat16()), name
    with torch.no_grad():
        logits = base_model("classic")(TOKENS)
        assert_close(model(TOKENS), logits, tolerance_of("model", torch.bfloat16).values)
    state = model.new_state(1)
    assert state.layers[0].ssm.dtype == torch.float32
    assert state.layers[0].window.dtype == torch.bfloat16


def test_a_bf16_model_survives_its_own_round_trip(folder, tmp_path):
    model = load_model(folder, dtype=torch.bfloat16)
    save_model(model, tmp_path)
    again = load_model(tmp_path, dtype=torch.bfloat16)
    for (name, a), b in zip(model.state_dict().items(), again.state_dict().values(), strict=True):
        assert a.dtype == b.dtype
        assert torch.equal(a, b), name


def test_further_keys_of_config_json_are_kept_apart_from_the_model(tmp_path):
    save_model(base_model("classic"), tmp_path, extra_config={"tokenizer_fingerprint": "abc"})
    assert json.loads((tmp_path / CONFIG_FILE).read_text())["tokenizer_fingerprint"] == "abc"
    assert load_model(tmp_path).config == base_model("classic").config


@pytest.mark.parametrize("keep", [0.0, 0.001, 0.5, 0.999])
def test_truncated_weights_are_noticed(folder, keep):
    path = folder / WEIGHTS_FILE
    os.truncate(path, int(path.stat().st_size * keep))
    with pytest.raises(CheckpointError, match=r"model\.safetensors cannot be read") as caught:
        load_model(folder)
    assert "cut short" in caught.value.hint


@pytest.mark.parametrize(
    "damage",
    [b"\0" * 64, b"not safetensors at all, but long enough", struct.pack("<Q", 1 << 60) + b"{}" * 20],
    ids=["zeros", "text", "absurd header"],
)
def test_damaged_weights_are_noticed(folder, damage):
    (folder / WEIGHTS_FILE).write_bytes(damage)
    with pytest.raises(CheckpointError, match=r"model\.safetensors cannot be read"):
        load_model(folder)


def test_a_missing_tensor_is_named(folder):
    edit_weights(folder, lambda tensors: tensors.pop("sublayers.0.mixer.A_log"))
    with pytest.raises(CheckpointError, match=r"sublayers\.0\.mixer\.A_log is missing, expected \(8,\)"):
        load_model(folder)


def test_an_unexpected_tensor_is_named(folder):
    edit_weights(folder, lambda tensors: tensors.update(stranger=torch.zeros(2)))
    with pytest.raises(CheckpointError, match=r"stranger is \(2,\), expected absent \(1 tensors differ\)"):
        load_model(folder)


def test_a_wrong_shape_is_named_with_both_shapes(folder):
    edit_weights(folder, lambda tensors: tensors.update({"final_norm.weight": torch.zeros(31)}))
    with pytest.raises(CheckpointError, match=r"final_norm\.weight is \(31,\), expected \(32,\)"):
        load_model(folder)


def test_weights_of_another_config_are_refused(folder):
    edit_config(folder, lambda stored: stored["model"].update(pattern="MM*-M*"))
    with pytest.raises(CheckpointError, match="does not fit its config"):
        load_model(folder)


def test_a_newer_format_is_refused_with_the_way_out(folder):
    edit_config(folder, lambda stored: stored.update(format_version=MODEL_FORMAT_VERSION + 1))
    with pytest.raises(CheckpointError, match=f"format version {MODEL_FORMAT_VERSION + 1}") as caught:
        load_model(folder)
    assert "pip install --upgrade" in caught.value.hint


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "null", "{}", '{"format_version": 1}', '{"format_version": "1", "model": {}}', "\u00e9\udc80"],
)
def test_a_config_that_is_none_is_refused(folder, text):
    (folder / CONFIG_FILE).write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(CheckpointError, match=r"config\.json"):
        load_model(folder)


@pytest.mark.parametrize("model", ["[]", "3", '{"pattern": "M-"}', '{"pattern": 3}'])
def test_a_config_without_what_a_model_needs_is_refused(folder, model):
    (folder / CONFIG_FILE).write_text(f'{{"format_version": 1, "model": {model}}}')
    with pytest.raises(CheckpointError, match=r"config\.json"):
        load_model(folder)


@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [
        ("hiden_size", 3, "did you mean 'hidden_size'"),
        ("num_heads", 5, "must be a multiple of num_heads"),
        ("hidden_size", "32", "not a valid model config"),
        ("position", "rop", "did you mean 'rope'"),
    ],
)
def test_a_setting_that_is_wrong_in_a_file_is_named(folder, setting, value, message):
    edit_config(folder, lambda stored: stored["model"].update({setting: value}))
    with pytest.raises(CheckpointError, match=message):
        load_model(folder)


def test_settings_added_later_get_their_defaults(folder):
    edit_config(folder, lambda stored: stored["model"].pop("norm_eps"))
    assert load_config(folder) == base_model("classic").config


def test_a_run_means_its_finished_model_or_its_newest_whole_checkpoint(folder, tmp_path):
    run = tmp_path / "run"
    for name in ("step-00000010", "step-00000200", "step-00000300"):
        (run / "checkpoints" / name).mkdir(parents=True)
    save_model(base_model("classic"), run / "checkpoints" / "step-00000010")
    save_model(base_model("classic"), run / "checkpoints" / "step-00000200")  # the one of step 300 was never finished
    assert resolve_model_folder(run) == run / "checkpoints" / "step-00000200"
    (run / "model").mkdir()
    save_model(base_model("classic"), run / "model")
    assert resolve_model_folder(str(run)) == run / "model"
    assert resolve_model_folder(folder) == folder


def test_a_folder_without_a_model_says_what_was_looked_for(tmp_path):
    assert not is_model_folder(tmp_path)
    with pytest.raises(DataError, match=r"no config\.json with model\.safetensors, and no checkpoints"):
        load_model(tmp_path)
    with pytest.raises(DataError, match="does not exist"):
        load_model(tmp_path / "nothing")


def test_learned_positions_are_part_of_the_weights(tmp_path):
    model = build_model(replace(CONFIGS["portable"], position="learned"), seed=2)
    save_model(model, tmp_path)
    with torch.no_grad():
        assert torch.equal(load_model(tmp_path)(TOKENS), model(TOKENS))


@pytest.mark.parametrize("version", [path.name for path in sorted(FIXTURES.iterdir())])
def test_every_format_ever_written_still_loads_and_gives_the_same_logits(version):
    expected = load_file(FIXTURES / version / "expected.safetensors")
    model = load_model(FIXTURES / version)
    with torch.no_grad():
        assert_close(model(expected["tokens"]), expected["logits"], tolerance_of("model").values)


def test_there_is_a_fixture_of_every_format_version():
    names = {path.name for path in FIXTURES.iterdir()}
    assert names == {f"version-{number}" for number in range(1, MODEL_FORMAT_VERSION + 1)}
