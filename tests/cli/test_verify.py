"""`verify` as a user meets it."""

import json

import pytest
from safetensors.torch import load_file, save_file

from mamba_slm.cli.main import main
from mamba_slm.export.hf.export import export_hf
from small_models import save_small_model


@pytest.fixture
def pair(tmp_path):
    model = save_small_model(tmp_path / "model")
    export_hf(model, tmp_path / "out")
    return str(model), str(tmp_path / "out")


def damage(folder):
    file = f"{folder}/model.safetensors"
    tensors = load_file(file)
    tensors["model.layers.1.self_attn.v_proj.weight"][1, 1] += 1
    save_file(tensors, file, metadata={"format": "pt"})


def test_equal_models_are_said_to_be_equal(pair, tmp_path, capsys):
    assert main(["verify", *pair]) == 0
    shown = capsys.readouterr()
    assert "random tokens" in shown.out
    assert "tokenizers: equal on" in shown.out
    assert "first layer" not in shown.out
    assert f"B: {pair[1]}, transformers" in shown.err
    (tmp_path / "notes.txt").write_text("def f():\n    return 'ü'\n")
    words = ["--text", str(tmp_path / "notes.txt"), "--tokens", "16", "--json", "--quiet"]
    assert main(["verify", *pair, *words]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["equal"]
    assert found["random"]["num_tokens"] == 32
    assert found["tokenizers"]["characters"] == 24


def test_a_difference_is_shown_layer_by_layer_and_exits_6(pair, capsys):
    damage(pair[1])
    assert main(["verify", *pair]) == 6
    shown = capsys.readouterr()
    assert "first layer that drifts: layer 1 attention" in shown.out
    assert "layer 2 feed-forward" in shown.out
    assert "error: " in shown.err
    assert main(["verify", *pair, "--json"]) == 6
    found = json.loads(capsys.readouterr().out)
    assert not found["equal"]
    assert found["text"]["first_drift"] == "layer 1 attention"
    assert found["text"]["layers"][0] == {"name": "embedding", "max_error": 0.0, "relative_error": 0.0}
    assert main(["verify", *pair, "--tolerance", "100"]) == 0


def test_bad_requests_have_their_exit_codes(pair, tmp_path, capsys):
    assert main(["verify", pair[0], str(tmp_path / "absent")]) == 5
    assert "neither as a path nor" in capsys.readouterr().err
    assert main(["verify", pair[0], str(tmp_path / "model" / "tokenizer.json")]) == 5
    assert main(["verify", *pair, "--tokens", "1"]) == 2
    assert main(["verify", *pair, "--text", str(tmp_path / "absent.txt")]) == 5
    (tmp_path / "empty.txt").write_text(" \n")
    assert main(["verify", *pair, "--text", str(tmp_path / "empty.txt")]) == 5
    (tmp_path / "latin.txt").write_bytes(b"\xff")
    assert main(["verify", *pair, "--text", str(tmp_path / "latin.txt")]) == 5
    assert "UTF-8" in capsys.readouterr().err
