"""A graph of ONNX Runtime behind the engine.

Tokens of many sequences go through the graph in one call, in place: their slots are neighbours. So do prompts that
begin. A piece that goes on in a text is read by itself, because `GroupQueryAttention` takes no more at a time, and a
prompt is cut where a state is wanted, because a graph tells only the last one.

Letters: b rows, L new tokens, T slots of keys and values after the call, v vocabulary, n logits per row.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from collections.abc import Sequence as Rows
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mamba_slm.generation.onnx_runtime import OnnxRuntime
from mamba_slm.generation.onnx_session import onnxruntime
from mamba_slm.generation.onnx_state import Array, KeptStates
from mamba_slm.model.onnx_contract import ATTENTION_MASK, INPUT_IDS, LOGITS, NUM_LOGITS_TO_KEEP
from mamba_slm.model.pattern import ATTENTION, MAMBA
from mamba_slm.serving.engine.executor import Read, ReadPiece
from mamba_slm.serving.memory.onnx_pool import OnnxPool
from mamba_slm.serving.memory.pool import Sequence

MOST_PADDING = 1.25
"""Prompts are read together where the longest has no more tokens than so many times the shortest."""

MOST_TOGETHER_TOKENS = 1024
"""Of all prompts that are read together, padding included: longer ones gain nothing."""


class OnnxExecutor:
    """See the top of this file."""

    def __init__(self, runtime: OnnxRuntime, pool: OnnxPool, *, is_batch_invariant: bool = False):
        """
        Args:
            is_batch_invariant: run every sequence by itself, so that its logits do not depend on the others by a bit.
        """
        self.pool, self.config, self.description = pool, runtime.config, runtime.description
        self._graph, self._is_batch_invariant = runtime.graph, is_batch_invariant
        self._is_in_place = runtime.states is KeptStates
        self._bindings: dict[tuple[int, int], Any] = {}
        self._capacity = 0
        self._windows = [window.clone() for window, _ in pool.of_kind(MAMBA)]  # where a call in place writes them

    def read(self, pieces: Rows[ReadPiece]) -> list[Read]:
        reads: dict[int, Read] = {}
        for numbers in self._groups(pieces):
            if len(numbers) == 1:
                reads[numbers[0]] = self._read_alone(pieces[numbers[0]])
                continue
            sequences = [pieces[number].sequence for number in numbers]
            logits = self._run(sequences, [pieces[number].tokens for number in numbers])
            reads |= {number: Read(row[0], []) for number, row in zip(numbers, logits, strict=True)}
        return [reads[number] for number in range(len(pieces))]

    def step(self, sequences: Rows[Sequence], tokens: Rows[int]) -> Tensor:
        if self._is_batch_invariant:
            return torch.cat([self._run([one], [[token]])[0] for one, token in zip(sequences, tokens, strict=True)])
        return torch.cat(self._run(sequences, [[token] for token in tokens]))

    def _groups(self, pieces: Rows[ReadPiece]) -> Iterator[list[int]]:
        """Numbers of the pieces that go together: those that begin a text, have about one length, and ask for nothing
        on the way."""
        alone = [
            number
            for number, piece in enumerate(pieces)
            if self._is_batch_invariant or piece.sequence.num_tokens or piece.keep_after or piece.all_logits
        ]
        yield from ([number] for number in alone)
        group: list[int] = []
        for number in sorted(set(range(len(pieces))) - set(alone), key=lambda number: len(pieces[number].tokens)):
            length = len(pieces[number].tokens)
            if group and (
                length > MOST_PADDING * len(pieces[group[0]].tokens) or length * (len(group) + 1) > MOST_TOGETHER_TOKENS
            ):
                yield group
                group = []
            group.append(number)
        if group:
            yield group

    def _read_alone(self, piece: ReadPiece) -> Read:
        """One piece, cut where states are wanted."""
        sequence, tokens = piece.sequence, list(piece.tokens)
        logits: list[Tensor] = []
        states: list[list[tuple[Tensor, Tensor]]] = []
        ends = [*piece.keep_after, len(tokens)]
        for start, end in zip([0, *ends], ends, strict=False):
            logits += self._run([sequence], [tokens[start:end]], all_logits=piece.all_logits)
            if end < len(tokens):
                memory = self.pool.of_kind(MAMBA)
                states.append([(w[sequence.slot].clone(), s[sequence.slot].clone()) for w, s in memory])
        return Read(torch.cat(logits) if piece.all_logits else logits[-1][0], states)

    def _run(self, sequences: Rows[Sequence], tokens: Rows[Rows[int]], *, all_logits: bool = False) -> list[Tensor]:
        """Read the tokens of every sequence; logits [n v] of each, n is 1 or that of its tokens."""
        pool, lengths = self.pool, np.array([len(each) for each in tokens])
        pool.reserve(max(each.num_tokens + len(new) for each, new in zip(sequences, tokens, strict=True)))
        first = pool.side_by_side(sequences)
        order = [each.slot - first for each in sequences]  # the row of each
        given = np.zeros((len(sequences), lengths.max()), np.int64)
        before, new = np.zeros(len(sequences), np.int64), np.zeros(len(sequences), np.int64)
        for row, sequence, ids in zip(order, sequences, tokens, strict=True):
            given[row, : len(ids)], before[row], new[row] = ids, sequence.num_tokens, len(ids)
        mask = np.concatenate(
            [np.arange(before.max()) < before[:, None], np.arange(given.shape[1]) < new[:, None]], axis=1
        )
        run = self._in_place if self._is_in_place else self._renewed
        logits = torch.from_numpy(run(first, given, mask.astype(np.int64), 0 if all_logits else 1))
        for sequence, ids in zip(sequences, tokens, strict=True):
            sequence.num_tokens += len(ids)
        return [logits[row, : len(ids)] for row, ids in zip(order, tokens, strict=True)]

    def _in_place(self, first: int, tokens: Array, mask: Array, keep: int) -> Array:
        """The graph on slots `first` …; logits [b n v]."""
        binding = self._binding(first, len(tokens))
        binding.bind_cpu_input(INPUT_IDS, tokens)
        binding.bind_cpu_input(ATTENTION_MASK, mask)
        binding.bind_ortvalue_input(NUM_LOGITS_TO_KEEP, scalar(keep))
        binding.bind_output(LOGITS, "cpu")
        self._graph.session.run_with_iobinding(binding)
        rows = slice(first, first + len(tokens))
        for (window, _), written in zip(self.pool.of_kind(MAMBA), self._windows, strict=True):
            window[rows] = written[rows]
        return logits_of(binding)

    def _binding(self, first: int, count: int) -> Any:
        """The states of `count` slots as inputs and outputs; made once per place."""
        if self._capacity != self.pool.capacity:
            self._bindings, self._capacity = {}, self.pool.capacity
        if (first, count) not in self._bindings:
            binding, rows = self._graph.session.io_binding(), slice(first, first + count)
            binding.bind_output(LOGITS, "cpu")  # first: see `logits_of`
            for state, past, present in zip(self._graph.states, self._memory(), self._memory(new=True), strict=True):
                for bind, name, memory in (
                    (binding.bind_ortvalue_input, state.past, past),
                    (binding.bind_ortvalue_output, state.present, present),
                ):
                    bind(name, onnxruntime().OrtValue.ortvalue_from_numpy(memory[rows].numpy()))
            self._bindings[first, count] = binding
        return self._bindings[first, count]

    def _memory(self, *, new: bool = False) -> Iterator[Tensor]:
        """Of all slots, in the order of the graph's states; or where it writes the new ones."""
        windows, rows = iter(self._windows), iter(self.pool.rows)
        for kind, pair in zip(self.config.pattern, self.pool.layers, strict=True):
            if kind == MAMBA and pair is not None:
                written = next(windows)
                yield from (written if new else pair[0], pair[1])
            elif kind == ATTENTION:
                yield from next(rows)

    def _renewed(self, first: int, tokens: Array, mask: Array, keep: int) -> Array:
        """As `_in_place`, by copies: right for every graph and provider."""
        binding, slots = self._graph.session.io_binding(), mask.shape[1]
        binding.bind_cpu_input(INPUT_IDS, tokens)
        binding.bind_cpu_input(ATTENTION_MASK, mask)
        binding.bind_ortvalue_input(NUM_LOGITS_TO_KEEP, scalar(keep))
        binding.bind_output(LOGITS, "cpu")
        rows = [memory[first : first + len(tokens)] for memory in self._memory()]
        for state, memory in zip(self._graph.states, rows, strict=True):
            past = memory[:, :, : slots - tokens.shape[1]] if state.grows else memory
            binding.bind_cpu_input(state.past, np.ascontiguousarray(past.numpy()))
            binding.bind_output(state.present, "cpu")
        self._graph.session.run_with_iobinding(binding)
        for state, memory, present in zip(self._graph.states, rows, binding.get_outputs()[1:], strict=True):
            found = torch.from_numpy(present.numpy())
            (memory[:, :, : found.shape[2]] if state.grows else memory).copy_(found)
        return logits_of(binding)


@functools.cache
def scalar(value: int) -> Any:
    """For the graph."""
    return onnxruntime().OrtValue.ortvalue_from_numpy(np.array(value, np.int64))


def logits_of(binding: Any) -> Array:
    """The first output."""
    return binding.get_outputs()[0].numpy()
