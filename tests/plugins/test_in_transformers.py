"""A model with a plugin's sublayer in transformers: the same bits, adapters everywhere, and a cache refused."""

import pytest
import torch

from mamba_slm.core.errors import ConfigError
from mamba_slm.model.conformance import small_config
from mamba_slm.model.init import build_model

pytestmark = pytest.mark.slow


def test_it_gives_the_same_bits_takes_adapters_and_refuses_a_cache(installed, monkeypatch):
    from mamba_slm.finetuning.adapters.attach import attach
    from mamba_slm.finetuning.adapters.coverage import coverage
    from mamba_slm.finetuning.adapters.settings import LoraSettings
    from mamba_slm.model.hf import HybridSlmForCausalLM

    monkeypatch.syspath_prepend(installed)
    model, text = build_model(small_config("R"), seed=1), torch.arange(1, 20)[None]
    theirs = HybridSlmForCausalLM.from_language_model(model).eval()
    with torch.no_grad():
        assert theirs(input_ids=text).logits.equal(model(text))
        made = theirs.generate(text, max_new_tokens=3, do_sample=False, use_cache=False)
        assert made.shape == (1, 22)
        with pytest.raises(ConfigError, match="not R of a plugin") as raised:
            theirs.generate(text, max_new_tokens=3, do_sample=False)
        assert raised.value.hint == "use_cache=False"
    reached = coverage(attach(theirs, LoraSettings(rank=2)))
    assert reached.num_reached == reached.num_sublayers == 5 and reached.by_kind["R"] == (2, 2)
