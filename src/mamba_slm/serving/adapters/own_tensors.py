"""A model with a few small tensors of its own that shares all the others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from torch import Tensor, nn

Module = TypeVar("Module", bound=nn.Module)


def with_own(model: Module, tensors: Mapping[str, Tensor]) -> Module:
    """The modules copied, the tensors not, except those that are given by name; hooks are those of `model`."""
    copied = shallow(model)
    for name, tensor in tensors.items():
        owner, _, attribute = name.rpartition(".")
        copied.get_submodule(owner)._parameters[attribute] = nn.Parameter(tensor, requires_grad=False)
    return copied


def shallow(module: Module) -> Module:
    """The same module with tables of its own."""
    copied = module.__class__.__new__(module.__class__)
    copied.__dict__ = dict(module.__dict__)
    copied._parameters = dict(module._parameters)
    copied._buffers = dict(module._buffers)
    copied._modules = {name: None if part is None else shallow(part) for name, part in module._modules.items()}
    return copied
