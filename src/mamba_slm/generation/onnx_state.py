"""What a graph of ONNX Runtime remembers, and calling it so that this memory does not move.

Letters: b rows, L new tokens, T slots of the key-value cache after the call, v vocabulary.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mamba_slm.core.errors import UsageError
from mamba_slm.generation.onnx_session import OnnxGraph, onnxruntime
from mamba_slm.model.onnx_contract import ATTENTION_MASK, INPUT_IDS, LOGITS, NUM_LOGITS_TO_KEEP

FIRST_CAPACITY = 256
SLOTS = 2  # axis of keys and values
Array = NDArray[Any]


class OnnxStates:
    """The states of some rows. Row i has its keys in the first `counts[i]` slots.

    A subclass holds the memory and calls the graph with it; it is made from arrays, one per state of the contract, that
    it may keep.
    """

    def __init__(self, graph: OnnxGraph, arrays: Sequence[Array], counts: Sequence[int]):
        self.graph = graph
        self.counts = list(counts)
        self.slots = max(self.counts, default=0)
        """Slots of the key-value cache that the graph has seen, padding included."""
        self.take(arrays)

    @classmethod
    def empty(cls, graph: OnnxGraph, rows: int) -> Self:
        """Before the first token."""
        return cls(graph, [np.zeros(each.empty_shape(rows), np.float32) for each in graph.states], [0] * rows)

    def take(self, arrays: Sequence[Array]) -> None:
        """Hold these states; keys and values have `slots` slots."""
        raise NotImplementedError

    def arrays(self) -> list[Array]:
        """The states, keys and values with `slots` slots: views that live as long as this object does not change."""
        raise NotImplementedError

    def call(self, tokens: Array, mask: Array) -> Array:
        """Feed tokens [b L] with the mask [b T]; advance the states; return logits [b v] that stay as they are."""
        raise NotImplementedError

    @property
    def num_tokens(self) -> Tensor:
        """[b] int64."""
        return torch.tensor(self.counts, dtype=torch.int64)

    def read(self, tokens: Array, new: Array | None) -> Array:
        """Logits [b v] after the last real token of each row.

        Args:
            tokens: [b L] int64.
            new: [b L] True for real tokens, which stand on the left; None: all are.
        """
        length = tokens.shape[1]
        slots = self.slots + length
        mask = np.ones((len(self.counts), slots), np.int64)
        if min(self.counts) < self.slots:
            mask[:, : self.slots] = np.arange(self.slots) < np.array(self.counts)[:, None]
        if new is not None:
            mask[:, self.slots :] = new
        logits = self.call(tokens, mask)
        added = [length] * len(self.counts) if new is None else new.sum(axis=1).tolist()
        self.counts = [count + more for count, more in zip(self.counts, added, strict=True)]
        self.slots = slots
        return logits

    def select(self, rows: Tensor) -> Self:
        places = rows.tolist()
        counts = [self.counts[place] for place in places]
        used = max(counts, default=0)
        arrays = [
            (array[:, :, :used] if state.grows else array)[places]
            for array, state in zip(self.arrays(), self.graph.states, strict=True)
        ]
        return type(self)(self.graph, arrays, counts)

    def fork(self, copies: int) -> Self:
        return self.select(torch.arange(len(self.counts)).repeat_interleave(copies))

    def snapshot(self) -> Self:
        return self.select(torch.arange(len(self.counts)))

    def restore(self, snapshot: Self) -> None:
        if len(snapshot.counts) != len(self.counts):
            raise UsageError(f"the snapshot has {len(snapshot.counts)} rows, the state has {len(self.counts)}")
        self.counts, self.slots = list(snapshot.counts), snapshot.slots
        self.take([array.copy() for array in snapshot.arrays()])

    def join(self, rows: Sequence[Self]) -> None:
        """Become these states of one row each."""
        self.counts = [row.counts[0] for row in rows]
        self.slots = max(self.counts)
        self.take([np.concatenate(parts) for parts in zip(*(row.padded(self.slots) for row in rows), strict=True)])

    def padded(self, slots: int) -> list[Array]:
        """The states with this many slots, those behind `self.slots` empty."""
        return [
            with_slots(array, slots) if state.grows else array
            for array, state in zip(self.arrays(), self.graph.states, strict=True)
        ]


class RenewedStates(OnnxStates):
    """Every call returns new states, which stay on the device: right for every graph and provider."""

    def take(self, arrays: Sequence[Array]) -> None:
        values = onnxruntime().OrtValue
        self.values: list[Any] = [
            values.ortvalue_from_numpy(np.ascontiguousarray(array), self.graph.device) for array in arrays
        ]

    def arrays(self) -> list[Array]:
        return [value.numpy() for value in self.values]

    def call(self, tokens: Array, mask: Array) -> Array:
        binding = self.graph.session.io_binding()
        binding.bind_cpu_input(INPUT_IDS, tokens)
        binding.bind_cpu_input(ATTENTION_MASK, mask)
        binding.bind_ortvalue_input(NUM_LOGITS_TO_KEEP, keep_last())
        binding.bind_output(LOGITS, "cpu")
        for state, value in zip(self.graph.states, self.values, strict=True):
            binding.bind_ortvalue_input(state.past, value)
            binding.bind_output(state.present, self.graph.device)
        self.graph.session.run_with_iobinding(binding)
        logits, *self.values = binding.get_outputs()
        return logits.numpy()[:, 0]


class KeptStates(OnnxStates):
    """Every call writes into the memory it reads from: right where `works_in_place` says so, and a quarter faster.

    Keys and values lie in buffers with room for more slots, which `GroupQueryAttention` fills; `LinearAttention`
    updates each head where it lies. Only the convolution's windows, which are small, alternate between two buffers.
    """

    def take(self, arrays: Sequence[Array]) -> None:
        self.capacity = 0
        self.buffers: list[Array] = list(arrays)
        self.reserve(max(self.slots, 1))

    def arrays(self) -> list[Array]:
        return [
            buffer[:, :, : self.slots] if state.grows else buffer
            for buffer, state in zip(self.buffers, self.graph.states, strict=True)
        ]

    def reserve(self, slots: int) -> None:
        """Make room for so many slots; doubles the capacity when it must grow."""
        if slots <= self.capacity:
            return
        self.capacity = max(slots, 2 * self.capacity, FIRST_CAPACITY)
        self.buffers = [
            with_slots(buffer[:, :, : self.slots], self.capacity) if state.grows else np.ascontiguousarray(buffer)
            for buffer, state in zip(self.buffers, self.graph.states, strict=True)
        ]
        self.bind()

    def bind(self) -> None:
        """Two bindings that take turns: what one writes, the other reads."""
        session, value = self.graph.session, onnxruntime().OrtValue.ortvalue_from_numpy
        rows = len(self.counts)
        self.token = np.zeros((rows, 1), np.int64)
        vocab_size = next(each.shape[2] for each in session.get_outputs() if each.name == LOGITS)
        self.logits = np.empty((rows, 1, vocab_size), np.float32)
        self.others = [
            np.empty_like(buffer) if state.past.startswith("past_conv") else buffer
            for buffer, state in zip(self.buffers, self.graph.states, strict=True)
        ]
        self.bindings = (session.io_binding(), session.io_binding())
        here, there = [[value(buffer) for buffer in buffers] for buffers in (self.buffers, self.others)]
        for binding, pasts, presents in zip(self.bindings, (here, there), (there, here), strict=True):
            binding.bind_ortvalue_input(NUM_LOGITS_TO_KEEP, keep_last())
            binding.bind_ortvalue_output(LOGITS, value(self.logits))
            for state, past, present in zip(self.graph.states, pasts, presents, strict=True):
                binding.bind_ortvalue_input(state.past, past)
                binding.bind_ortvalue_output(state.present, present)

    def call(self, tokens: Array, mask: Array) -> Array:
        self.reserve(mask.shape[1])
        if tokens.shape[1] == 1:
            self.token[:] = tokens
            tokens = self.token
        binding = self.bindings[0]
        binding.bind_cpu_input(INPUT_IDS, tokens)
        binding.bind_cpu_input(ATTENTION_MASK, mask)
        self.graph.session.run_with_iobinding(binding)
        self.bindings = self.bindings[::-1]
        self.buffers, self.others = self.others, self.buffers
        return self.logits[:, 0].copy()


@functools.cache
def keep_last() -> Any:
    """The number of logits that are wanted, for the graph."""
    return onnxruntime().OrtValue.ortvalue_from_numpy(np.array(1, np.int64))


def with_slots(array: Array, slots: int) -> Array:
    """Keys or values [b k s d] in a new array of `slots` slots, zeros behind."""
    b, k, s, d = array.shape
    wider = np.zeros((b, k, slots, d), array.dtype)
    wider[:, :, :s] = array
    return wider


def works_in_place(graph: OnnxGraph) -> bool:
    """Whether `KeptStates` computes the same as `RenewedStates` with this graph here: some tokens in pieces, two rows.

    That GroupQueryAttention may write where it reads is documented; that LinearAttention may is read in its source.
    """
    if graph.form != "fused" or graph.device != "cpu":
        return False
    kept, renewed = KeptStates.empty(graph, 2), RenewedStates.empty(graph, 2)
    pieces = (np.array([[1, 2, 3], [3, 2, 0]]), np.array([[4], [1]]), np.array([[5], [2]]))
    for tokens in pieces:
        new = tokens > 0 if tokens.shape[1] > 1 else None
        if not np.allclose(kept.read(tokens, new), renewed.read(tokens, new), rtol=1e-4, atol=1e-4):
            return False
    return True
