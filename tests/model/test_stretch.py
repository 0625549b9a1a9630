"""Promises of stretching: the trained length is remembered, short sequences are untouched."""

from dataclasses import replace

import pytest
import torch

from mamba_slm.core.errors import ConfigError
from mamba_slm.model.init import build_model
from mamba_slm.model.stack import LanguageModel
from mamba_slm.model.stretch import METHODS, stretched, trained_context_tokens
from small_models import varied_model

CONFIG = varied_model(max_context_tokens=48).config


@pytest.mark.parametrize("method", METHODS)
def test_a_model_is_made_for_longer_sequences_and_its_trained_length_is_remembered(method):
    longer = stretched(CONFIG, 192, method)
    assert longer.max_context_tokens == 192
    assert longer.rope_scaling == method
    assert trained_context_tokens(longer) == (192 if method == "none" else 48)
    if method != "none":
        again = stretched(longer, 384, method)
        assert (again.rope_scaling_factor, trained_context_tokens(again)) == (8.0, 48)


def test_what_fits_is_untouched():
    assert stretched(CONFIG, 48, "yarn") is CONFIG


def test_positions_that_do_not_rotate_need_no_stretching_and_learned_ones_end():
    for position in ("nope", "alibi"):
        longer = stretched(replace(CONFIG, position=position), 100)
        assert (longer.max_context_tokens, longer.rope_scaling) == (100, "none")
    with pytest.raises(ConfigError, match="learned positions end at 48 tokens"):
        stretched(replace(CONFIG, position="learned"), 100)


@pytest.mark.parametrize("method", METHODS)
def test_a_stretched_model_decodes_as_it_reads(method):
    weights = varied_model(max_context_tokens=48).state_dict()
    model = LanguageModel(stretched(CONFIG, 192, method)).eval()
    model.load_state_dict(weights)
    tokens = torch.randint(0, CONFIG.vocab_size, (1, 150), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        whole = model(tokens)
        state = model.new_state(1)
        pieces = torch.cat([model(piece, state=state) for piece in tokens.split([70, 1, 1, 78], dim=1)], dim=1)
    assert torch.allclose(whole, pieces, atol=1e-4)


def test_the_weights_are_those_of_the_short_model():
    assert build_model(stretched(CONFIG, 192)).state_dict().keys() == build_model(CONFIG).state_dict().keys()
