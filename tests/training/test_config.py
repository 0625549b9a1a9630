import pytest

from mamba_slm.core.config import from_dict, to_dict
from mamba_slm.core.errors import ConfigError, UnknownNameError
from mamba_slm.model.presets import SIZES, preset
from mamba_slm.training.config import TrainConfig
from mamba_slm.training.presets import TRAIN_PRESETS, train_preset


def test_settings_survive_the_way_through_a_file():
    config = TrainConfig(model="tiny", data=("a", "b=c:2"), max_tokens=10_000, log=("jsonl", "tensorboard"))
    assert from_dict(TrainConfig, to_dict(config)) == config


def test_the_batch_is_counted_in_tokens_and_cut_into_rows():
    config = TrainConfig(context_tokens=512, batch_tokens=8192)
    assert config.rows_per_step == 16
    assert config.rows_at_once == 16
    assert TrainConfig(context_tokens=512, batch_tokens=8192, micro_batch_rows=3).rows_at_once == 3
    assert TrainConfig(context_tokens=512, batch_tokens=512, micro_batch_rows=3).rows_at_once == 1
    assert TrainConfig(context_tokens=512, batch_tokens=8192, device="cpu").rows_at_once == 4
    assert TrainConfig(context_tokens=16384, batch_tokens=32768).rows_at_once == 1


def test_a_batch_that_is_no_whole_number_of_rows_is_refused_with_one_that_is():
    with pytest.raises(ConfigError) as refused:
        TrainConfig(context_tokens=512, batch_tokens=1000)
    assert refused.value.hint == "use --batch-tokens 1024"


@pytest.mark.parametrize(
    "change",
    [
        {"beta1": 1.0},
        {"beta2": -0.1},
        {"epsilon": 0.0},
        {"spike_sigmas": 0.0},
        {"clip_norm": -1.0},
        {"weight_decay": -1.0},
        {"keep_last": 0},
        {"save_every_minutes": 0.0},
        {"validation_share": 0.9},
        {"micro_batch_rows": 0},
        {"early_stop_patience": 0},
        {"max_steps": 0},
        {"max_steps": 5, "learning_rate": -1.0},
        {"max_minutes": 5.0, "warmup_tokens": 100},
    ],
)
def test_a_value_out_of_range_is_refused(change):
    with pytest.raises(ConfigError):
        TrainConfig(**change)


def test_warm_up_in_tokens_is_a_share_of_the_shortest_limit():
    config = TrainConfig(max_tokens=1_000_000, warmup_tokens=100_000)
    assert config.run_schedule().warmup_share == pytest.approx(0.1)
    config = TrainConfig(max_tokens=10**9, max_steps=100, batch_tokens=8192, warmup_tokens=81_920)
    assert config.run_schedule().warmup_share == pytest.approx(0.1)
    assert TrainConfig(max_steps=1, warmup_tokens=10**9).run_schedule().warmup_share == 1.0


def test_a_time_limit_is_given_in_minutes():
    assert TrainConfig(max_minutes=1.5).limits().seconds == 90
    assert not TrainConfig().has_limit
    with pytest.raises(ConfigError):
        TrainConfig().limits()


def test_every_model_preset_has_training_settings_that_fit_it():
    assert set(TRAIN_PRESETS) == set(SIZES)
    for name in SIZES:
        config = from_dict(TrainConfig, train_preset(name))
        assert config.model == name
        assert config.context_tokens <= preset(name).max_context_tokens


def test_an_unknown_preset_gets_the_nearest_name():
    with pytest.raises(UnknownNameError, match="did you mean 'nano'"):
        train_preset("nanp")
