"""Which engine `auto` becomes, and that what cannot work is refused before anything is written."""

import dataclasses

import pytest

from mamba_slm.core.errors import ConfigError
from mamba_slm.training.config import TrainConfig
from mamba_slm.training.distributed.place import Place
from mamba_slm.training.distributed.world import World
from mamba_slm.training.engines import decide
from mamba_slm.training.engines.decide import chosen_by_memory, fitting_engine, require_engine
from training.small_run import TINY

CONFIG = TrainConfig(context_tokens=32, batch_tokens=128, precision="fp32")
WORLD = World(Place(rank=0, size=2, local_size=2))
MIB = 2**20


def test_a_model_that_fits_is_held_whole_and_one_that_does_not_is_shared():
    assert chosen_by_memory(80 * MIB, 100 * MIB).value == "ddp"
    choice = chosen_by_memory(95 * MIB, 100 * MIB)
    assert choice.value == "fsdp"
    assert choice.reason.startswith("automatic: about 95.0 MiB for a whole model on each process, which has 100 MiB")


def test_processes_of_one_machine_share_its_memory(monkeypatch):
    monkeypatch.setattr(decide, "usable_memory_bytes", lambda: 2000 * MIB)
    assert fitting_engine(CONFIG, TINY, WORLD).value == "ddp"
    monkeypatch.setattr(decide, "usable_memory_bytes", lambda: 600 * MIB)  # torch alone needs 340 in each
    assert fitting_engine(CONFIG, TINY, WORLD).value == "fsdp"


def test_an_engine_that_was_asked_for_stays():
    for engine in ("ddp", "fsdp", "deepspeed"):
        choice = fitting_engine(dataclasses.replace(CONFIG, engine=engine), TINY, WORLD)
        assert (choice.value, choice.reason) == (engine, "asked for")


def test_an_optimiser_that_cannot_be_shared_keeps_ddp(monkeypatch):
    monkeypatch.setattr(decide, "usable_memory_bytes", lambda: 600 * MIB)
    choice = fitting_engine(dataclasses.replace(CONFIG, optimizer="adamw8bit"), TINY, WORLD)
    assert choice.value == "ddp" and "adamw8bit" in choice.reason


def test_fp16_which_has_a_loss_scale_only_under_ddp_keeps_it(monkeypatch):
    monkeypatch.setattr(decide, "usable_memory_bytes", lambda: 600 * MIB)
    choice = fitting_engine(dataclasses.replace(CONFIG, precision="fp16"), TINY, WORLD)
    assert choice.value == "ddp" and "--precision fp32 --engine fsdp" in choice.reason


def test_what_deepspeed_cannot_do_is_refused_at_once():
    config = dataclasses.replace(CONFIG, engine="deepspeed", precision="fp16")
    with pytest.raises(ConfigError, match="fp16"):
        require_engine(config, TINY, processes=2)
    with pytest.raises(ConfigError, match="muon does not work with deepspeed"):
        require_engine(dataclasses.replace(CONFIG, engine="deepspeed", optimizer="muon"), TINY, processes=2)
    require_engine(config, TINY, processes=1)  # alone there is nothing to share
