"""Places that one state can return to, without a copy of what only grows.

A mark holds the states of Mamba layers and the number of used slots. Keys and values behind that number are not counted
and will be overwritten, so they need no copy. A mark is of use as long as the state only went forward from it or came
back to an earlier mark of its own; use `snapshot` for anything else.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from mamba_slm.generation.runtime import RuntimeState
from mamba_slm.model.state import InferenceState, MambaState


@dataclass(frozen=True)
class PlaceInState:
    """Of an `InferenceState`."""

    length: int
    num_tokens: Tensor
    """[b]."""
    mamba: tuple[tuple[Tensor, Tensor], ...]
    """Window and SSM state of each Mamba layer."""


Mark = PlaceInState | RuntimeState
"""Other runtimes' states are copied as a whole."""


def mark(state: Any) -> Mark:
    """Where a state is now. One with a window of attention is copied: it may drop slots that would be seen again."""
    if not isinstance(state, InferenceState) or state.window:
        return state.snapshot()
    layers = [layer for layer in state.layers if isinstance(layer, MambaState)]
    copies = tuple((layer.window.clone(), layer.ssm.clone()) for layer in layers)
    return PlaceInState(state.length, state.num_tokens.clone(), copies)


def rewind(state: Any, place: Mark) -> None:
    """Go back to a mark, which is used up: the state may write into its memory."""
    if not isinstance(place, PlaceInState):
        state.restore(place)
        return
    state.valid[:, place.length : state.length] = True  # what unused slots hold
    state.length, state.num_tokens = place.length, place.num_tokens
    layers = [layer for layer in state.layers if isinstance(layer, MambaState)]
    for layer, (window, ssm) in zip(layers, place.mamba, strict=True):
        layer.window, layer.ssm, layer.history = window, ssm, None
