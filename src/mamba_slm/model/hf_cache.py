"""Our inference state inside a cache of transformers: dynamic, static, or whatever `generate` made.

A cache of transformers is a list of layers, one per token mixer. Those of attention stay theirs. For a Mamba-2 mixer
theirs cannot go back (it holds no past of the recurrent state), so `adopt` puts ours in its place while it is empty:
with it, assisted generation rejects drafted tokens exactly.

Letters: b batch, t time, s slots.
"""

from __future__ import annotations

import weakref
from typing import Any

import mamba_slm.model.hf_config  # noqa: F401  first: it says what to install

# isort: split
import torch
from torch import Tensor
from transformers.cache_utils import Cache, CacheLayerMixin, StaticLayer

from mamba_slm.core.errors import UsageError
from mamba_slm.model.config import ModelConfig
from mamba_slm.model.mamba2 import Mamba2
from mamba_slm.model.pattern import ATTENTION, MAMBA, require_own_letters
from mamba_slm.model.stack import Backbone
from mamba_slm.model.state import InferenceState, KeyValueState, LayerState, MambaHistory, MambaState


class MambaCacheLayer(CacheLayerMixin):
    """The memory of one Mamba-2 mixer as a layer of a cache. It can go back by any number of tokens since the last
    `crop`, once `activate_past_recording` was called."""

    def __init__(self, mixer: Mamba2, *, record_past: bool):
        super().__init__()
        self.mixer = weakref.ref(mixer)  # copies of a cache share the model
        self.state: MambaState | None = None
        self.record_past = record_past
        self.num_tokens = 0

    def state_for(
        self, batch_size: int, config: ModelConfig, *, device: torch.device, dtype: torch.dtype
    ) -> MambaState:
        """The state that the model advances; made at the first call."""
        if self.state is None:
            window = torch.zeros(batch_size, config.conv_kernel - 1, config.conv_size, dtype=dtype, device=device)
            size = (batch_size, config.num_ssm_heads, config.ssm_head_dim, config.state_size)
            self.state = MambaState(window=window, ssm=torch.zeros(size, dtype=torch.float32, device=device))
            self.is_initialized = True
        if self.record_past and self.state.history is None:
            self.state.history = MambaHistory(window=self.state.window, ssm=self.state.ssm)
        return self.state

    @property
    def is_croppable(self) -> bool:  # type: ignore[override]
        """Whether `crop` can go back."""
        return self.record_past

    @property
    def batch_size(self) -> int:
        """Rows; -1 before the first call, as transformers says it."""
        return -1 if self.state is None else self.state.ssm.shape[0]

    def activate_past_recording(self) -> None:
        """Keep what `crop` needs from now on."""
        self.record_past = True

    def crop(self, tokens_to_remove: int) -> None:
        """Forget the last -`tokens_to_remove` tokens (0 or negative, as transformers counts).

        Raises:
            UsageError: positive, or more tokens than have been read since past recording began or since the last crop.
        """
        if tokens_to_remove > 0:
            raise UsageError(f"crop takes a negative number of tokens to remove, got {tokens_to_remove}")
        mixer = self.mixer()
        if self.state is None or mixer is None or (tokens_to_remove == 0 and self.state.history is None):
            return
        with torch.no_grad():
            mixer.undo(self.state, -tokens_to_remove)
        self.num_tokens += tokens_to_remove

    def get_seq_length(self) -> int:
        """Tokens read, padding included."""
        return self.num_tokens

    def get_max_length(self) -> int:
        """No limit."""
        return -1

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Length and offset of the keys that a mask would cover."""
        return self.num_tokens + query_length, 0

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Nothing: `state_for` does it."""

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Not for this layer.

        Raises:
            UsageError: always.
        """
        raise UsageError("a Mamba layer of the cache holds no keys and values")

    def change(self, function: Any) -> None:
        """Apply `function`, which picks rows, to all tensors."""
        if self.state is None:
            return
        history = self.state.history
        if history is not None:
            inputs = [tuple(None if part is None else function(part) for part in piece) for piece in history.inputs]
            history = MambaHistory(window=function(history.window), ssm=function(history.ssm), inputs=inputs)  # type: ignore[arg-type]
        self.state = MambaState(window=function(self.state.window), ssm=function(self.state.ssm), history=history)

    def reorder_cache(self, beam_idx: Tensor) -> None:
        """Rows in the order that beam search wants."""
        self.change(lambda tensor: tensor.index_select(0, beam_idx.to(tensor.device)))

    def batch_repeat_interleave(self, repeats: int) -> None:
        """Each row `repeats` times, neighbours together."""
        self.change(lambda tensor: tensor.repeat_interleave(repeats, dim=0))

    def batch_select_indices(self, indices: Tensor) -> None:
        """Only these rows."""
        self.change(lambda tensor: tensor[indices])

    def reset(self) -> None:
        """Back to before the first token."""
        self.state, self.num_tokens, self.is_initialized = None, 0, False

    def offload(self) -> None:
        """To the CPU."""
        self.change(lambda tensor: tensor.to("cpu"))

    def prefetch(self) -> None:
        """Back to where the mixer is."""
        mixer = self.mixer()
        if mixer is not None:
            self.change(lambda tensor: tensor.to(mixer.A_log.device))


class CachedKeyValues(KeyValueState):
    """Keys and values that a layer of a cache of transformers keeps."""

    def __init__(self, cache: Cache, layer_index: int):
        super().__init__(keys=torch.empty(0), values=torch.empty(0))
        self.cache, self.layer_index = cache, layer_index

    def append(self, keys: Tensor, values: Tensor, length: int) -> tuple[Tensor, Tensor]:
        """Write [b t k d]; return all used keys and values as [b length+t k d]."""
        end = length + keys.shape[1]
        found = self.cache.update(keys.transpose(1, 2), values.transpose(1, 2), self.layer_index)
        return found[0][:, :, :end].transpose(1, 2), found[1][:, :, :end].transpose(1, 2)  # a static layer is longer


def adopt(cache: Cache, backbone: Backbone) -> None:
    """Put our layers where the cache has empty ones for recurrent mixers.

    Raises:
        UsageError: the cache was made for another model, or another model has written into it.
        ConfigError: the model has a sublayer of a plugin.
    """
    require_own_letters(backbone.architecture.pattern, "a cache of transformers", hint="use_cache=False")
    kinds, mixers = mixers_of(backbone)
    if not cache.layers and getattr(cache, "layer_class_to_replicate", None) is not None:
        raise UsageError("the cache was made without the model's config", hint="DynamicCache(config=model.config)")
    if len(cache.layers) != len(kinds):
        raise UsageError(f"the cache has {len(cache.layers)} layers, the model has {len(kinds)} token mixers")
    for index, (kind, mixer) in enumerate(zip(kinds, mixers, strict=True)):
        layer: Any = cache.layers[index]
        if kind == ATTENTION or isinstance(layer, MambaCacheLayer):
            continue
        if any(getattr(layer, "is_recurrent_states_initialized", {}).values()):
            raise UsageError(f"layer {index} of the cache holds the state of another model")
        assert isinstance(mixer, Mamba2)
        cache.layers[index] = MambaCacheLayer(mixer, record_past=getattr(layer, "record_past", False))


def mixers_of(backbone: Backbone) -> tuple[list[str], list[torch.nn.Module]]:
    """Letter and module of every token mixer."""
    pairs = [(sub.kind, sub.mixer) for sub in backbone.sublayers if sub.kind in (MAMBA, ATTENTION)]
    return [str(kind) for kind, _ in pairs], [mixer for _, mixer in pairs]  # type: ignore[misc]


def used_slots(cache: Cache) -> int:
    """Tokens in the cache, padding included."""
    return int(cache.get_seq_length())


def state_of(
    cache: Cache,
    backbone: Backbone,
    *,
    size: tuple[int, int],
    key_mask: Tensor | None,
    device: torch.device,
    dtype: torch.dtype,
) -> InferenceState:
    """The adopted cache as an inference state, for one call with `size` (b, t) new tokens.

    Args:
        key_mask: [b s+t] False where a slot holds padding, as transformers passes it to every call; None for none.

    Raises:
        UsageError: another number of rows, or more tokens than fit into a static cache.
    """
    b, t = size
    past = used_slots(cache)
    layers: list[LayerState] = []
    index = 0
    for sublayer in backbone.sublayers:
        if sublayer.kind == MAMBA:
            layer = cache.layers[index]
            assert isinstance(layer, MambaCacheLayer)
            if layer.state is not None and layer.batch_size != b:
                raise UsageError(f"the cache has {layer.batch_size} rows, the tokens have {b}")
            layers.append(layer.state_for(b, backbone.architecture, device=device, dtype=dtype))
            index += 1
        elif sublayer.kind == ATTENTION:
            layer = cache.layers[index]
            if isinstance(layer, StaticLayer) and past + t > layer.max_cache_len:
                raise UsageError(
                    f"{past + t} tokens do not fit into a static cache of {layer.max_cache_len}",
                    hint="make it longer: max_cache_len",
                )
            layers.append(CachedKeyValues(cache, index))
            index += 1
        else:
            layers.append(None)
    slots = torch.arange(past + t, device=device).expand(b, past + t)
    if key_mask is None:
        num_tokens, valid = slots.new_full((b,), past), torch.ones_like(slots, dtype=torch.bool)
    else:
        valid = key_mask
        num_tokens = valid[:, :past].sum(dim=1)
        slots = (valid.cumsum(dim=1) - 1).clamp(min=0)
    has_padding = key_mask is not None
    return InferenceState(layers, num_tokens, slots.contiguous(), valid.clone(), length=past, has_padding=has_padding)


def count_tokens(cache: Cache, new_tokens: int) -> None:
    """Tell our layers that a call is over."""
    for layer in cache.layers:
        if isinstance(layer, MambaCacheLayer):
            layer.num_tokens += new_tokens
