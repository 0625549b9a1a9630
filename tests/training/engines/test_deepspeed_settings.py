"""DeepSpeed's file says what the run's settings say, and a user's own may add to it and not contradict."""

import dataclasses
import json

import pytest

from mamba_slm.core.errors import ConfigError
from mamba_slm.training.config import TrainConfig
from mamba_slm.training.engines.deepspeed_settings import (
    FLAG_OF,
    NOT_TAKEN,
    decided_by_settings,
    deepspeed_settings,
    fitting_rows,
    leaves,
    write_settings,
    zero_stage,
)
from training.small_run import TINY

CONFIG = TrainConfig(
    engine="deepspeed", context_tokens=32, batch_tokens=32 * 12, micro_batch_rows=4, precision="fp32", clip_norm=0.5
)


def settings_of(processes=2, device_type="cpu", **changes):
    return deepspeed_settings(
        dataclasses.replace(CONFIG, **changes), TINY, processes=processes, device_type=device_type
    )


@pytest.fixture
def file_with(tmp_path):
    def write(content):
        file = tmp_path / "mine.json"
        file.write_text(content if isinstance(content, str) else json.dumps(content))
        return {"deepspeed_config": str(file)}

    return write


def test_rows_of_a_step_are_cut_without_a_rest():
    assert [fitting_rows(12, 5), fitting_rows(6, 4), fitting_rows(7, 4), fitting_rows(3, 8)] == [4, 3, 1, 3]
    settings = settings_of()
    assert settings["train_batch_size"] == 12 == 2 * 3 * 2
    assert settings["train_micro_batch_size_per_gpu"] == 3 and settings["gradient_accumulation_steps"] == 2
    assert settings["gradient_clipping"] == 0.5


def test_bf16_is_autocast_and_never_the_whole_module():
    settings = settings_of(precision="bf16")
    assert settings["torch_autocast"]["enabled"] is True and settings["torch_autocast"]["dtype"] == "bfloat16"
    assert "bf16" not in settings and "fp16" not in settings
    assert settings_of()["torch_autocast"]["enabled"] is False
    with pytest.raises(ConfigError, match="cannot keep float32 weights under fp16"):
        settings_of(precision="fp16")


@pytest.mark.parametrize("stage", [None, 1, 2, 3])
def test_offload_moves_moments_and_under_stage_3_weights(stage):
    zero = settings_of(zero_stage=stage, offload=True)["zero_optimization"]
    assert zero["stage"] == (stage or 2)
    assert zero["offload_optimizer"] == {"device": "cpu"}
    assert ("offload_param" in zero) == (stage == 3)


def test_what_a_file_tunes_counts_and_auto_means_what_the_settings_say(file_with):
    given = file_with(
        {
            "train_batch_size": "auto",
            "gradient_clipping": 0.5,
            "zero_optimization": {"stage": 3, "stage3_max_live_parameters": 7, "stage3_prefetch_bucket_size": "auto"},
            "wall_clock_breakdown": True,
            "bf16": {"enabled": "auto"},
            "fp16": {"enabled": False},
        }
    )
    settings = settings_of(**given)
    assert settings["train_batch_size"] == 12 and settings["wall_clock_breakdown"] is True
    assert settings["zero_optimization"]["stage3_max_live_parameters"] == 7
    assert settings["zero_optimization"]["stage3_prefetch_bucket_size"] > 7
    assert zero_stage(dataclasses.replace(CONFIG, **given)) == 3


@pytest.mark.parametrize(
    ("content", "says", "hint"),
    [
        ({"gradient_clipping": 1.0}, "gradient_clipping is 1.0, and .* it is 0.5", "--clip-norm"),
        ({"train_batch_size": 16}, "train_batch_size is 16, and .* it is 12", "--batch-tokens"),
        ({"zero_optimization": {"stage": 0}}, "stage is 0, not 1, 2 or 3", "--engine ddp"),
        ({"torch_autocast": {"enabled": True}}, "torch_autocast.enabled is True, and .* False", "--precision"),
        ({"optimizer": {"type": "Adam"}}, "optimizer cannot be used here: the optimiser is", "leave optimizer"),
        ({"bf16": {"enabled": True}}, "bf16 cannot be used here: it would round all weights", "leave bf16 out"),
        ({"zero_optimization": {"offload_optimizer": {"device": "nvme"}}}, "device is nvme, which is not built", "cpu"),
        ("{", "is not JSON", None),
        ("[]", "is not a JSON object", "for example"),
    ],
)  # fmt: skip
def test_what_contradicts_is_refused_by_its_name(file_with, content, says, hint):
    with pytest.raises(ConfigError, match=says) as refused:
        settings_of(**file_with(content))
    assert hint is None or hint in refused.value.hint


def test_a_stage_in_the_flags_and_another_in_the_file_contradict(file_with):
    given = file_with({"zero_optimization": {"stage": 3}})
    with pytest.raises(ConfigError, match=r"zero_optimization.stage is 3, and by the settings of the run it is 1"):
        settings_of(zero_stage=1, **given)


def test_a_file_that_is_not_there_is_named():
    with pytest.raises(ConfigError, match=r"--deepspeed-config nowhere.json cannot be read: No such file"):
        settings_of(deepspeed_config="nowhere.json")


def test_every_decided_setting_names_its_flag():
    decided = decided_by_settings(dataclasses.replace(CONFIG, precision="bf16", offload=True), processes=2, stage=3)
    assert {name for name, _ in leaves(decided)} == set(FLAG_OF)
    assert not set(FLAG_OF) & set(NOT_TAKEN)


def test_the_written_file_is_what_deepspeed_gets(tmp_path):
    written = write_settings(tmp_path, CONFIG, TINY, processes=2, device_type="cpu")
    assert json.loads((tmp_path / "ds_config.json").read_text()) == written == settings_of()
