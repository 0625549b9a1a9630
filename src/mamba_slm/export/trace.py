"""One way to run a model in any format: tokens in; logits and, on request, the residual stream after each sublayer out.

Letters: t time, d width, v vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from mamba_slm.core.errors import DataError
from mamba_slm.core.registry import load
from mamba_slm.export.formats import RUNNERS, format_of, resolve
from mamba_slm.export.source import Source, open_source
from mamba_slm.model.pattern import ATTENTION, FEED_FORWARD, MAMBA

KINDS = {MAMBA: "Mamba-2", ATTENTION: "attention", FEED_FORWARD: "feed-forward"}
FIRST, LAST = "embedding", "final norm"


@dataclass(frozen=True)
class Trace:
    """What a model computed for one sequence."""

    logits: Tensor
    """[t v] float32."""
    residuals: tuple[tuple[str, Tensor], ...] = field(default=())
    """Name, from `residual_names`, and [t d] of each point of the residual stream that the format lets one see."""


class Runner(Protocol):
    """A model in some format, ready to run."""

    @property
    def description(self) -> str:
        """What runs it, with version and precision, such as `llama.cpp 0.3.36, F32`."""
        ...

    @property
    def vocab_size(self) -> int:
        """Width of the logits."""
        ...

    @property
    def max_tokens(self) -> int:
        """Longest sequence that `trace` takes."""
        ...

    def trace(self, tokens: Sequence[int], *, residuals: bool = False) -> Trace:
        """Run one sequence from an empty state; with `residuals`, also the residual stream where it can be seen."""
        ...

    def encode(self, text: str) -> list[int] | None:
        """Token ids of a text, without begin or end tokens, by the tokenizer in this format; None where it has none."""
        ...


def residual_names(pattern: str) -> list[str]:
    """The points of the residual stream: `embedding`, one after each sublayer, `final norm`.

    A sublayer is named by its layer, counted by mixers from 0, so that a model keeps its names where a format adds
    feed-forwards of zeros. `layer 2 attention` is the residual stream after the attention of layer 2.

    >>> residual_names("M*-")
    ['embedding', 'layer 0 Mamba-2', 'layer 1 attention', 'layer 1 feed-forward', 'final norm']
    """
    names, layer = [FIRST], -1
    for kind in pattern:
        layer += kind != FEED_FORWARD
        name = f"layer {max(layer, 0)} {KINDS.get(kind, kind)}"
        taken = sum(each.startswith(name) for each in names) if kind == FEED_FORWARD else 0
        names.append(f"{name} {taken + 1}" if taken else name)
    return [*names, LAST]


class OurRunner:
    """A model of ours on PyTorch."""

    def __init__(self, source: Source):
        self.source = source
        dtype = str(source.model.embedding.weight.dtype).removeprefix("torch.")
        self.description = f"mamba-slm, {dtype}{' with the values of quantized weights' * bool(source.quantized)}"
        self.vocab_size = source.config.vocab_size
        self.max_tokens = source.config.max_context_tokens

    def trace(self, tokens: Sequence[int], *, residuals: bool = False) -> Trace:
        """See `Runner.trace`."""
        model, stream = self.source.model, []
        with torch.no_grad():
            hidden = model.hidden_states(torch.tensor([list(tokens)]), residuals=stream if residuals else None)
            logits = model.logits(hidden)[0]
        if not residuals:
            return Trace(logits)
        points = [*(each[0] for each in stream), hidden[0]]
        return Trace(logits, tuple(zip(residual_names(self.source.config.pattern), points, strict=True)))

    def encode(self, text: str) -> list[int] | None:
        """See `Runner.encode`."""
        return None if self.source.tokenizer is None else self.source.tokenizer.encode(text)


def open_ours(path: Path) -> OurRunner:
    """Open a run directory, a checkpoint or a model folder of ours, with or without a tokenizer.

    Raises:
        DataError, CheckpointError: as `open_source`.
    """
    return OurRunner(open_source(path, needs_tokenizer=False))


def open_runner(path: str | Path) -> Runner:
    """Open a model in any format that `format_of` knows, or by the hub id of one that is in the local cache.

    Raises:
        DataError: no such path, or nothing there is a model that can be run.
        MissingDependencyError: the package that runs this format is absent.
    """
    found = resolve(path)
    kind = format_of(found)
    if kind is None:
        raise DataError(
            f"{found} is not a model in a format that is known here",
            hint="give a model folder or run of ours, a GraniteMoeHybrid folder of Hugging Face, a .gguf file, or a "
            "folder with an ONNX model",
        )
    return load("model format", kind, RUNNERS)(found)
