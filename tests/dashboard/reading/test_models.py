"""Models of every format are recognized by small files, and damaged ones say what is wrong."""

import os
from dataclasses import replace

import pytest

from dashboard.made_models import (
    SMALL,
    TENSORS,
    gguf_bytes,
    make_adapter,
    make_hf,
    make_model,
    make_onnx,
    make_quantized,
)
from dashboard.made_runs import make_run
from mamba_slm.core.errors import DataError
from mamba_slm.dashboard.reading import models
from mamba_slm.dashboard.reading.anatomy import anatomy, layers_of, stored_by_part
from mamba_slm.dashboard.reading.gguf import read_gguf
from mamba_slm.dashboard.reading.models import model_at, models_below
from mamba_slm.model.count import count_parameters, state_bytes
from mamba_slm.model.pattern import ATTENTION, MAMBA


def test_every_format_is_recognized(tmp_path):
    make_model(tmp_path / "model")
    make_quantized(tmp_path / "small")
    make_hf(tmp_path / "hf")
    make_onnx(tmp_path / "onnx")
    make_adapter(tmp_path / "lora", tmp_path / "model")
    (tmp_path / "x.gguf").write_bytes(gguf_bytes())
    (tmp_path / "text.txt").write_text("no model")
    found = {model.path.name: model for model in models_below([tmp_path]).models}
    assert {name: model.kind for name, model in found.items()} == {
        "model": "model", "small": "quantized", "hf": "Hugging Face", "onnx": "ONNX", "lora": "adapter",
        "x.gguf": "GGUF",
    }  # fmt: skip
    assert {model.problem for model in found.values()} == {None}
    assert found["model"].config == SMALL
    assert (found["small"].stored, found["onnx"].stored) == ("int8, blocks of 32", "int8, blocks of 64; fused")
    assert (found["x.gguf"].stored, found["lora"].stored) == ("Q8_0", "LoRA, rank 4, q_proj")
    assert found["hf"].config.pattern == found["x.gguf"].config.pattern == "M-*-"


def test_a_gguf_gives_the_config_that_it_was_written_from(tmp_path):
    (tmp_path / "x.gguf").write_bytes(gguf_bytes())
    written = replace(SMALL, pattern="M-*-", rope_theta=10_000.0, chunk_size=256)  # no file of llama.cpp has chunks
    assert model_at(tmp_path / "x.gguf").config == written


def test_a_run_is_its_finished_model_else_its_newest_checkpoint(tmp_path):
    run = make_run(tmp_path)
    assert model_at(run.path) is None, "a checkpoint without weights is none"
    make_model(run.checkpoint_folder(25))
    make_model(run.checkpoint_folder(50))
    found = model_at(run.path)
    assert (found.kind, found.folder, found.is_finished) == ("run", run.checkpoint_folder(50), False)
    assert model_at(run.checkpoint_folder(25)).kind == "checkpoint"
    make_model(run.path / "model")
    assert model_at(run.path).is_finished
    tuned = make_run(tmp_path, "20260402-tuned")
    make_adapter(tuned.path / "adapter", run.path)
    assert model_at(tuned.path).kind == "adapter"


@pytest.mark.parametrize(
    "config",
    [
        "", "[]", "{", "\udcff", '{"format_version": 1}', '{"format_version": 99, "model": {}}',
        '{"model_type": "llama"}',
        '{"format_version": 1, "model": {"pattern": "M"}}', '{"format_version": 1, "model": {"pattern": "M999999999"}}',
        '{"format_version": "x", "model": {}}', '{"format_version": 1, "model": {}, "quantization": 3}',
    ],
)  # fmt: skip
def test_a_damaged_config_says_what_is_wrong(tmp_path, config):
    make_model(tmp_path / "m")
    (tmp_path / "m" / "config.json").write_text(config, errors="surrogateescape")
    found = model_at(tmp_path / "m")
    assert found.problem and found.config is None


