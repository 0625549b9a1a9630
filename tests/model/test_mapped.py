"""Weights that were copied out of their file do not depend on it."""

import pytest
import torch

from mamba_slm.generation.loading import open_torch
from mamba_slm.generation.runtime import RuntimeSettings
from mamba_slm.model.checkpoint import load_model
from mamba_slm.model.mapped import MAPS, Mapped, copy_mapped
from small_models import save_small_model

TOKENS = torch.tensor([[5, 6, 7, 8]])


def in_files(model):
    mapped = Mapped.now()
    return [name for name, parameter in model.named_parameters() if mapped.holds(parameter)]


@pytest.mark.skipif(not MAPS.is_file(), reason="this system does not tell what is mapped")
def test_weights_are_mapped_until_they_are_copied_and_compute_the_same(tmp_path):
    model = load_model(save_small_model(tmp_path / "small"))
    names, before = in_files(model), model(TOKENS)
    assert "embedding.weight" in names
    assert copy_mapped(model) >= model.embedding.weight.nbytes and not in_files(model)
    assert torch.equal(model(TOKENS), before) and copy_mapped(model) == 0


@pytest.mark.parametrize("weights", [None, "bfloat16", "int8"])
def test_no_opened_model_depends_on_its_file(tmp_path, weights):
    folder = save_small_model(tmp_path / "small")
    model = open_torch(folder, RuntimeSettings(weights=weights)).runtime.model
    assert MAPS.is_file() is False or not in_files(model)
    if MAPS.is_file() and weights == "int8":
        mapped = Mapped.now()
        assert not any(mapped.holds(tensor) for packed in model.packed_weights() for tensor in packed.tensors)


def test_where_the_system_tells_nothing_every_weight_is_copied():
    assert Mapped(None).holds(torch.ones(3)) and not Mapped([]).holds(torch.ones(3))
