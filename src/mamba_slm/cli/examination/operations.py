"""The operations that have a fast version: its inputs, its definition, and all the ways to compute it.

Letters: b batch, t time, m tokens, h heads, p head dim, g groups, n state, d width, c channels, k taps, v vocabulary.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """How large the inputs are. Lengths are odd, so that they fit no chunk and no vector register."""

    rows: int
    scan_rows: int
    """Of the scan, whose definition keeps every state."""

    tokens: int
    heads: int
    head_dim: int
    groups: int
    state: int
    chunk: int
    width: int
    vocabulary: int


SMALL = Sizes(
    rows=2, scan_rows=2, tokens=67, heads=4, head_dim=8, groups=2, state=16, chunk=16, width=40, vocabulary=101
)
"""For the self-test: a tenth of a second for everything."""

LIKE_NANO = Sizes(
    rows=8, scan_rows=2, tokens=257, heads=6, head_dim=64, groups=1, state=64, chunk=64, width=192, vocabulary=4096
)
"""For timing: a micro-batch of the smallest preset."""


@dataclass(frozen=True, kw_only=True)
class Operation:
    """One operation on fixed inputs."""

    name: str
    inputs: tuple[Tensor, ...]
    """Leaves that get gradients."""

    definition: Callable[..., tuple[Tensor, ...]]
    ways: dict[str, Callable[..., tuple[Tensor, ...]]]
    """Name -> the same results as the definition's."""

    automatic: str
    """The way that models take on this device."""


def operations(sizes: Sizes, device: str = "cpu") -> list[Operation]:
    """Every operation with its inputs, the same in every run."""
    import torch

    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator).to(device).requires_grad_()

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return torch.empty(shape).uniform_(low, high, generator=generator).to(device).requires_grad_()

    documents = torch.zeros(sizes.rows, sizes.tokens, dtype=torch.int64, device=device)
    documents[:, sizes.tokens * 2 // 5 :] = 1
    targets = torch.randint(sizes.vocabulary, (sizes.rows * sizes.tokens,), generator=generator).to(device)
    return [
        scan(sizes, device, documents, normal, uniform),
        convolution(sizes, documents, normal),
        *norms(sizes, normal),
        loss(sizes, targets, normal),
        attention(sizes, device, documents, normal),
    ]


def scan(sizes: Sizes, device: str, documents: Tensor, normal: Callable, uniform: Callable) -> Operation:
    """The state-space scan over packed documents: every backend of the registry."""
    from mamba_slm.ops.ssd import GPU_SSD_BACKENDS, SSD_BACKENDS, automatic_ssd_backend, ssd_scan
    from mamba_slm.ops.ssd_reference import ssd_reference

    b, t, h, p, g, n = sizes.scan_rows, sizes.tokens, sizes.heads, sizes.head_dim, sizes.groups, sizes.state
    inputs = (
        *(normal(b, t, h, p), uniform(0.001, 0.2, b, t, h), uniform(-16, -0.5, h)),
        *(normal(b, t, g, n), normal(b, t, g, n), normal(b, h, p, n)),
    )

    def scanned(function: Callable[..., tuple[Tensor, ...]], *tensors: Tensor) -> tuple[Tensor, ...]:
        *rest, state = tensors
        return function(*rest, state=state, document_ids=documents[:b], chunk_size=sizes.chunk)

    return Operation(
        name="scan",
        inputs=inputs,
        definition=functools.partial(scanned, ssd_reference),
        ways={
            name: functools.partial(scanned, functools.partial(ssd_scan, backend=name))
            for name in (*SSD_BACKENDS, *(GPU_SSD_BACKENDS if device.startswith("cuda") else ()))
            if name != "reference"
        },
        automatic=automatic_ssd_backend(device)[0],
    )


def single(name: str, inputs: tuple[Tensor, ...], definition: Callable, fast: Callable) -> Operation:
    """An operation with one fast version and one result."""
    return Operation(
        name=name,
        inputs=inputs,
        definition=lambda *tensors: (definition(*tensors),),
        ways={"": lambda *tensors: (fast(*tensors),)},
        automatic="",
    )


def convolution(sizes: Sizes, documents: Tensor, normal: Callable) -> Operation:
    """The causal convolution over packed documents."""
    from mamba_slm.ops.conv import causal_conv, causal_conv_reference

    channels = sizes.heads * sizes.head_dim
    inputs = (normal(sizes.rows, sizes.tokens, channels), normal(channels, 4), normal(channels))
    return single(
        "convolution",
        inputs,
        functools.partial(causal_conv_reference, document_ids=documents),
        functools.partial(causal_conv, document_ids=documents),
    )


def norms(sizes: Sizes, normal: Callable) -> Iterator[Operation]:
    """RMSNorm, and the gated one behind the scan."""
    from mamba_slm.ops.norm import gated_rms_norm, gated_rms_norm_reference, rms_norm, rms_norm_reference

    shape = sizes.rows, sizes.tokens, sizes.width
    for name, inputs, definition, fast in (
        ("norm", (normal(*shape), normal(sizes.width)), rms_norm_reference, rms_norm),
        (
            "gated norm",
            (normal(*shape), normal(*shape), normal(sizes.width)),
            gated_rms_norm_reference,
            gated_rms_norm,
        ),
    ):
        yield single(name, inputs, functools.partial(definition, eps=1e-5), functools.partial(fast, eps=1e-5))


def loss(sizes: Sizes, targets: Tensor, normal: Callable) -> Operation:
    """The head's cross-entropy."""
    from mamba_slm.ops.loss import cross_entropy, cross_entropy_reference

    hidden, weight = normal(len(targets), sizes.width), normal(sizes.vocabulary, sizes.width)
    return single(
        "loss",
        (hidden, weight),
        functools.partial(cross_entropy_reference, targets=targets),
        functools.partial(cross_entropy, targets=targets),
    )


def attention(sizes: Sizes, device: str, documents: Tensor, normal: Callable) -> Operation:
    """Attention over packed documents, with fewer key-value heads than query heads."""

    from mamba_slm.ops import attention as ops

    first_key = ops.document_starts(documents)
    inputs = tuple(normal(sizes.rows, sizes.tokens, heads, sizes.head_dim) for heads in (sizes.heads, 2, 2))
    return single(
        "attention",
        inputs,
        functools.partial(ops.attention_reference, first_key=first_key),
        functools.partial(ops.attention, first_key=first_key),
    )
