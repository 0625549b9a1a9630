"""The states of all random generators, as JSON: torch (CPU and GPUs), NumPy and Python."""

from __future__ import annotations

import base64
import contextlib
import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch


def random_states() -> dict[str, Any]:
    """The state of every global generator."""
    version, words, gauss = random.getstate()
    numpy_state = np.random.get_state(legacy=False)
    return {
        "torch": encode(torch.get_rng_state()),
        "cuda": [encode(state) for state in torch.cuda.get_rng_state_all()] if torch.cuda.is_available() else [],
        "numpy": {
            **{key: value for key, value in numpy_state.items() if key != "state"},
            "state": {"key": numpy_state["state"]["key"].tolist(), "pos": numpy_state["state"]["pos"]},
        },
        "python": [version, list(words), gauss],
    }


def set_random_states(states: dict[str, Any]) -> None:
    """Put back what `random_states` gave. States of GPUs that this machine does not have are left out."""
    torch.set_rng_state(decode(states["torch"]))
    if torch.cuda.is_available():
        for index, state in enumerate(states["cuda"][: torch.cuda.device_count()]):
            torch.cuda.set_rng_state(decode(state), index)
    key = np.array(states["numpy"]["state"]["key"], dtype=np.uint32)
    np.random.set_state({**states["numpy"], "state": {"key": key, "pos": states["numpy"]["state"]["pos"]}})
    version, words, gauss = states["python"]
    random.setstate((version, tuple(words), gauss))


@contextlib.contextmanager
def random_states_kept() -> Iterator[None]:
    """What runs inside may draw random numbers; afterwards every generator is where it was."""
    states = random_states()
    try:
        yield
    finally:
        set_random_states(states)


def encode(state: torch.Tensor) -> str:
    """Bytes of a generator's state as text."""
    return base64.b64encode(state.numpy().tobytes()).decode("ascii")


def decode(text: str) -> torch.Tensor:
    """The inverse of `encode`."""
    return torch.frombuffer(bytearray(base64.b64decode(text)), dtype=torch.uint8)
