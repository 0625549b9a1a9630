"""What a model remembers between calls: keys and values, convolution windows, float32 SSM states.

Letters: b batch, t time, s slots of the key-value cache, k key-value heads, d head dim, h SSM heads, p SSM head dim,
n state, c convolution channels, w taps - 1.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from mamba_slm.core.errors import UsageError
from mamba_slm.model.config import ModelConfig
from mamba_slm.model.pattern import ATTENTION, FEED_FORWARD, MAMBA

FIRST_CAPACITY = 64


@dataclass
class MambaHistory:
    """What is needed to go back to any token since some moment: the state then, and the inputs since."""

    window: Tensor
    """[b w c] then."""
    ssm: Tensor
    """[b h p n] then."""
    inputs: list[tuple[Tensor, Tensor, Tensor | None]] = field(default_factory=list)
    """Of each call since: xBC [b t c] and dt [b t h] as projected, mask [b t 1] or None."""

    @property
    def num_bytes(self) -> int:
        """Memory held."""
        parts = [part for call in self.inputs for part in call if part is not None]
        return sum(part.nbytes for part in (self.window, self.ssm, *parts))


@dataclass
class MambaState:
    """Memory of one Mamba-2 sublayer; constant in size."""

    window: Tensor
    """[b w c] the last raw inputs of the convolution, oldest first; zeros before the first token."""
    ssm: Tensor
    """[b h p n] float32."""
    history: MambaHistory | None = None
    """Kept only where somebody wants to go back (`Mamba2.undo`); copies of a state have none."""


@dataclass
class KeyValueState:
    """Memory of one attention sublayer; grows with the context. Slots behind `InferenceState.length` are unused."""

    keys: Tensor
    """[b k s d], rotated already."""
    values: Tensor
    """[b k s d]."""

    def append(self, keys: Tensor, values: Tensor, length: int) -> tuple[Tensor, Tensor]:
        """Write [b t k d] behind `length` used slots; return all used keys and values as [b length+t k d] views.

        Writes in place, except where gradients flow: the backward pass of an earlier call still needs the old buffers.
        """
        end = length + keys.shape[1]
        keys, values = (m.transpose(1, 2).to(self.keys.dtype) for m in (keys, values))
        if any(m.requires_grad for m in (keys, values, self.keys, self.values)):
            self.keys = self.keys.slice_scatter(keys, dim=2, start=length, end=end)
            self.values = self.values.slice_scatter(values, dim=2, start=length, end=end)
        else:
            self.keys[:, :, length:end] = keys
            self.values[:, :, length:end] = values
        return self.keys[:, :, :end].transpose(1, 2), self.values[:, :, :end].transpose(1, 2)


@dataclass
class PluginState:
    """Memory of one plugin's sublayer: the tensors of its `SublayerPlugin.state`, each [b …]."""

    tensors: dict[str, Tensor]

    def mapped(self, change: Callable[[Tensor], Tensor]) -> PluginState:
        """A new state whose tensors are `change` of these."""
        return PluginState({name: change(tensor) for name, tensor in self.tensors.items()})


LayerState = MambaState | KeyValueState | PluginState | None


