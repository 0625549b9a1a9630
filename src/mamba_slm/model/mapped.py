"""Weights that lie in a mapped file: whoever cuts the file short ends the process that reads them, with SIGBUS.

Whole files of weights are mapped when they are opened (`model/stored.py`), so what nobody copies changes with the file.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from pathlib import Path

from torch import Tensor, nn

from mamba_slm.model.packed import PackedEmbedding, PackedModel, PackedProjection

MAPS = Path("/proc/self/maps")
SUFFIX = ".safetensors"


def copy_mapped(model: nn.Module) -> int:
    """Give every weight of a CPU that lies in a mapped file memory of its own; names and ties stay. Bytes copied.

    Where the system does not tell what is mapped (anything but Linux), all weights are copied. Whoever holds pointers
    to weights must take them afterwards.
    """
    mapped = Mapped.now()
    copies: dict[tuple[int, int], Tensor] = {}

    def copied(tensor: Tensor) -> Tensor:
        if not mapped.holds(tensor):
            return tensor
        return copies.setdefault((tensor.data_ptr(), tensor.nbytes), tensor.detach().clone())

    for parameter in model.parameters():
        parameter.data = copied(parameter.data)
    if isinstance(model, PackedModel):
        packed = {id(weight): weight.with_tensors(map(copied, weight.tensors)) for weight in model.packed_weights()}
        for part in model.modules():
            if isinstance(part, PackedProjection | PackedEmbedding):
                part.packed = packed[id(part.packed)]
    return sum(copy.nbytes for copy in copies.values())


class Mapped:
    """Which addresses belong to files of weights."""

    def __init__(self, ranges: list[tuple[int, int]] | None):
        """`ranges`: first address and the one behind the last, ascending; None: not known, so all of them might."""
        self._ranges = ranges

    @classmethod
    def now(cls) -> Mapped:
        """As of this moment."""
        return cls(sorted(ranges_in(MAPS.read_text(encoding="utf-8"))) if MAPS.is_file() else None)

    def holds(self, tensor: Tensor) -> bool:
        """Whether a tensor lies in a file."""
        if tensor.device.type != "cpu" or not tensor.numel():
            return False
        if self._ranges is None:
            return True
        at = bisect_right(self._ranges, (tensor.data_ptr(), 2**64)) - 1
        return at >= 0 and tensor.data_ptr() < self._ranges[at][1]


def ranges_in(maps: str) -> Iterator[tuple[int, int]]:
    """
    >>> list(ranges_in("7f00-7f10 r--s 00000000 08:01 131 /a b/model.safetensors\\n8000-8001 rw-p 0 0:0 0\\n"))
    [(32512, 32528)]
    """
    for line in maps.splitlines():
        place, _, rest = line.partition(" ")
        if rest.removesuffix(" (deleted)").endswith(SUFFIX):
            first, _, last = place.partition("-")
            yield int(first, 16), int(last, 16)
