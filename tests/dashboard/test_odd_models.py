"""Models that somebody else made: what their small files ask for is not given without end, nor from elsewhere."""

import json
import os
from dataclasses import asdict, replace

import pytest

from dashboard.made_models import HF, SMALL, gguf_bytes, make_adapter, make_hf, make_model, make_onnx
from dashboard.made_runs import client_of
from mamba_slm.core.errors import ConfigError
from mamba_slm.dashboard.reading.base_model import base_model
from mamba_slm.dashboard.reading.models import model_at
from mamba_slm.dashboard.reading.sensible import require_pattern
from mamba_slm.model.onnx_contract import CONTRACT_FILE

GRANITE = "granitehybrid"


@pytest.fixture
def here(tmp_path, monkeypatch):
    (tmp_path / "work" / "runs").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "work"


@pytest.mark.parametrize(
    "changes",
    [
        {f"{GRANITE}.block_count": 2**32 - 1, f"{GRANITE}.attention.head_count_kv": 1},
        {f"{GRANITE}.block_count": "many", f"{GRANITE}.attention.head_count_kv": 1},
        {f"{GRANITE}.attention.head_count_kv": []},
        {f"{GRANITE}.rope.freq_base": float("inf")},
        {f"{GRANITE}.ssm.inner_size": "x"},
    ],
)
def test_a_gguf_that_asks_for_too_much_is_a_problem_and_no_more(here, changes):
    (here / "x.gguf").write_bytes(gguf_bytes(**changes))
    assert model_at(here / "x.gguf").config is None
    (row,) = client_of(here / "runs").get("/api/models").json()["models"]
    assert row["problem"]


def test_a_file_type_that_is_a_list_is_a_mixture(here):
    (here / "x.gguf").write_bytes(gguf_bytes(**{"general.file_type": [1]}))
    assert model_at(here / "x.gguf").stored == "a mixture"


@pytest.mark.parametrize(
    "changes",
    [
        {"pattern": "M999" * 900},
        {"pattern": ["M"]},
        {"vocab_size": 10**300},
        {"hidden_size": 32.0},
        {"rope_theta": "x"},
        {"norm_eps": 1e300},
    ],
)
def test_a_config_that_asks_for_too_much_is_a_problem_and_no_more(here, changes):
    make_model(here / "own")
    content = {"format_version": 1, "model": asdict(SMALL) | changes}
    (here / "own" / "config.json").write_text(json.dumps(content))
    make_onnx(here / "onnx")
    contract = json.loads((here / "onnx" / CONTRACT_FILE).read_text())
    (here / "onnx" / CONTRACT_FILE).write_text(json.dumps(contract | {"config": contract["config"] | changes}))
    for name in ("own", "onnx"):
        assert model_at(here / name).config is None and model_at(here / name).problem
    rows = client_of(here / "runs").get("/api/models").json()["models"]
    assert all(row["problem"] for row in rows) and len(rows) == 2
    with pytest.raises(Exception, match="config") as error:
        base_model(here / "own")
    assert type(error.value).__name__ == "DataError"


@pytest.mark.parametrize("changes", [{"num_hidden_layers": 10**9, "layer_types": None}, {"vocab_size": 10**300}])
def test_a_foreign_config_that_asks_for_too_much_is_a_problem_and_no_more(here, changes):
    make_hf(here / "hf")
    (here / "hf" / "config.json").write_text(json.dumps(HF | changes))
    assert model_at(here / "hf").problem


def test_patterns_of_real_models_are_taken_and_long_ones_are_not():
    require_pattern("M-M-*-" * 100)
    require_pattern("M999*3-2")
    for pattern in ("M9999", "M99999", "M999" * 20, "M" * 5000):
        with pytest.raises(ConfigError):
            require_pattern(pattern)
    assert replace(SMALL, pattern="M3*").pattern == "MMM*"


@pytest.mark.parametrize("base", ["../elsewhere", "a\0b", "x" * 5000, "loop"])
def test_a_card_that_names_something_else_of_this_machine_lets_nobody_look_there(here, base):
    elsewhere = here.parent / "elsewhere"
    make_adapter(make_adapter(elsewhere, here / "x") or elsewhere, here / "secret-name")
    (here / "loop").symlink_to(here / "loop")
    make_adapter(here / "lora", here / "x")
    (here / "lora" / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": base, "r": 4}))
    (here / "lora" / "mamba_slm_adapter.json").unlink(missing_ok=True)
    client = client_of(here / "runs")
    assert client.get("/api/models").status_code == 200
    answer = client.get("/api/models/one?model=lora")
    assert answer.status_code == 200
    assert "secret-name" not in answer.text


def test_a_pipe_in_the_place_of_weights_keeps_nobody_waiting(here):
    make_model(here / "m")
    (here / "m" / "shards.json").write_text("{}")
    (here / "m" / "model.safetensors").unlink()
    os.mkfifo(here / "m" / "model.safetensors")
    assert client_of(here / "runs").get("/api/models/one?model=m").status_code == 200
