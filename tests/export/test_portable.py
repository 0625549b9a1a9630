"""Feed-forwards of zeros and padding change no logit; both can be taken away again."""

from dataclasses import replace

import pytest
import torch

from mamba_slm.core.errors import ConfigError
from mamba_slm.export.portable import (
    make_portable,
    require_portable,
    with_feed_forwards,
    with_tensors,
    without_zero_feed_forwards,
    zero_feed_forwards,
)
from mamba_slm.model.count import count_parameters
from mamba_slm.model.init import build_model
from mamba_slm.model.pattern import is_portable_pattern
from model.hf_models import CONFIGS, SIZES, random_tokens, varied

CLASSIC = "classic, untied, nope"
TOKENS = random_tokens(2, 40)


def with_pattern(pattern):
    return build_model(replace(CONFIGS["portable"], pattern=pattern), seed=1).eval()


@pytest.mark.parametrize("pattern", ["MM*-M", "M", "*-MM", "M-M*-M-", "M*M*"])
def test_feed_forwards_of_zeros_change_no_bit(pattern):
    model = with_pattern(pattern)
    portable = make_portable(model)
    assert is_portable_pattern(portable.config.pattern)
    with torch.no_grad():
        assert portable(TOKENS).equal(model(TOKENS))


@pytest.mark.parametrize("pattern", ["MM*-M", "*-MM"])
def test_they_are_found_and_left_out_again(pattern):
    model = with_pattern(pattern)
    portable = make_portable(model)
    config, tensors = without_zero_feed_forwards(portable.state_dict(), portable.config)
    assert config == model.config
    assert tensors.keys() == model.state_dict().keys()
    assert all(tensors[name].equal(tensor) for name, tensor in model.state_dict().items())


def test_a_model_that_is_portable_is_left_alone():
    model = varied("portable")
    assert make_portable(model) is model
    assert zero_feed_forwards(model.config) is None
    config, tensors = without_zero_feed_forwards(model.state_dict(), model.config)
    assert config == model.config
    assert list(tensors) == list(model.state_dict())


def test_their_cost_is_what_the_model_grows_by():
    model = varied(CLASSIC)
    cost, portable = zero_feed_forwards(model.config), make_portable(model)
    total = sum(parameter.numel() for parameter in portable.parameters())
    assert cost.count == 3
    assert cost.parameters == total - sum(parameter.numel() for parameter in model.parameters())
    assert cost.parameter_share == pytest.approx(cost.parameters / total)
    assert count_parameters(portable.config).total == total
    assert 0 < cost.flop_share < 1
    assert "dead parameters" in str(cost)


@pytest.mark.parametrize("tie", [True, False])
def test_a_padded_vocabulary_keeps_the_logits_of_its_tokens(tie):
    config = replace(CONFIGS["portable"], vocab_size=317, tie_embeddings=tie)
    model = build_model(config, seed=1).eval()
    with pytest.raises(ConfigError, match="vocab_size 317 is not a multiple of 8") as caught:
        make_portable(model)
    assert "--pad-vocabulary" in caught.value.hint
    padded = make_portable(model, pad_vocabulary=True)
    assert padded.config.vocab_size == 320
    with torch.no_grad():
        logits = padded(TOKENS % 317)
        assert logits[..., :317].equal(model(TOKENS % 317))
    assert not logits[..., 317:].any()


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"pattern": "M--*-"}, "pattern M--"),
        ({"pattern": "-M-*-"}, "pattern -M-"),
        ({"position": "alibi"}, "position alibi"),
        ({"position": "learned"}, "position learned"),
        ({"attention_window": 16}, "attention_window 16"),
    ],
)
def test_what_no_granite_can_be_is_refused_by_name(settings, named):
    with pytest.raises(ConfigError, match=named):
        require_portable(replace(CONFIGS["portable"], **settings))


def test_a_pattern_gets_one_feed_forward_per_mixer():
    assert with_feed_forwards("MM*-M") == "M-M-*-M-"


def test_tensors_make_a_model_that_shares_them():
    model = varied("portable")
    other = with_tensors(model.config, model.state_dict())
    assert other.embedding.weight.data_ptr() == model.embedding.weight.data_ptr()
    assert not other.training
    assert SIZES["hidden_size"] == other.config.hidden_size
