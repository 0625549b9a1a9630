"""Promises about memory by engine: what is shared, what stays whole, and that two real steps need about as much."""

import pytest

from mamba_slm.core.errors import ConfigError
from mamba_slm.model.count import count_parameters
from mamba_slm.model.presets import preset
from mamba_slm.training.config import TrainConfig
from mamba_slm.training.measuring import measure_steps
from mamba_slm.training.memory_estimate import estimate_memory
from mamba_slm.training.plan import model_config_for
from mamba_slm.training.presets import train_preset
from mamba_slm.training.run_estimate import estimate_run
from mamba_slm.training.spread import Spread, spread_of

MODEL = preset("350M")
PARAMETERS = count_parameters(MODEL).total
SHAPE = {"context_tokens": 2048, "rows_at_once": 2, "precision": "bf16", "gradient_checkpointing": False}
CLOSE = 0.15


def memory(spread=None, *, model=MODEL, on_gpu=True, **changes):
    return estimate_memory(model, spread=spread, on_gpu=on_gpu, **{**SHAPE, **changes})


def over(engine, processes=8, **settings):
    return Spread(engine=engine, processes=processes, **settings)


def test_ddp_holds_all_and_every_way_to_share_holds_less():
    whole = memory(over("ddp")).total
    stages = [memory(over("deepspeed", zero_stage=stage)).total for stage in (1, 2, 3)]
    fsdp = [memory(over("fsdp", sharding=kind)).total for kind in ("none", "grad_optimizer", "full")]
    assert whole > stages[0] > stages[1] > stages[2]
    assert fsdp[0] > fsdp[1] > fsdp[2] and whole > fsdp[1]
    assert memory().total < whole  # buckets


def test_what_is_kept_between_steps_is_divided_by_the_processes():
    eighth = memory(over("fsdp"), precision="fp32")
    assert eighth.weights + eighth.gradients + eighth.optimizer == pytest.approx(16 * PARAMETERS / 8)
    groups = memory(over("fsdp", shard_processes=2))
    assert groups.optimizer == pytest.approx(8 * PARAMETERS / 2)
    second = memory(over("deepspeed", zero_stage=2), precision="fp32")
    assert second.weights == pytest.approx(4 * PARAMETERS)
    assert second.gradients == pytest.approx(4 * PARAMETERS / 8)


def test_offloading_empties_the_gpu_but_not_a_cpu():
    moved = memory(over("fsdp", offload=True))
    assert moved.weights == moved.optimizer == moved.gradients == 0
    assert memory(over("deepspeed", zero_stage=2, offload=True)).weights > 0
    assert memory(over("fsdp", offload=True), on_gpu=False).total == memory(over("fsdp"), on_gpu=False).total


def test_the_optimisers_keep_what_they_say():
    adamw, eight, muon = (memory(optimizer=name).optimizer for name in ("adamw", "adamw8bit", "muon"))
    assert adamw == 8 * PARAMETERS and eight == pytest.approx(adamw / 4, rel=0.05) and 0.5 < muon / adamw < 0.75


def test_a_spread_follows_from_the_settings_of_a_run():
    assert spread_of(TrainConfig(max_steps=1), 1) == Spread()
    config = TrainConfig(max_steps=1, engine="fsdp", sharding="grad_optimizer", shard_processes=2)
    found = spread_of(config, 4)
    assert (found.engine, found.sharding, found.group) == ("fsdp", "grad_optimizer", 2)
    with pytest.raises(ConfigError):
        Spread(processes=0)


def settings(name, **changes):
    return TrainConfig(**{**train_preset(name), "max_steps": 2, "device": "cpu", "precision": "fp32", **changes})


def compared(config, *, processes=1):
    """Estimated over measured bytes."""
    model = model_config_for(config)
    measured = measure_steps(config, model, processes=processes, seconds=0.1)
    assert measured.step_seconds > 0 and measured.before_bytes < measured.peak_bytes
    return estimate_run(config, model, None, processes=processes).memory.total / measured.peak_bytes


def test_two_real_steps_of_nano_need_what_was_estimated():
    assert compared(settings("nano", threads=1)) == pytest.approx(1, abs=CLOSE)


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("name", ["tiny", "60M"])
def test_two_real_steps_need_what_was_estimated(name, precision):
    assert compared(settings(name, precision=precision, threads=1)) == pytest.approx(1, abs=CLOSE)


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["ddp", "fsdp"])
def test_two_real_steps_of_two_processes_need_what_was_estimated(engine):
    config = settings("tiny", engine=engine, threads=1, batch_tokens=4096, micro_batch_rows=2)
    assert compared(config, processes=2) == pytest.approx(1, abs=CLOSE)
