"""A model with more tokens says of the old ones what it said before."""

import pytest
import torch

from mamba_slm.core.errors import ConfigError
from mamba_slm.model.init import build_model
from mamba_slm.model.vocabulary import grown_vocabulary
from model.hf_models import CONFIGS, random_tokens, varied
from tolerances import assert_close, tolerance_of

TOLERANCE = tolerance_of("model")


@pytest.mark.parametrize("kind", ["portable", "classic, untied, nope"])
@torch.no_grad()
def test_old_tokens_keep_their_logits_and_new_ones_are_no_likelier_than_their_share(kind):
    model, tokens = varied(kind), random_tokens(2, 17)
    grown = grown_vocabulary(model, model.config.vocab_size + 3)
    old = model.config.vocab_size
    assert grown.config.vocab_size == old + 8, "rounded up"
    assert grown.training == model.training
    logits = grown(tokens)
    assert_close(logits[..., :old], model(tokens), TOLERANCE.values)
    shares = logits.softmax(dim=-1)[..., old:]
    assert float(shares.mean()) < 1.2 / old
    new = grown.embedding.weight[old:]
    assert len(new.unique(dim=0)) == 8, "each another"
    assert grown.state_dict().keys() == model.state_dict().keys()


def test_a_model_that_has_room_stays_itself():
    model = build_model(CONFIGS["portable"], seed=0)
    assert grown_vocabulary(model, model.config.vocab_size) is model
    assert grown_vocabulary(model, 5) is model
    with pytest.raises(ConfigError, match="at least 1"):
        grown_vocabulary(model, 0)
