"""Attention alone, with as many parameters."""

import pytest

from mamba_slm.evaluation.bench.sizes import llama_of_equal_size
from mamba_slm.model.count import count_parameters
from mamba_slm.model.presets import SIZES, preset


@pytest.mark.parametrize("name", SIZES)
def test_the_llama_has_equal_parameters_and_layers_and_a_width_that_hardware_likes(name):
    config = preset(name)
    llama = llama_of_equal_size(config)
    assert abs(count_parameters(llama).total / count_parameters(config).total - 1) <= 0.01
    assert llama.num_layers == config.num_layers
    assert llama.feed_forward_size % 16 == 0
    assert set(llama.pattern) == {"*", "-"}
