"""A model with other values in some of its matrices, for as long as one looks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from torch import Tensor, nn

from mamba_slm.model.stack import LanguageModel


def parameter_of(model: LanguageModel, name: str) -> nn.Parameter:
    """The weight of the module of this name."""
    weight = model.get_submodule(name).weight
    assert isinstance(weight, nn.Parameter), f"{name} is no matrix of floating-point numbers"
    return weight


def matrix_of(model: LanguageModel, name: str) -> Tensor:
    """The matrix [o i] of this name, see `model.matrices`."""
    return parameter_of(model, name).detach()


@contextmanager
def replaced(model: LanguageModel, values: Mapping[str, Tensor]) -> Iterator[None]:
    """Inside, matrices have other values, in their own dtype; afterwards their own again. Their own are not copied."""
    parameters = {name: parameter_of(model, name) for name in values}
    own = {name: parameter.data for name, parameter in parameters.items()}
    try:
        for name, parameter in parameters.items():
            parameter.data = values[name].to(own[name].device, own[name].dtype)
        yield
    finally:
        for name, parameter in parameters.items():
            parameter.data = own[name]
