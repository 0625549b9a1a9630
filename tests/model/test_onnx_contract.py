"""The file that says what an exported folder holds."""

import json

import pytest

from mamba_slm.core.errors import DataError, SetupError
from mamba_slm.model.onnx_contract import OnnxContract, is_onnx_folder, onnx_states, read_onnx_contract
from mamba_slm.model.presets import preset


def contract(**changed):
    values = {
        "config": preset("nano"),
        "weights": "int8",
        "files": {"portable": "onnx/portable.onnx"},
        "block_size": 64,
    }
    return OnnxContract(**{**values, **changed})


def test_it_is_read_as_it_was_written(tmp_path):
    assert not is_onnx_folder(tmp_path)
    contract().write(tmp_path)
    assert is_onnx_folder(tmp_path)
    assert read_onnx_contract(tmp_path) == contract()


def test_states_are_numbered_by_mixers_and_empty_before_the_first_token():
    states = {state.past: state for state in onnx_states(preset("nano", pattern="M--*-M"))}
    assert list(states) == [
        "past_conv.0",
        "past_ssm.0",
        "past_key_values.1.key",
        "past_key_values.1.value",
        "past_conv.2",
        "past_ssm.2",
    ]
    assert [state.present for state in states.values()][2:4] == ["present.1.key", "present.1.value"]
    assert states["past_conv.0"].empty_shape(3) == (3, 3, 512)
    assert states["past_ssm.2"].empty_shape(3) == (3, 6, 64, 64)
    assert states["past_key_values.1.key"].empty_shape(3) == (3, 1, 0, 64)
    assert [state.grows for state in states.values()] == [False, False, True, True, False, False]


def test_the_fastest_form_there_is_is_chosen(tmp_path):
    (tmp_path / "onnx").mkdir()
    for name in ("model", "portable"):
        (tmp_path / f"onnx/{name}.onnx").touch()
    both = contract(files={"portable": "onnx/portable.onnx", "fused": "onnx/model.onnx"})
    assert both.graph_file(tmp_path).name == "model.onnx"
    assert both.graph_file(tmp_path, "portable").name == "portable.onnx"
    assert contract().graph_file(tmp_path).name == "portable.onnx"


def test_a_missing_graph_is_named(tmp_path):
    with pytest.raises(DataError, match="holds no fused graph"):
        contract().graph_file(tmp_path, "fused")
    with pytest.raises(DataError, match=r"portable.onnx is missing"):
        contract().graph_file(tmp_path)


@pytest.mark.parametrize(
    "damage",
    [
        lambda stored: "{",
        lambda stored: "[]",
        lambda stored: stored.replace('"format_version": 1,', ""),
        lambda stored: stored.replace('"int8"', '"int5"'),
        lambda stored: stored.replace('"portable":', '"other":'),
        lambda stored: stored.replace('"vocab_size": 4096', '"vocab_size": 0'),
        lambda stored: stored.replace('"block_size"', '"blocks"'),
    ],
)
def test_a_damaged_contract_is_refused(tmp_path, damage):
    contract().write(tmp_path)
    path = tmp_path / "mamba_slm_onnx.json"
    stored = path.read_text()
    path.write_text(damage(stored))
    assert path.read_text() != stored
    with pytest.raises(DataError, match=r"mamba_slm_onnx.json is damaged"):
        read_onnx_contract(tmp_path)


def test_a_newer_contract_and_none_are_told_apart(tmp_path):
    with pytest.raises(DataError, match="is not an exported ONNX folder"):
        read_onnx_contract(tmp_path)
    contract().write(tmp_path)
    path = tmp_path / "mamba_slm_onnx.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format_version": 2}))
    with pytest.raises(SetupError, match="has format version 2"):
        read_onnx_contract(tmp_path)
