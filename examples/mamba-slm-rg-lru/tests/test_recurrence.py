"""The sublayer keeps every promise of a sublayer of mamba-slm, and computes the formula of the paper."""

import math

import pytest
import torch
from mamba_slm_rg_lru.mixer import linear_recurrence

from mamba_slm.core.errors import ConfigError
from mamba_slm.model.conformance import require_conforming, small_config
from mamba_slm.model.init import build_model


@pytest.mark.parametrize("settings", [{}, {"expand": 2, "conv_kernel": 3}])
def test_it_keeps_every_promise(settings):
    require_conforming("R", settings)


def test_one_channel_follows_the_formula():
    log_a, driven = torch.tensor([[[-0.5], [-1.0], [-0.1]]]), torch.tensor([[[1.0], [2.0], [3.0]]])
    h = linear_recurrence(log_a, driven, None, None)[0, :, 0]
    second = math.exp(-1.0) * 1.0 + 2.0
    assert h.tolist() == pytest.approx([1.0, second, math.exp(-0.1) * second + 3.0])


def test_decays_begin_between_the_two_ends():
    mixer = build_model(small_config("R"), seed=3).sublayers[0].mixer
    a = torch.exp(-8 * torch.nn.functional.softplus(mixer.A_log))
    assert float(a.min()) >= 0.9 - 1e-4 and float(a.max()) <= 0.999 + 1e-4


def test_settings_that_cannot_work_are_refused_by_name():
    with pytest.raises(ConfigError, match=r"R\.conv_kernel must be at least 2, got 1"):
        small_config("R", {"conv_kernel": 1})
