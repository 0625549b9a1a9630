"""Promises about a model that was really trained: it compresses text it has not seen."""

import pytest

from mamba_slm.model.checkpoint import load_config
from mamba_slm.model.portability import portability_issues

pytestmark = pytest.mark.slow


def test_the_trained_model_beats_xz_on_stories_it_has_not_seen(trained_model):
    assert len(trained_model.held_out) >= 30
    assert trained_model.bits_per_byte < trained_model.xz_bits_per_byte
    assert trained_model.bits_per_byte < 2  # measured 1.27; xz needs 4.71


def test_the_trained_model_can_leave_to_every_runtime(trained_model):
    config = load_config(trained_model.folder)
    assert not [issue for issue in portability_issues(config) if issue.effect == "lost"]
    assert config.vocab_size % 64 == 0