def test_a_gguf_that_is_cut_short_anywhere_is_refused_by_name(tmp_path):
    data, file = gguf_bytes(), tmp_path / "x.gguf"
    for size in range(0, len(data) - 30, 7):
        file.write_bytes(data[:size])
        with pytest.raises(DataError, match=r"x\.gguf"):
            read_gguf(file)


@pytest.mark.parametrize(
    "changes",
    [
        {"general.architecture": "llama"}, {"granitehybrid.ssm.inner_size": 0}, {"granitehybrid.vocab_size": "x"},
        {"granitehybrid.attention.head_count_kv": 3}, {"granitehybrid.block_count": 4_000_000_000},
        {"granitehybrid.ssm.time_step_rank": 0},
    ],
)  # fmt: skip
def test_a_gguf_of_another_model_is_listed_with_its_reason(tmp_path, changes):
    (tmp_path / "x.gguf").write_bytes(gguf_bytes(**changes))
    found = model_at(tmp_path / "x.gguf")
    assert (found.kind, found.stored) == ("GGUF", "Q8_0")
    assert found.problem or found.config


def test_links_hidden_folders_and_pipes_are_passed_over(tmp_path):
    home, outside = tmp_path / "home", tmp_path / "outside"
    make_model(outside / "m")
    make_model(home / ".hidden" / "m")
    (home / "link").symlink_to(outside)
    (home / "circle").symlink_to(home)
    os.mkfifo(home / "x.gguf")
    pipe = make_model(home / "pipe")
    (pipe / "config.json").unlink()
    os.mkfifo(pipe / "config.json")
    assert models_below([home]).models == ()


def test_a_search_ends_and_says_that_it_is_not_whole(tmp_path, monkeypatch):
    for number in range(12):
        (tmp_path / f"{number:02}").mkdir()
    make_model(tmp_path / "99")
    assert len(models_below([tmp_path]).models) == 1
    monkeypatch.setattr(models, "MOST_LOOKED_AT", 5)
    looked = models_below([tmp_path])
    assert (looked.models, looked.entries, looked.is_whole) == ((), 5, False)


def test_parts_and_memory_are_those_of_the_counts(tmp_path):
    folder = make_model(tmp_path / "m")
    found = anatomy(SMALL, stored=stored_by_part(folder / "model.safetensors", SMALL.pattern))
    assert sum(part["parameters"] for part in found["parts"]) == found["parameters"] == count_parameters(SMALL).total
    assert sum(part["flops"] for part in found["parts"]) == pytest.approx(found["flops_per_token"])
    by_name = {part["name"]: part for part in found["parts"]}
    assert (by_name["mamba"]["bytes"], by_name["mamba"]["types"]) == (2128, ["BF16", "F32"])
    assert sum(part["bytes"] or 0 for part in found["parts"]) == sum(size for _, size in TENSORS.values())
    memory, twin = found["memory"], replace(SMALL, pattern=SMALL.pattern.replace(MAMBA, ATTENTION))
    for place, tokens in enumerate(memory["contexts"]):
        assert memory["hybrid"][place] == state_bytes(SMALL, tokens)
        assert memory["attention_only"][place] == state_bytes(twin, tokens)
    first = memory["equal_from"]
    assert state_bytes(SMALL, first) < state_bytes(twin, first)
    assert state_bytes(SMALL, first - 1) >= state_bytes(twin, first - 1)


def test_a_layer_is_a_mixer_with_the_feed_forwards_behind_it():
    assert layers_of("-M") == [{"mixer": "-", "feed_forwards": 1}, {"mixer": "M", "feed_forwards": 0}]


@pytest.mark.parametrize(
    "data", [b"", b"\xff" * 20, b"\x02\0\0\0\0\0\0\0[]", b"\x0e\0\0\0\0\0\0\0" + b'{"a": {"b":1}}']
)
def test_weights_with_another_header_have_no_bytes_by_part(tmp_path, data):
    (tmp_path / "model.safetensors").write_bytes(data)
    assert stored_by_part(tmp_path / "model.safetensors", "M-") == {}
