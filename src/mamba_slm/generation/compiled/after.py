"""The states of Mamba layers after each of some successive tokens, of which a beginning will be kept."""

from __future__ import annotations

import ctypes

from torch import Tensor

from mamba_slm.model.state import InferenceState, LayerState, MambaState

Block = list[tuple[Tensor, Tensor] | None]
"""For each layer the memory of windows [t w c] and SSM states [t h p n]."""


class StatesAfter:
    """Memory for the states after each of up to `most` tokens of one row; one object per row that is read.

    There are two blocks that take turns: the state that was kept lies in one while the next tokens write the other.
    """

    def __init__(self, most: int):
        self.most = most
        self._taken: Block | None = None  # in which the state lies
        self._free: Block | None = None
        self._count = 0

    def places(self, state: InferenceState, count: int) -> ctypes.Array[ctypes.c_void_p]:
        """Pointers to the memory of `count` states of each layer: windows [t w c] and SSM states [t h p n]."""
        assert count <= self.most
        self._count = count
        block = self._free
        if block is None:
            block = self._free = [self._pair(layer) for layer in state.layers]
        pointers = (ctypes.c_void_p * (2 * len(block)))()
        for number, pair in enumerate(block):
            if pair is not None:
                pointers[2 * number], pointers[2 * number + 1] = pair[0].data_ptr(), pair[1].data_ptr()
        return pointers

    def _pair(self, layer: LayerState) -> tuple[Tensor, Tensor] | None:
        """Memory for one layer."""
        if not isinstance(layer, MambaState):
            return None
        window, ssm = layer.window, layer.ssm
        return window.new_empty(self.most, *window.shape[1:]), ssm.new_empty(self.most, *ssm.shape[1:])

    def keep(self, state: InferenceState, num_tokens: int) -> None:
        """Let `state` have read the first `num_tokens` of the last tokens, at least one, and no more."""
        block = self._free
        assert block is not None and 1 <= num_tokens <= self._count
        last = slice(num_tokens - 1, num_tokens)
        for layer, pair in zip(state.layers, block, strict=True):
            if isinstance(layer, MambaState) and pair is not None:
                layer.window, layer.ssm = pair[0][last], pair[1][last]
        state.length += num_tokens
        state.num_tokens = state.num_tokens + num_tokens
        self._taken, self._free, self._count = block, self._taken, 0

    def release(self, state: InferenceState) -> None:
        """Give the state memory of its own, so that this memory can go."""
        for layer in state.layers:
            if isinstance(layer, MambaState):
                layer.window, layer.ssm = layer.window.clone(), layer.ssm.clone()
        self._taken = self._free = None
