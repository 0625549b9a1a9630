"""An adapter in memory, ready to be added to the products of one model.

y = W x                                       the base
y = W x + (scale · B) (A x)                   LoRA
y = ratio ∘ (W x + (scale · B) (A x))         DoRA; ratio = m / ‖rows of W + scale · B · A‖

Letters: r rank, i inputs, o outputs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from mamba_slm.core.errors import CheckpointError
from mamba_slm.core.files import sha256_of_file
from mamba_slm.model.adapter_folder import CONFIG_FILE, WEIGHTS_FILE, LowRank, read_adapter, require_same_base
from mamba_slm.model.matrices import EMBEDDING, HEAD, matrix_shapes
from mamba_slm.model.packed import PackedModel
from mamba_slm.model.projection import product_dtype
from mamba_slm.model.stack import LanguageModel
from mamba_slm.text.chat_template import read_chat_template
from mamba_slm.text.tokenizer import Tokenizer

MERGE = "serve it as a model of its own: mamba-slm adapters merge ADAPTER --into base --out FOLDER"
TOKENIZER_FILE = "tokenizer.json"


@dataclass(frozen=True, kw_only=True)
class Change:
    """What is added to the product with one matrix [o i]."""

    A: Tensor
    """[r i]"""
    B: Tensor
    """[o r], multiplied by the scale."""
    ratio: Tensor | None = None
    """[o] by which the sum is multiplied (DoRA)."""


@dataclass(frozen=True, kw_only=True)
class LoadedAdapter:
    """Never changes; an adapter whose files changed is another one."""

    name: str
    digest: str
    """SHA-256 of its files."""
    changes: Mapping[str, Change]
    """By the name of the module, "sublayers.0.mixer.in_proj"."""
    full: Mapping[str, Tensor]
    """Small tensors of its own, by their names in the model."""
    template: str | None = None
    """Of chats, where it has one of its own."""

    @property
    def key(self) -> str:
        """What requests, sequences and caches call it: states of an earlier version are not those of this one."""
        return f"{self.name}@{self.digest[:16]}"

    @property
    def num_bytes(self) -> int:
        """Of memory."""
        parts = [tensor for one in self.changes.values() for tensor in (one.A, one.B, one.ratio) if tensor is not None]
        return sum(tensor.nbytes for tensor in (*parts, *self.full.values()))


def digest_of(folder: Path) -> str:
    """SHA-256 of the files of an adapter that decide what it computes."""
    return hashlib.sha256(
        "".join(sha256_of_file(folder / name) for name in (CONFIG_FILE, WEIGHTS_FILE)).encode()
    ).hexdigest()


@torch.no_grad()
def load(
    name: str, folder: Path, model: LanguageModel, *, base_fingerprint: str, tokenizer_fingerprint: str | None = None
) -> LoadedAdapter:
    """Read an adapter for a model, which stays as it is. It is copied: its files may change or go afterwards.

    Args:
        base_fingerprint: of the model (`model/fingerprint.py`).
        tokenizer_fingerprint: of the one that it is served with; None: whatever tokenizer the adapter brings.

    Raises:
        DataError: no adapter there.
        CheckpointError: damaged, of another model, or of a kind that cannot run beside others.
    """
    digest = digest_of(folder)
    adapter = read_adapter(folder)
    require_same_base(adapter.description, base_fingerprint)
    own_tokenizer = folder / TOKENIZER_FILE
    has_own = tokenizer_fingerprint is not None and own_tokenizer.is_file()
    if has_own and Tokenizer.load(own_tokenizer).fingerprint != tokenizer_fingerprint:
        raise CheckpointError(f"the adapter {name!r} was trained with another tokenizer", hint=MERGE)
    shapes = matrix_shapes(model.config)
    changes: dict[str, Change] = {}
    for weight_name, low_rank in adapter.low_rank.items():
        module, shape = weight_name.removesuffix(".weight"), (low_rank.B.shape[0], low_rank.A.shape[1])
        if module in (EMBEDDING, HEAD):
            raise CheckpointError(f"the adapter {name!r} changes {module}, which all requests share", hint=MERGE)
        if shapes.get(module) != shape:
            raise unfitting(name, module, shape, shapes.get(module))
        changes[module] = change_of(name, module, low_rank, model)
    parameters = dict(model.named_parameters())
    full: dict[str, Tensor] = {}
    for tensor_name, stored in adapter.full.items():
        if tensor_name.removesuffix(".weight") in {*shapes, EMBEDDING, HEAD}:
            raise CheckpointError(f"the adapter {name!r} brings a {tensor_name} of its own", hint=MERGE)
        own = parameters.get(tensor_name)
        if own is None or own.shape != stored.shape:
            raise unfitting(name, tensor_name, tuple(stored.shape), None if own is None else tuple(own.shape))
        full[tensor_name] = stored.to(own.device, own.dtype, copy=True)
    template = read_chat_template(folder)
    if digest_of(folder) != digest:
        raise CheckpointError(f"the adapter {folder} changed while it was read", hint="load it again")
    return LoadedAdapter(name=name, digest=digest, changes=changes, full=full, template=template)


def change_of(name: str, module_name: str, low_rank: LowRank, model: LanguageModel) -> Change:
    """One matrix's change in the dtype of its products.

    Raises:
        CheckpointError: it is one of DoRA, and the weights are packed.
    """
    weight = model.get_submodule(module_name).weight
    assert isinstance(weight, Tensor)
    device, dtype = weight.device, product_dtype(weight)
    ratio = None
    if low_rank.magnitude is not None:
        if isinstance(model, PackedModel):
            raise CheckpointError(
                f"the adapter {name!r} is one of DoRA, which needs the lengths of the rows of {module_name}, and these "
                "are packed",
                hint=f"leave out --weights, or {MERGE}",
            )
        moved = weight.float() + low_rank.to(device).delta()
        ratio = (low_rank.magnitude.to(device).float() / torch.linalg.vector_norm(moved, dim=1)).to(dtype)
    return Change(
        A=low_rank.A.to(device, dtype, copy=True).contiguous(),
        B=(low_rank.scale * low_rank.B.float()).to(device, dtype, copy=True).contiguous(),
        ratio=ratio,
    )


def unfitting(name: str, what: str, shape: tuple[int, ...], there: tuple[int, ...] | None) -> CheckpointError:
    """The error for a tensor of another shape."""
    return CheckpointError(
        f"the adapter {name!r} changes {what} {shape}, which is {there or 'not there'} in the model",
        hint="it belongs to another model",
    )
