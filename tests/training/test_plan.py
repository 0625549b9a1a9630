import pytest

from mamba_slm.core.errors import ConfigError, UnknownNameError
from mamba_slm.model.presets import preset
from mamba_slm.training.config import TrainConfig
from mamba_slm.training.plan import model_config_for, model_settings, with_run_length


def test_the_model_is_the_preset_with_what_the_settings_change():
    assert model_config_for(TrainConfig(model="nano")) == preset("nano")
    changed = model_config_for(
        TrainConfig(model="nano", layout="classic", attention_share=0.5, placement="top", model_settings=("expand=1",)),
        vocab_size=1000,
    )
    assert changed == preset("nano", layout="classic", attention_share=0.5, placement="top", expand=1, vocab_size=1000)
    assert model_config_for(TrainConfig(model="nano", pattern="M-*-")).pattern == "M-*-"
    assert model_config_for(TrainConfig(model="nano", vocab_size=512)).vocab_size == 512
    assert model_config_for(TrainConfig(model="60M", placement="0,1,5,10")) == preset("60M")


def test_model_settings_are_read_in_the_type_of_their_field():
    assert model_settings(("position=nope", "max-context-tokens=4Ki", "rope_theta=1e4", "tie_embeddings=no")) == {
        "position": "nope",
        "max_context_tokens": 4096,
        "rope_theta": 10_000.0,
        "tie_embeddings": False,
    }


@pytest.mark.parametrize(
    ("assignment", "error", "words"),
    [
        ("positoin=nope", UnknownNameError, "did you mean 'position'"),
        ("position=nowhere", ConfigError, "nowhere"),
        ("expand", ConfigError, "FIELD=VALUE"),
        ("expand=two", ConfigError, "two"),
    ],
)
def test_a_wrong_model_setting_is_refused(assignment, error, words):
    with pytest.raises(error, match=words):
        model_settings((assignment,))


def test_rows_longer_than_the_models_context_are_refused_with_a_length_that_fits():
    with pytest.raises(ConfigError) as refused:
        model_config_for(TrainConfig(model="nano", context_tokens=4096, batch_tokens=4096))
    assert "4096" in refused.value.message and "2048" in refused.value.message
    assert "--context-tokens 2048" in refused.value.hint


def test_a_run_without_a_limit_is_one_pass_over_the_data_and_says_so():
    config, reason = with_run_length(TrainConfig(batch_tokens=8192), corpus_tokens=100_000)
    assert config.max_tokens == 12 * 8192
    assert "one pass" in reason
    assert with_run_length(TrainConfig(), corpus_tokens=10)[0].max_tokens == 8192
    limited = TrainConfig(max_minutes=5)
    assert with_run_length(limited, corpus_tokens=100_000) == (limited, None)
