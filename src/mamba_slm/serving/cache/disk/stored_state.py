"""A state of a pool as tensors on the CPU, and back.

Letters: a attention layers' number, m Mamba layers' number, t tokens, k key-value heads, d head dim, v vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from mamba_slm.core.errors import CheckpointError
from mamba_slm.model.pattern import ATTENTION, MAMBA
from mamba_slm.serving.memory.pool import Pool, Snapshot


@dataclass(frozen=True, kw_only=True)
class StoredState:
    """What can be continued in any pool of the same model."""

    num_tokens: int
    tensors: Mapping[str, Tensor]
    """Windows and SSM states "m.window" and "m.ssm", keys and values "a.keys" and "a.values" [t k d], and "logits" [v]
    where they are known."""

    @property
    def num_bytes(self) -> int:
        """Of all tensors."""
        return sum(tensor.nbytes for tensor in self.tensors.values())


def state_of(pool: Pool, snapshot: Snapshot, logits: Tensor | None) -> StoredState:
    """A copy of a snapshot that needs the pool no more; Mamba states, which nobody changes, are shared on a CPU."""
    tensors: dict[str, Tensor] = {}
    for number, (window, ssm) in enumerate(snapshot.mamba):
        tensors[f"{number}.window"], tensors[f"{number}.ssm"] = window.cpu().contiguous(), ssm.cpu().contiguous()
    blocks = torch.tensor(snapshot.blocks, dtype=torch.int64, device=pool.device)
    for number, pair in enumerate(pool.of_kind(ATTENTION)):
        for name, memory in zip(("keys", "values"), pair, strict=True):
            columns = memory[blocks].transpose(1, 2).flatten(0, 1)[: snapshot.num_tokens]
            tensors[f"{number}.{name}"] = columns.cpu().contiguous()
    if logits is not None:
        tensors["logits"] = logits.float().cpu().contiguous()
    return StoredState(num_tokens=snapshot.num_tokens, tensors=tensors)


def checked(pool: Pool, num_tokens: int, tensors: Mapping[str, Tensor]) -> StoredState:
    """A state whose tensors have the names, shapes and dtypes that the pool wants.

    Raises:
        CheckpointError: they do not.
    """
    config = pool.config
    expected: dict[str, tuple[tuple[int, ...], torch.dtype]] = {}
    for number, (window, ssm) in enumerate(pool.of_kind(MAMBA)):
        expected[f"{number}.window"] = (tuple(window.shape[1:]), window.dtype)
        expected[f"{number}.ssm"] = (tuple(ssm.shape[1:]), ssm.dtype)
    for number, (keys, _) in enumerate(pool.of_kind(ATTENTION)):
        for name in ("keys", "values"):
            expected[f"{number}.{name}"] = ((num_tokens, config.num_kv_heads, config.head_dim), keys.dtype)
    if "logits" in tensors:
        expected["logits"] = ((config.vocab_size,), torch.float32)
    found = {name: (tuple(tensor.shape), tensor.dtype) for name, tensor in tensors.items()}
    if found != expected or not 0 < num_tokens <= config.max_context_tokens:
        raise CheckpointError("it is a state of another model")
    return StoredState(num_tokens=num_tokens, tensors=tensors)


def snapshot_in(pool: Pool, state: StoredState) -> Snapshot | None:
    """The state in blocks of the pool, which its caller holds then; None where too few are free."""
    blocks = pool.blocks.take(-(-state.num_tokens // pool.block_tokens))
    if blocks is None:
        return None
    try:
        return _copied(pool, state, blocks)
    except BaseException:
        pool.blocks.release(blocks)
        raise


def _copied(pool: Pool, state: StoredState, blocks: list[int]) -> Snapshot:
    """The state, its keys and values in these blocks."""
    size = pool.block_tokens
    places = torch.arange(state.num_tokens, device=pool.device)
    block, offset = torch.tensor(blocks, device=pool.device)[places // size], places % size
    for number, pair in enumerate(pool.of_kind(ATTENTION)):
        for name, memory in zip(("keys", "values"), pair, strict=True):
            memory[block, :, offset] = state.tensors[f"{number}.{name}"].to(pool.device)
    mamba = tuple(
        (state.tensors[f"{number}.window"].to(pool.device), state.tensors[f"{number}.ssm"].to(pool.device))
        for number in range(len(pool.of_kind(MAMBA)))
    )
    return Snapshot(num_tokens=state.num_tokens, mamba=mamba, blocks=tuple(blocks))
