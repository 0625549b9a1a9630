"""Weights in pages of 2 MiB, where the system has them for the asking.

Reading memory that lies in pages of 4 KiB costs a look-up per page, which in a virtual machine halves the speed of
reading (docs/log.md). Most Linux systems give huge pages only to memory that asks for them, and neither malloc nor a
mapped file does.
"""

from __future__ import annotations

import mmap
import sys

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
    total = sum(aligned(group[0].nbytes) for group in unique.values())
    if MADV_HUGEPAGE is None or total < HUGE_PAGE_BYTES:
        return 0
    block = huge_block(total)
    offset = 0
    for group in unique.values():
        source = group[0].detach()
        place = block[offset : offset + source.nbytes].view(source.dtype).view(source.shape)
        place.copy_(source)
        for parameter in group:
            parameter.data = place
        offset += aligned(source.nbytes)
    return total


def huge_block(num_bytes: int) -> Tensor:
    """[num_bytes] uint8, zeros, in huge pages as far as the system has any to give."""
    size = -(-num_bytes // HUGE_PAGE_BYTES) * HUGE_PAGE_BYTES
    if sys.platform == "win32":
        memory = mmap.mmap(-1, size)
    else:  # the default is shared memory, which has other rules
        memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if MADV_HUGEPAGE is not None:
        memory.madvise(MADV_HUGEPAGE)
    return torch.frombuffer(memory, dtype=torch.uint8)[:num_bytes]


def aligned(num_bytes: int) -> int:
    """The next multiple of what vector instructions like."""
    return -(-num_bytes // ALIGNMENT_BYTES) * ALIGNMENT_BYTES
