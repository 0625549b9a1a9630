"""Between whole tensors in one process and their shards in all of them, one tensor at a time."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor, distribute_tensor

from mamba_slm.core.errors import ConfigError


def whole_on_first(tensor: Tensor, *, is_first: bool) -> Tensor | None:
    """The whole of a distributed tensor, on the CPU of the first process; all processes call this together."""
    if isinstance(tensor, DTensor):
        mesh_device = tensor.device_mesh.device_type
        if tensor.device.type != mesh_device:  # offloaded, and shards travel between devices
            tensor = tensor.detach().to(mesh_device)
        assert isinstance(tensor, DTensor)
        tensor = tensor.full_tensor()
    return tensor.detach().cpu().contiguous().clone() if is_first else None


def gathered(tensors: Mapping[str, Tensor], *, is_first: bool) -> dict[str, Tensor]:
    """`whole_on_first` of many; empty in the other processes."""
    whole = {name: whole_on_first(tensor, is_first=is_first) for name, tensor in tensors.items()}
    return {name: tensor for name, tensor in whole.items() if tensor is not None}


@torch.no_grad()
def scatter_into(targets: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> None:
    """Give each target its part of the whole tensor of the same name, which the first process has.

    In other processes only the shapes of `tensors` count, so they may be on "meta".

    Raises:
        ConfigError: names or shapes differ; in every process alike.
    """
    expected = {name: tuple(target.shape) for name, target in targets.items()}
    found = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    if expected != found:
        names = sorted(name for name in expected | found if expected.get(name) != found.get(name))
        name = names[0]
        raise ConfigError(f"{name} is {found.get(name, 'missing')}, expected {expected.get(name, 'absent')}")
    for name, target in targets.items():
        target_local = target.to_local() if isinstance(target, DTensor) else target
        part = part_of(tensors[name], target)
        target_local.copy_(part)


def part_of(whole: Tensor, like: Tensor) -> Tensor:
    """The part of a whole tensor that belongs to this process's shard of `like`; all processes call this together."""
    if not isinstance(like, DTensor):
        return whole
    mesh_device = like.device_mesh.device_type
    here = torch.empty(whole.shape, device=mesh_device) if whole.is_meta else whole.to(mesh_device)
    return distribute_tensor(here, like.device_mesh, like.placements).to_local()