class InferenceState:
    """The memory of a batch of sequences. A call of the model with it advances it in place.

    Rows are sequences. `num_tokens` [b] counts the real tokens of each row; `length` counts used slots of the key-value
    cache, padding included, and is the same for all rows. With a window of attention the oldest slots are dropped once
    no further token sees them, so that the cache stays within a few windows however long the text.
    """

    def __init__(
        self,
        layers: list[LayerState],
        num_tokens: Tensor,
        positions: Tensor,
        valid: Tensor,
        *,
        length: int = 0,
        has_padding: bool = False,
        window: int = 0,
        dropped: int = 0,
    ):
        self.layers = layers
        self.num_tokens = num_tokens
        self.positions = positions
        """[b s] position of each slot's token."""
        self.valid = valid
        """[b s] False where a slot holds padding."""
        self.length = length
        self.has_padding = has_padding
        self.window = window
        """A token sees so many latest positions, itself included; 0 means all, and that nothing is dropped."""
        self.dropped = dropped
        """Slots that were dropped so far."""

    @classmethod
    def empty(cls, config: ModelConfig, batch_size: int, *, device: torch.device, dtype: torch.dtype) -> InferenceState:
        """A state before the first token. `dtype` is that of keys, values and windows; SSM states stay float32."""
        layers: list[LayerState] = []
        for kind in config.pattern:
            if kind == MAMBA:
                window = torch.zeros(batch_size, config.conv_kernel - 1, config.conv_size, dtype=dtype, device=device)
                size = (batch_size, config.num_ssm_heads, config.ssm_head_dim, config.state_size)
                layers.append(MambaState(window=window, ssm=torch.zeros(size, dtype=torch.float32, device=device)))
            elif kind == ATTENTION:
                size = (batch_size, config.num_kv_heads, FIRST_CAPACITY, config.head_dim)
                zeros = torch.zeros(size, dtype=dtype, device=device)
                layers.append(KeyValueState(keys=zeros, values=zeros.clone()))
            elif kind == FEED_FORWARD:
                layers.append(None)
            else:
                from mamba_slm.model.plugin_mixer import empty_state  # which is built upon this module

                layers.append(empty_state(kind, config, batch_size, device=device, dtype=dtype))
        slots = torch.zeros(batch_size, FIRST_CAPACITY, dtype=torch.int64, device=device)
        valid = torch.ones_like(slots, dtype=torch.bool)
        return cls(layers, slots.new_zeros(batch_size), slots, valid, window=config.attention_window)

    @property
    def batch_size(self) -> int:
        """Number of rows."""
        return self.num_tokens.shape[0]

    @property
    def num_bytes(self) -> int:
        """Memory held, unused slots and histories included."""
        histories = [layer.history for layer in self.layers if isinstance(layer, MambaState)]
        total = sum(history.num_bytes for history in histories if history is not None)

        def add(tensor: Tensor) -> Tensor:
            nonlocal total
            total += tensor.numel() * tensor.element_size()
            return tensor

        self.mapped(add)
        return total

    def reserve(self, new_slots: int) -> None:
        """Make room for `new_slots` more slots; drops what nobody sees, or doubles the capacity when it must grow."""
        capacity = self.positions.shape[1]
        if self.length + new_slots <= capacity:
            return
        if 2 * (unseen := self.unseen_slots()) >= capacity:  # fewer are not worth the move
            self.drop(unseen)
        needed = self.length + new_slots
        if needed <= capacity:
            return
        extra = max(needed, 2 * capacity) - capacity

        def grown(tensor: Tensor, axis: int, value: int = 0) -> Tensor:
            shape = list(tensor.shape)
            shape[axis] = extra
            return torch.cat([tensor, tensor.new_full(shape, value)], dim=axis)

        for layer in self.layers:
            if isinstance(layer, KeyValueState):
                layer.keys, layer.values = grown(layer.keys, 2), grown(layer.values, 2)
        self.positions, self.valid = grown(self.positions, 1), grown(self.valid, 1, 1)

    def unseen_slots(self) -> int:
        """How many of the oldest slots no further token of any row will see; 0 while a layer keeps a way back."""
        if not self.window or self.length == 0:
            return 0
        if any(isinstance(layer, MambaState) and layer.history is not None for layer in self.layers):
            return 0
        positions, valid = self.positions[:, : self.length], self.valid[:, : self.length]
        newest = torch.where(valid, positions, -1).amax(dim=1, keepdim=True)  # the next token stands behind it
        seen = (valid & (positions > newest + 1 - self.window)).any(dim=0)  # [s]
        return int(seen.int().argmax()) if bool(seen.any()) else self.length

    def drop(self, slots: int) -> None:
        """Forget the oldest slots and move the others to their place."""

        def moved(tensor: Tensor, axis: int, value: int = 0) -> Tensor:
            kept = tensor.narrow(axis, slots, tensor.shape[axis] - slots)
            shape = list(tensor.shape)
            shape[axis] = slots
            return torch.cat([kept, tensor.new_full(shape, value)], dim=axis)

        for layer in self.layers:
            if isinstance(layer, KeyValueState):
                layer.keys, layer.values = moved(layer.keys, 2), moved(layer.values, 2)
        self.positions, self.valid = moved(self.positions, 1), moved(self.valid, 1, 1)
        self.length -= slots
        self.dropped += slots

    @property
    def slots_back(self) -> int:
        """By how many slots the keys and values alone allow to go back: all, or what a window would still see then."""
        if not self.dropped:
            return self.length
        positions, valid = self.positions[:, : self.length], self.valid[:, : self.length]
        newest = torch.where(valid, positions, -1).amax(dim=1)
        oldest = torch.where(valid, positions, newest[:, None]).amin(dim=1)
        return max(0, int((newest + 2 - self.window - oldest).min()))

    def mapped(self, change: Callable[[Tensor], Tensor]) -> InferenceState:
        """A new state whose tensors are `change` of these. `change` must keep the meaning of all axes but the first."""
        layers: list[LayerState] = []
        for layer in self.layers:
            if isinstance(layer, MambaState):
                layers.append(MambaState(window=change(layer.window), ssm=change(layer.ssm)))
            elif isinstance(layer, KeyValueState):
                layers.append(KeyValueState(keys=change(layer.keys), values=change(layer.values)))
            elif isinstance(layer, PluginState):
                layers.append(layer.mapped(change))
            else:
                layers.append(None)
        return InferenceState(
            layers,
            change(self.num_tokens),
            change(self.positions),
            change(self.valid),
            length=self.length,
            has_padding=self.has_padding,
            window=self.window,
            dropped=self.dropped,
        )

    def snapshot(self) -> InferenceState:
        """A copy that later calls of the model do not touch."""
        return self.mapped(torch.clone)

    def restore(self, snapshot: InferenceState) -> None:
        """Go back to `snapshot`, which stays usable.

        Raises:
            UsageError: the snapshot has another number of rows.
        """
        if snapshot.batch_size != self.batch_size:
            raise UsageError(f"the snapshot has {snapshot.batch_size} rows, the state has {self.batch_size}")
        copy = snapshot.snapshot()
        self.layers, self.length, self.has_padding = copy.layers, copy.length, copy.has_padding
        self.num_tokens, self.positions, self.valid = copy.num_tokens, copy.positions, copy.valid
        self.dropped = copy.dropped

    def fork(self, copies: int) -> InferenceState:
        """Each row `copies` times, neighbours together: rows 0, 0, 1, 1 for two rows and two copies."""
        return self.mapped(lambda tensor: tensor.repeat_interleave(copies, dim=0))

    def select(self, rows: Tensor) -> InferenceState:
        """The given rows, in the given order, as a new state; a row may appear several times or not at all."""
        return self.mapped(lambda tensor: tensor.index_select(0, rows))
