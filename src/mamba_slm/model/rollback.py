"""Taking tokens back: a state that remembers can return to any cut since it began to.

Keys and values of tokens that are taken back are simply no longer counted. The state of a Mamba layer cannot be
shortened; its history keeps what the projection made of every token (a few kilobytes per token and layer, where a state
takes hundreds), from which the tokens that stay are read again, without the model's matrices.
"""

from __future__ import annotations

import torch

from mamba_slm.core.errors import UsageError
from mamba_slm.model.mamba2 import Mamba2
from mamba_slm.model.plugin_mixer import require_no_plugin_state
from mamba_slm.model.stack import Backbone
from mamba_slm.model.state import InferenceState, MambaHistory, MambaState, PluginState


def remember(state: InferenceState) -> None:
    """Keep from here on what `roll_back` needs. A history that is there already stays.

    Single tokens go the plain way while a state remembers, also in the compiled runtime and without CUDA graphs; copies
    of the state (`snapshot`, `fork`, `select`) do not remember.
    """
    for layer in mamba_layers(state):
        if layer.history is None:  # copied: whoever made the state may write into its memory
            layer.history = MambaHistory(window=layer.window.clone(), ssm=layer.ssm.clone())


def forget(state: InferenceState) -> None:
    """Drop the histories and their memory."""
    for layer in mamba_layers(state):
        layer.history = None


def can_roll_back(state: InferenceState) -> int:
    """By how many slots a state can go back: all of its tokens where nothing but attention remembers, none where the
    sublayer of a plugin does."""
    if any(isinstance(layer, PluginState) for layer in state.layers):
        return 0
    layers = mamba_layers(state)
    counts = [0 if layer.history is None else sum(dt.shape[1] for _, dt, _ in layer.history.inputs) for layer in layers]
    return min(counts, default=state.slots_back)


@torch.no_grad()
def roll_back(model: Backbone, state: InferenceState, num_slots: int, *, forget: bool = False) -> None:
    """Take the last `num_slots` tokens of every row back, padding among them included.

    What follows is what would have followed without them, up to the rounding of a scan against single steps.

    Args:
        model: that read the tokens.
        state: on which `remember` was called before they were read; changed in place.
        num_slots: from 0 up to `can_roll_back`.
        forget: let the history start anew here, which frees its memory; else one may go back further later.

    Raises:
        UsageError: the state does not remember so many; it is as it was.
    """
    require_no_plugin_state(state.layers, "taking tokens back")
    if not 0 <= num_slots <= (most := can_roll_back(state)):
        raise UsageError(
            f"cannot go back {num_slots} tokens: the state remembers {most}",
            hint="call remember(state) before reading what may have to be taken back",
        )
    for sublayer, layer in zip(model.sublayers, state.layers, strict=True):
        if isinstance(layer, MambaState):
            assert isinstance(sublayer.mixer, Mamba2)
            sublayer.mixer.undo(layer, num_slots, forget=forget)
    kept = state.length - num_slots
    state.num_tokens = state.num_tokens - state.valid[:, kept : state.length].sum(dim=1)
    state.valid[:, kept : state.length] = True  # what unused slots hold
    state.length = kept


def mamba_layers(state: InferenceState) -> list[MambaState]:
    """Those whose states cannot be shortened."""
    return [layer for layer in state.layers if isinstance(layer, MambaState)]
