"""A path is recognised by what is in it, and a hub id is found in the local cache without the network."""

import json

import huggingface_hub.constants
import pytest

from mamba_slm.core.errors import DataError
from mamba_slm.export.formats import GGUF, HUGGING_FACE, ONNX, OURS, RUNNERS, config_of, format_of, resolve
from small_models import save_small_model

GRANITE = {"model_type": "granitemoehybrid"}


def folder_with(path, *names, config=None):
    path.mkdir(parents=True, exist_ok=True)
    for name in names:
        (path / name).parent.mkdir(exist_ok=True)
        (path / name).write_bytes(b"")
    if config is not None:
        (path / "config.json").write_text(json.dumps(config))
    return path


def test_our_folders_runs_and_checkpoints_are_ours(tmp_path):
    assert format_of(save_small_model(tmp_path / "model")) == OURS
    save_small_model(tmp_path / "done" / "model")
    save_small_model(tmp_path / "going" / "checkpoints" / "step-00000004")
    assert format_of(tmp_path / "done") == format_of(tmp_path / "going") == OURS


@pytest.mark.parametrize(
    ("names", "config", "expected"),
    [
        (["model.safetensors"], GRANITE, HUGGING_FACE),
        (["model-00001-of-00002.safetensors"], GRANITE, HUGGING_FACE),
        (["model.safetensors", "onnx/model.onnx"], GRANITE, HUGGING_FACE),
        (["onnx/model.onnx"], GRANITE, ONNX),
        (["model.onnx"], None, ONNX),
        (["pytorch_model.bin"], GRANITE, HUGGING_FACE),
        ([], GRANITE, None),
        (["model.safetensors"], None, None),
    ],
)
def test_a_folder_is_what_its_weights_and_config_say(tmp_path, names, config, expected):
    assert format_of(folder_with(tmp_path, *names, config=config)) == expected


def test_a_file_is_what_its_suffix_says(tmp_path):
    folder_with(tmp_path, "a.gguf", "b.ONNX", "c.txt")
    assert [format_of(tmp_path / name) for name in ("a.gguf", "b.ONNX", "c.txt")] == [GGUF, ONNX, None]
    assert set(RUNNERS) == {OURS, HUGGING_FACE, GGUF, ONNX}


def test_a_broken_config_is_named(tmp_path):
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(DataError, match=r"config\.json is not JSON"):
        config_of(tmp_path)
    assert config_of(tmp_path / "nothing") is None


def test_a_hub_id_is_found_in_the_cache_and_a_path_goes_before_it(tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    repository = tmp_path / "cache" / "models--someone--granite"
    snapshot = folder_with(repository / "snapshots" / "abc", config=GRANITE)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("abc")
    assert resolve("someone/granite") == snapshot
    monkeypatch.chdir(tmp_path)
    (tmp_path / "someone" / "granite").mkdir(parents=True)
    assert str(resolve("someone/granite")) == "someone/granite"


@pytest.mark.parametrize("name", ["someone/absent", "no/such/path", "absent", "../a/b", "a b/c"])
def test_what_is_nowhere_is_refused_without_the_network(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match="neither as a path nor"):
        resolve(name)
