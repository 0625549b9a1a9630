"""Rows of tokens on their way through a model, one sublayer after the other, so that memory holds one sublayer's work.

What a method needs of a matrix [o i] is how its inputs vary: the sum of x x^T over all tokens, [i i], which is the
Hessian (but for a factor) of the squared error of the outputs.

Letters: b batch, t time, d width, n real tokens, i inputs of a matrix.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from mamba_slm.core.errors import DataError
from mamba_slm.model.attention import rotary_tables
from mamba_slm.model.context import CallContext, prepare
from mamba_slm.model.projection import product_dtype
from mamba_slm.model.stack import LanguageModel, Sublayer

BATCH_TOKENS = 4096
"""Tokens, padding included, that go through a sublayer at once."""


@dataclass
class Batch:
    """Rows of similar length, padded on the right, where nothing can reach what stands before it."""

    h: Tensor
    """[b t d] residual stream before the sublayer that comes next."""
    is_real: Tensor
    """[b t] False for padding."""
    context: CallContext


class Walk:
    """The residual stream of some rows, before the sublayer `next`."""

    def __init__(
        self, model: LanguageModel, rows: Sequence[Tensor], *, embed: Callable[[Tensor], Tensor] | None = None
    ):
        """Begin before the first sublayer.

        Args:
            model: floating point; its matrices may change from sublayer to sublayer.
            rows: [t] int64 each, of any length up to the model's context; each begins with an empty state.
            embed: tokens [b t] to [b t d] in place of the model's embedding.

        Raises:
            DataError: there is no token.
        """
        rows = [row for row in rows if len(row)]
        if not rows:
            raise DataError("there are no tokens to calibrate with", hint="give text with --calibration FILE")
        self.model, self.next = model, 0
        self.num_tokens = sum(map(len, rows))
        self.batches = [self.begin(group, embed or model.embedding) for group in similar_lengths(rows)]

    @torch.no_grad()
    def begin(self, rows: Sequence[Tensor], embed: Callable[[Tensor], Tensor]) -> Batch:
        """What `Backbone.hidden_states` does before the first sublayer."""
        model, device = self.model, self.model.embedding.weight.device
        longest = max(map(len, rows))
        tokens = torch.stack([F.pad(row.to(torch.int64), (0, longest - len(row))) for row in rows]).to(device)
        lengths = torch.tensor([len(row) for row in rows], device=device)
        size = (tokens.shape[0], tokens.shape[1])
        model.require_room(longest, None)
        context = prepare(size, device, document_ids=None, padding_mask=None, state=None)
        if model.config.position == "rope" and model.config.num_attention:
            context = replace(context, rotary=rotary_tables(model.config, context.positions))
        h = embed(tokens).float()
        if model.position_embedding is not None:
            h = h + model.position_embedding(context.positions).float()
        return Batch(h, torch.arange(longest, device=device) < lengths[:, None], context)

    @property
    def sublayer(self) -> Sublayer:
        """The one that comes next."""
        found = self.model.sublayers[self.next]
        assert isinstance(found, Sublayer)
        return found

    @torch.no_grad()
    def inputs_of(self, name: str) -> Iterator[Tensor]:
        """What the projection `name` of the next sublayer reads, batch by batch: [n i] in its dtype."""
        sublayer = self.sublayer
        reads_norm = name in ("q_proj", "k_proj", "v_proj") or name == sublayer.first_projection
        for batch in self.batches:
            if reads_norm:
                projection = getattr(sublayer.mixer, name)
                yield sublayer.norm(batch.h, product_dtype(projection.weight))[batch.is_real]
            else:
                yield caught_input(sublayer, name, batch)[batch.is_real]

    @torch.no_grad()
    def step(self) -> None:
        """Through the next sublayer, with the matrices that it has now."""
        for batch in self.batches:
            batch.h = self.sublayer(batch.h, batch.context, None)
        self.next += 1

    @torch.no_grad()
    def final(self) -> Iterator[Tensor]:
        """What the head reads: [n d] batch by batch, after the last sublayer."""
        assert self.next == len(self.model.sublayers), "some sublayers are still to come"
        for batch in self.batches:
            yield self.model.final_norm(batch.h)[batch.is_real]


def caught_input(sublayer: Sublayer, name: str, batch: Batch) -> Tensor:
    """What a projection reads in a pass through its sublayer: [b t i]."""
    caught: list[Tensor] = []
    handle = getattr(sublayer.mixer, name).register_forward_pre_hook(lambda _, given: caught.append(given[0]))
    try:
        sublayer(batch.h, batch.context, None)
    finally:
        handle.remove()
    return caught[0]


def similar_lengths(rows: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """Longest rows first, as many as fit into `BATCH_TOKENS` with padding, at least one."""
    group: list[Tensor] = []
    for row in sorted(rows, key=len, reverse=True):
        if group and (len(group) + 1) * len(group[0]) > BATCH_TOKENS:
            yield group
            group = []
        group.append(row)
    if group:
        yield group


def second_moments(inputs: Iterator[Tensor]) -> Tensor:
    """Mean of x x^T over all tokens: [i i] float32, from pieces [n i]."""
    total, tokens = None, 0
    for piece in inputs:
        x = piece.float()
        total = x.T @ x if total is None else total.addmm_(x.T, x)
        tokens += len(x)
    assert total is not None, "no inputs"
    return total / tokens
