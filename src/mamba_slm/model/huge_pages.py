"""Weights in pages of 2 MiB, where the system has them for the asking.

Reading memory that lies in pages of 4 KiB costs a look-up per page, which in a virtual machine halves the speed of
reading (docs/log.md). Most Linux systems give huge pages only to memory that asks for them, and neither malloc nor a
mapped file does.
"""

from __future__ import annotations

import contextlib
import mmap
import sys
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

HUGE_PAGE_BYTES = 2**21
ALIGNMENT_BYTES = 64
MADV_HUGEPAGE = getattr(mmap, "MADV_HUGEPAGE", None)  # Linux


def move_to_huge_pages(model: nn.Module) -> int:
    """Move the parameters of a model on a CPU together into one block of huge pages; names and ties stay.

    For models that are read again and again, and not trained: the block lives as long as any of its parameters.

    Returns:
        Bytes moved; 0 where the system has no huge pages on demand, or the model is smaller than one.
    """
    unique: dict[int, list[nn.Parameter]] = {}
    for parameter in model.parameters():
        if parameter.device.type == "cpu" and parameter.is_contiguous():
            unique.setdefault(parameter.data_ptr(), []).append(parameter)
    if not can_be_huge(group[0] for group in unique.values()):
        return 0
    places = huge_copies([group[0].detach() for group in unique.values()])
    for group, place in zip(unique.values(), places, strict=True):
        for parameter in group:
            parameter.data = place
    return sum(aligned(place.nbytes) for place in places)


def can_be_huge(tensors: Iterable[Tensor]) -> bool:
    """Whether the system has huge pages on demand, and these fill at least one together."""
    return MADV_HUGEPAGE is not None and sum(aligned(tensor.nbytes) for tensor in tensors) >= HUGE_PAGE_BYTES


def huge_copies(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Contiguous tensors one behind the other in one new block, which lives as long as any of them."""
    block = huge_block(sum(aligned(tensor.nbytes) for tensor in tensors))
    places, offset = [], 0
    for tensor in tensors:
        place = block[offset : offset + tensor.nbytes].view(tensor.dtype).view(tensor.shape)
        places.append(place.copy_(tensor))
        offset += aligned(tensor.nbytes)
    return places


def huge_block(num_bytes: int) -> Tensor:
    """[num_bytes] uint8, zeros, in huge pages as far as the system has any to give."""
    size = -(-num_bytes // HUGE_PAGE_BYTES) * HUGE_PAGE_BYTES
    if sys.platform == "win32":
        memory = mmap.mmap(-1, size)
    else:  # the default is shared memory, which has other rules
        memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if MADV_HUGEPAGE is not None:
        with contextlib.suppress(OSError):  # a kernel that was built without them does not know the word
            memory.madvise(MADV_HUGEPAGE)
    return torch.frombuffer(memory, dtype=torch.uint8)[:num_bytes]


def aligned(num_bytes: int) -> int:
    """The next multiple of what vector instructions like."""
    return -(-num_bytes // ALIGNMENT_BYTES) * ALIGNMENT_BYTES
