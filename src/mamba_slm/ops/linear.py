"""Matrix products of a layer, and the one product that decoding repeats: one row by a matrix.

For one row the time is that of reading the matrix from memory, and on a CPU the libraries under PyTorch leave most of
the bandwidth unused: MKL's float32 product of one row runs on one thread, and oneDNN's bfloat16 product reorders the
matrix first. For more rows in float32 PyTorch takes MKL, and oneDNN is faster (docs/log.md). The ways here change
neither the matrix nor how it lies in memory.

Letters: i inputs, o outputs.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

HAS_ONEDNN = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")
"""Whether this PyTorch has the operator of `rows_by_onednn`."""


def linear(x: Tensor, weight: Tensor) -> Tensor:
    """x [... i] times weight [o i] transposed: [... o], as `torch.nn.functional.linear`, whatever way is fastest."""
    if x.device.type != "cpu" or not x.numel() or not is_plain(x, weight):
        return F.linear(x, weight)
    if x.numel() == weight.shape[1]:
        threads = torch.get_num_threads()
        if weight.dtype == torch.bfloat16:
            return one_row_bf16(x, weight)
        if weight.dtype == torch.float32 and threads > 1 and weight.shape[0] % threads == 0:
            return one_row_in_parts(x, weight, threads)
    elif weight.dtype == torch.float32 and HAS_ONEDNN:
        return rows_by_onednn(x, weight)
    elif weight.dtype == torch.bfloat16:
        return of_few_sizes(x, lambda rows: F.linear(rows, weight))
    return F.linear(x, weight)


def is_plain(x: Tensor, weight: Tensor) -> bool:
    """Whether nothing but the product is wanted: no gradients, no autocast, nothing being traced, one dtype."""
    return (
        not (torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad))
        and x.dtype == weight.dtype
        and weight.is_contiguous()
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()
    )


def one_row_in_parts(x: Tensor, weight: Tensor, parts: int) -> Tensor:
    """x [... i] with one row, weight [o i], o a multiple of `parts`: one product per thread, to [... o]."""
    o, i = weight.shape
    rows = x.reshape(1, 1, i).expand(parts, 1, i)
    return torch.bmm(rows, weight.view(parts, o // parts, i).transpose(1, 2)).view(*x.shape[:-1], o)


def rows_by_onednn(x: Tensor, weight: Tensor) -> Tensor:
    """x [... i], weight [o i], both float32, to [... o]: the operator by which torch.compile replaces a product."""
    return of_few_sizes(x, lambda rows: torch.ops.mkldnn._linear_pointwise(rows, weight, None, "none", [], ""))


def of_few_sizes(x: Tensor, product: Callable[[Tensor], Tensor]) -> Tensor:
    """What `product` makes of the rows of x [... i]: [... o], where it is one of oneDNN, row by row.

    oneDNN compiles a kernel for every number of rows, which takes as long as a product of some hundred of them and
    keeps a tenth of a megabyte and more, twice; so a number is rounded up to one of few, and the rows that were added
    are left out.
    """
    rows = x.numel() // x.shape[-1]
    added = rounded_rows(rows) - rows
    if not added:
        return product(x)
    made = product(F.pad(x.reshape(rows, x.shape[-1]), (0, 0, 0, added)))
    return made[:rows].view(*x.shape[:-1], -1)


def rounded_rows(rows: int) -> int:
    """The next one of 8 numbers between one power of two and the next: at most an eighth more, and the same up to 16.

    >>> [rounded_rows(rows) for rows in (1, 16, 17, 65, 129, 500, 2001)]
    [1, 16, 18, 72, 144, 512, 2048]
    """
    step = 1 << max(0, (rows - 1).bit_length() - 4)
    return -(-rows // step) * step


def one_row_bf16(x: Tensor, weight: Tensor) -> Tensor:
    """x [... i] with one row, weight [o i], both bfloat16, without oneDNN: PyTorch's own product, on all threads.

    It accumulates in float32. The switch is one of the process: a product that another thread begins in between takes
    PyTorch's own way too, which is slower for many rows and as exact.
    """
    enabled = torch._C._get_mkldnn_enabled()
    torch._C._set_mkldnn_enabled(False)
    try:
        return torch.mv(weight, x.reshape(-1)).view(*x.shape[:-1], -1)
    finally:
        torch._C._set_mkldnn_enabled(enabled)
