"""Pieces of several sequences through a model in one call: a row for every token, without padding.

Matrices multiply the tokens of all pieces at once; convolution, scan and attention see one piece at a time, with its
own state in the pool. Where a state is wanted within a piece, the scan stops for a moment: nothing is computed twice.

Letters: r tokens of all pieces, t of one, d width, v vocabulary, w taps - 1, c convolution channels, h SSM heads, p SSM
head dim, n state.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence as Rows
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor

from mamba_slm.model.attention import Attention, AttentionTerms, attention_terms, rotary_tables
from mamba_slm.model.context import CallContext
from mamba_slm.model.mamba2 import Mamba2
from mamba_slm.model.pattern import FEED_FORWARD
from mamba_slm.model.stack import LanguageModel, Sublayer
from mamba_slm.model.state import MambaState
from mamba_slm.ops.attention import attention
from mamba_slm.ops.rope import apply_rope
from mamba_slm.serving.memory.pool import Pool, Sequence

Memory = tuple[Tensor, Tensor]


@dataclass(frozen=True, kw_only=True)
class Part:
    """One piece."""

    sequence: Sequence
    tokens: slice
    """Its rows."""
    wanted: slice
    """Of them, those whose logits are wanted, the last ones."""
    all_logits: bool
    cuts: tuple[int, ...]
    """Counts of its tokens after which the states of Mamba layers are kept."""
    positions: Tensor
    """[t] in the text."""
    num_columns: int
    """Tokens of the text up to the end of the piece."""
    blocks: Tensor
    """Of their keys and values."""
    kept: list[list[Memory]]
    """For each cut the windows [w c] and SSM states [h p n] so far."""


class Ragged:
    """One call; `logits` does the work, and each sequence has read its tokens then."""

    def __init__(
        self,
        model: LanguageModel,
        pool: Pool,
        pieces: Rows[tuple[Sequence, Rows[int]]],
        *,
        cuts: Rows[Rows[int]],
        all_logits: Rows[bool],
        rows_use: Callable[[Rows[str]], AbstractContextManager[None]] = lambda adapters: nullcontext(),
    ):
        """
        Args:
            pieces: sequences, which have the blocks for that, and the tokens that each reads.
            cuts: of each piece: counts of its tokens, ascending, after which its states are wanted.
            all_logits: of each piece: whether those of all tokens are wanted, or of the last alone.
            rows_use: told before products which adapter each of their rows uses (`Sequence.adapter`).
        """
        self._model, self._pool, self._config = model, pool, model.config
        tokens: list[int] = []
        self.parts: list[Part] = []
        for (sequence, more), inner, all_of_it in zip(pieces, cuts, all_logits, strict=True):
            start, end = len(tokens), len(tokens) + len(more)
            tokens += more
            columns = sequence.num_tokens + len(more)
            blocks = sequence.blocks[: -(-columns // pool.block_tokens)]
            part = Part(
                sequence=sequence,
                tokens=slice(start, end),
                wanted=slice(start if all_of_it else end - 1, end),
                all_logits=all_of_it,
                cuts=tuple(inner),
                positions=torch.arange(sequence.num_tokens, columns, device=pool.device),
                num_columns=columns,
                blocks=torch.tensor(blocks, dtype=torch.int64, device=pool.device),
                kept=[[] for _ in inner],
            )
            self.parts.append(part)
        self._tokens = torch.tensor(tokens, device=pool.device)[:, None]
        self._positions = torch.cat([part.positions for part in self.parts])[:, None]
        self._rotary: tuple[Tensor, Tensor] | None = None
        if self._config.position == "rope" and self._config.num_attention:
            self._rotary = rotary_tables(self._config, self._positions)
        self._terms = [self._terms_of(part) for part in self.parts]
        self._rows_use, self._context = rows_use, ExitStack()

    @torch.no_grad()
    def logits(self) -> list[Tensor]:
        """Of each piece [v], or [t v] where all are wanted; float32."""
        model, parts = self._model, self.parts
        wanted = torch.cat([torch.arange(p.wanted.start, p.wanted.stop, device=self._tokens.device) for p in parts])
        last_mixing = max((i for i, kind in enumerate(self._config.pattern) if kind != FEED_FORWARD), default=0)
        with self._context:
            self._tell_rows(lambda part: part.tokens)
            h = model.embedding(self._tokens).float()
            if model.position_embedding is not None:
                h = h + model.position_embedding(self._positions).float()
            for index, (sublayer, pair) in enumerate(zip(model.sublayers, self._pool.layers, strict=True)):
                assert isinstance(sublayer, Sublayer)
                mixer, u = sublayer.mixer, sublayer.normed(h)
                rows = wanted if index == last_mixing else None  # behind it nobody wants the others
                if isinstance(mixer, Mamba2) and pair is not None:
                    update = self._mamba(mixer, u, pair, rows)
                elif isinstance(mixer, Attention) and pair is not None:
                    update = self._attend(mixer, u, pair, rows)
                else:
                    update = mixer(u if rows is None else self._narrowed(u, rows), None, None)
                h = (h if rows is None else h[rows]) + update
            logits = model.logits(model.final_norm(h))[:, 0]
        for part in parts:
            part.sequence.num_tokens += part.tokens.stop - part.tokens.start
        counts = [part.wanted.stop - part.wanted.start for part in parts]
        return [one if part.all_logits else one[0] for part, one in zip(parts, logits.split(counts), strict=True)]

    def _tell_rows(self, of: Callable[[Part], slice]) -> None:
        """Say which adapter each row of the next products uses."""
        self._context.close()
        adapters = [part.sequence.adapter for part in self.parts for _ in range(of(part).start, of(part).stop)]
        self._context.enter_context(self._rows_use(adapters))

    def _narrowed(self, u: Tensor, rows: Tensor) -> Tensor:
        """The wanted rows; what follows is computed for these alone."""
        self._tell_rows(lambda part: part.wanted)
        return u[rows]

    def _mamba(self, mixer: Mamba2, u: Tensor, pair: Memory, rows: Tensor | None) -> Tensor:
        """[r 1 d] to [r 1 d], or to the wanted rows; advances the states in the pool."""
        c = self._config
        z, xBC, dt = mixer.in_proj(u).split([c.inner_size, c.conv_size, c.num_ssm_heads], dim=-1)
        xBC, dt = xBC.transpose(0, 1), dt.transpose(0, 1)
        scanned: list[Tensor] = []
        for part in self.parts:
            slot = slice(part.sequence.slot, part.sequence.slot + 1)
            state = MambaState(window=pair[0][slot], ssm=pair[1][slot])
            y, kept = mixer.scan_and_keep(xBC[:, part.tokens], dt[:, part.tokens], state, part.cuts)
            scanned.append(y)
            for states, one in zip(part.kept, kept, strict=True):
                states.append(one)
            pair[0][slot], pair[1][slot] = state.window, state.ssm
        y = torch.cat(scanned, dim=1).transpose(0, 1)
        if rows is not None:
            y, z = y[rows], self._narrowed(z, rows)
        return mixer.out_proj(mixer.norm(y, z))

    def _attend(self, mixer: Attention, u: Tensor, pair: Memory, rows: Tensor | None) -> Tensor:
        """The same; writes keys and values into the pool."""
        c, rotary = self._config, self._rotary
        k = mixer.k_proj(u).unflatten(-1, (c.num_kv_heads, c.head_dim))
        v = mixer.v_proj(u).unflatten(-1, (c.num_kv_heads, c.head_dim))
        if rotary is not None:
            k = apply_rope(k, *rotary)
        if rows is not None:
            u, rotary = self._narrowed(u, rows), None if rotary is None else (rotary[0][rows], rotary[1][rows])
        q = mixer.q_proj(u).unflatten(-1, (c.num_heads, c.head_dim))
        if rotary is not None:
            q = apply_rope(q, *rotary)
        q, size, at, attended = q.transpose(0, 1), self._pool.block_tokens, 0, list[Tensor]()
        for part, terms in zip(self.parts, self._terms, strict=True):
            mine = part.tokens if rows is None else part.wanted
            count = mine.stop - mine.start
            block, offset = part.blocks[part.positions // size], part.positions % size
            seen: list[Tensor] = []
            for memory, new in zip(pair, (k, v), strict=True):
                memory[block, :, offset] = new[part.tokens, 0].to(memory.dtype)
                columns = memory.transpose(1, 2)[part.blocks].flatten(0, 1)[None, : part.num_columns]
                seen.append(columns.to(q.dtype))
            if count < part.tokens.stop - part.tokens.start:
                terms = of_last(terms, count)
            mask = {"first_key": terms.first_key, "mask": terms.mask, "bias": terms.bias}
            attended.append(attention(q[:, at : at + count], seen[0], seen[1], **mask))
            at += count
        return mixer.o_proj(torch.cat(attended, dim=1).transpose(0, 1).flatten(2))

    def _terms_of(self, part: Part) -> AttentionTerms:
        """Who of a piece sees whom."""
        columns = torch.arange(part.num_columns, device=part.positions.device)
        context = CallContext(
            positions=part.positions[None],
            key_positions=columns[None],
            first_key=None,
            key_valid=None,
            document_ids=None,
            padding_mask=None,
            length_before=part.sequence.num_tokens,
        )
        return attention_terms(self._config, context)


def of_last(terms: AttentionTerms, count: int) -> AttentionTerms:
    """The terms of the last queries."""
    return AttentionTerms(
        first_key=None if terms.first_key is None else terms.first_key[:, -count:],
        mask=None if terms.mask is None else terms.mask[:, :, -count:],
        bias=None if terms.bias is None else terms.bias[:, :, -count:],
    )
