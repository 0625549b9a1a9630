"""An inference state as a file: safetensors, readable by its owner only, bound to the model that it belongs to.

A state holds what was read, so its file is as private as the text (mode 0600). Names in it are ours and its version is
checked; tensors must have the shapes of the runtime's own states, and the bytes their checksum.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from mamba_slm.core.errors import CheckpointError
from mamba_slm.core.files import write_bytes_atomic
from mamba_slm.generation.runtime import Runtime, RuntimeState
from mamba_slm.generation.states.fingerprint import Fingerprint, raw_bytes
from mamba_slm.generation.states.tensors import state_of_tensors, tensors_of_state

STATE_FORMAT_VERSION = 1
PRIVATE = 0o600
DAMAGED = "delete it: a state can always be made again by reading the text"


@dataclass(frozen=True, kw_only=True)
class SavedState:
    """What a file held."""

    state: RuntimeState
    """Ready to be continued by the runtime that it was loaded for."""
    tokens: tuple[tuple[int, ...], ...]
    """What each row has read, as far as the writer knew; empty if it did not."""
    logits: Tensor | None
    """[b v] after the last token, if the writer had them."""


def save_state(
    path: Path,
    state: RuntimeState,
    fingerprint: Fingerprint,
    *,
    tokens: Sequence[Sequence[int]] = (),
    logits: Tensor | None = None,
) -> int:
    """Write a state; an older file at `path` is replaced at once or not at all.

    Args:
        tokens: what each row has read, so that a reader can continue a text of which it is the beginning.
        logits: [b v] after the last token, so that the next one needs no reading.

    Returns:
        Bytes written.

    Raises:
        DiskFullError: no room; nothing is left behind.
    """
    tensors, kind = tensors_of_state(state)
    for row, read in enumerate(tokens):
        tensors[f"tokens.{row}"] = torch.tensor(list(read), dtype=torch.int64)
    if logits is not None:
        tensors["logits"] = logits.detach().cpu().contiguous()
    facts = {
        "format_version": str(STATE_FORMAT_VERSION),
        "kind": kind,
        "fingerprint": json.dumps(asdict(fingerprint)),
        "checksum": checksum(tensors),
    }
    data = save(tensors, metadata=facts)
    write_bytes_atomic(path, data, mode=PRIVATE)
    return len(data)


def load_state(path: Path, runtime: Runtime[Any], fingerprint: Fingerprint) -> SavedState:
    """Read a state for `runtime`.

    Raises:
        CheckpointError: missing, damaged, from a newer version, or of another model, precision, runtime or tokenizer;
            says which.
    """
    tensors, facts = read_file(path)
    theirs = read_fingerprint(path, facts)
    if differing := fingerprint.differences(theirs):
        name = differing[0]
        raise CheckpointError(
            f"{path} is the state of another model: {', '.join(differing)} differ"
            f" ({name} was {getattr(theirs, name)[:60]}, is {getattr(fingerprint, name)[:60]})",
            hint="run it with the same model, --weights, --runtime and --device as when it was saved, or read the text "
            "anew",
        )
    if facts.get("checksum") != checksum(tensors):
        raise CheckpointError(f"{path} is damaged: its bytes do not have their checksum", hint=DAMAGED)
    logits = tensors.pop("logits", None)
    rows = sum(name.startswith("tokens.") for name in tensors)
    tokens = tuple(tuple(tensors.pop(f"tokens.{row}").tolist()) for row in range(rows))
    try:
        state = state_of_tensors(runtime, tensors, facts.get("kind", ""))
    except (ValueError, KeyError) as error:
        raise CheckpointError(f"{path} does not fit this model: {error}", hint=DAMAGED) from error
    return SavedState(state=state, tokens=tokens, logits=None if logits is None else logits.to(runtime.device))


def read_file(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """All tensors and facts of a file whose version is known.

    Raises:
        CheckpointError: see `load_state`.
    """
    try:
        with safe_open(path, framework="pt") as file:
            facts = file.metadata() or {}
            version = facts.get("format_version", "")
            if version.isdigit() and int(version) > STATE_FORMAT_VERSION:
                raise CheckpointError(
                    f"{path} has format version {version}, this program reads up to {STATE_FORMAT_VERSION}",
                    hint="update: pip install --upgrade mamba-slm",
                )
            if version != str(STATE_FORMAT_VERSION):
                raise CheckpointError(f"{path} is not a state of mamba-slm", hint="states are files of save_state")
            return {name: file.get_tensor(name) for name in file.keys()}, facts  # noqa: SIM118  (not a mapping)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}", hint=DAMAGED) from error


def read_fingerprint(path: Path, facts: Mapping[str, str]) -> Fingerprint:
    """What a file says it belongs to.

    Raises:
        CheckpointError: it says nothing that can be read.
    """
    try:
        return Fingerprint(**json.loads(facts["fingerprint"]))
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path} has no fingerprint that can be read: {error!r}", hint=DAMAGED) from error


def checksum(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 over names, shapes, dtypes and values."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(raw_bytes(tensor))
    return digest.hexdigest()
