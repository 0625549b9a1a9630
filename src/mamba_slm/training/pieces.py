"""What each process writes into a checkpoint of many files: its own pieces of the tensors, and none twice."""

from __future__ import annotations

import heapq
from collections.abc import Mapping

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor

from mamba_slm.core.errors import ConfigError
from mamba_slm.model.stored import Extent, Piece, StoredTensors


def own_pieces(tensors: Mapping[str, Tensor], *, rank: int, size: int) -> dict[str, Piece]:
    """The pieces that this process writes; those of all processes together are the whole.

    A distributed tensor is written by those who hold it, each copy of it once. A tensor that every process has whole
    is written by one of them, chosen so that all write about as many bytes.

    Args:
        tensors: by name, the same names in every process.
        rank, size: which of how many processes this is.
    """
    shared = {name: tensor for name, tensor in tensors.items() if isinstance(tensor, DTensor)}
    whole = {name: tensor for name, tensor in tensors.items() if name not in shared}
    writers = dealt({name: tensor.numel() * tensor.element_size() for name, tensor in whole.items()}, size)
    pieces = {
        name: Piece(tensor.detach(), (0,) * tensor.ndim, tuple(tensor.shape))
        for name, tensor in whole.items()
        if writers[name] == rank
    }
    for name, tensor in shared.items():
        assert isinstance(tensor, DTensor)
        local = tensor.to_local().detach()
        if local.numel() and is_first_copy(tensor):
            pieces[name] = Piece(local, box_of(tensor)[0], tuple(tensor.shape))
    return pieces


def dealt(sizes: Mapping[str, int], processes: int) -> dict[str, int]:
    """For each name the process that gets it: the largest first, each to the one with the least so far."""
    loads = [(0, rank) for rank in range(processes)]
    chosen = {}
    for name in sorted(sizes, key=lambda name: (-sizes[name], name)):
        load, rank = heapq.heappop(loads)
        chosen[name] = rank
        heapq.heappush(loads, (load + sizes[name], rank))
    return chosen


def box_of(tensor: DTensor) -> tuple[Extent, Extent]:
    """Offset and shape of this process's part of a distributed tensor; a process without a part has no numbers."""
    chunks = tensor.__create_chunk_list__()  # what torch.distributed.checkpoint asks, too
    if not chunks:
        return (0,) * tensor.ndim, (0,) * tensor.ndim
    return tuple(chunks[0].offsets), tuple(chunks[0].sizes)


def is_first_copy(tensor: DTensor) -> bool:
    """Whether this process is the first of those that hold the same part."""
    coordinate = tensor.device_mesh.get_coordinate()
    assert coordinate is not None
    return all(
        place == 0 for place, placement in zip(coordinate, tensor.placements, strict=True) if placement.is_replicate()
    )


@torch.no_grad()
def fill(targets: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> None:
    """Give each target its part of the tensor of the same name; every process reads its own, and none is sent.

    Raises:
        ConfigError: names or shapes differ; in every process alike.
    """
    expected = {name: tuple(target.shape) for name, target in targets.items()}
    found = shapes_of(tensors)
    if expected != found:
        name = sorted(name for name in expected | found if expected.get(name) != found.get(name))[0]
        raise ConfigError(f"{name} is {found.get(name, 'missing')}, expected {expected.get(name, 'absent')}")
    for name, target in targets.items():
        local = target.to_local() if isinstance(target, DTensor) else target
        local.copy_(own_part(tensors, name, target))


def own_part(tensors: Mapping[str, Tensor], name: str, like: Tensor) -> Tensor:
    """The part of a tensor that this process holds of `like`, which has the same shape."""
    if not isinstance(like, DTensor):
        return tensors[name]
    offset, shape = box_of(like)
    if isinstance(tensors, StoredTensors):
        return tensors.part(name, offset, shape)
    return tensors[name][tuple(slice(begin, begin + length) for begin, length in zip(offset, shape, strict=True))]


def shapes_of(tensors: Mapping[str, Tensor]) -> dict[str, Extent]:
    """Shape by name; of stored tensors without reading them."""
    if isinstance(tensors, StoredTensors):
        return tensors.shapes
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}
