"""Several adapters as one, whose change is the weighted sum of theirs; without a model, from the folders alone.

concatenate   A and B are put side by side: exactly the sum, with the sum of the ranks
svd           the sum, cut to a rank by its singular values: the nearest there is of that rank
linear        A and B are summed each for itself, as peft's "linear": small, but not the sum of the changes
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import torch
from safetensors.torch import save_file
from torch import Tensor

from mamba_slm.core.errors import CheckpointError, UsageError
from mamba_slm.core.files import write_json_atomic
from mamba_slm.core.output import new_output
from mamba_slm.model.adapter_choice import AdapterChoice
from mamba_slm.model.adapter_folder import (
    ADAPTER_FORMAT_VERSION,
    CONFIG_FILE,
    DESCRIPTION_FILE,
    PEFT_PREFIX,
    WEIGHTS_FILE,
    Adapter,
    LowRank,
    read_adapter,
)
from mamba_slm.model.checkpoint import BACKBONE_PREFIX, resolve_model_folder
from mamba_slm.model.checkpoint import WEIGHTS_FILE as MODEL_WEIGHTS_FILE
from mamba_slm.model.stored import open_tensors

Combination = Literal["concatenate", "svd", "linear"]
COMBINATIONS: tuple[Combination, ...] = ("concatenate", "svd", "linear")


def combine_adapters(
    choices: Sequence[AdapterChoice],
    out: Path,
    *,
    how: Combination = "concatenate",
    rank: int | None = None,
    overwrite: bool = False,
) -> dict[str, LowRank]:
    """Write one adapter that does what several do together.

    Args:
        choices: with their weights.
        rank: of the result of "svd"; the largest of theirs if not given.

    Returns:
        The changes by matrix, as they were written.

    Raises:
        UsageError: they cannot be combined like that, or `out` exists.
        DataError, CheckpointError: as `read_adapter`; or they belong to different models.
    """
    adapters = [read_adapter(choice.folder) for choice in choices]
    require_combinable(adapters, how, rank)
    weights = [choice.weight for choice in choices]
    low_rank = {}
    for name in sorted({name for adapter in adapters for name in adapter.low_rank}):
        parts = [
            (w, adapter.low_rank[name])
            for w, adapter in zip(weights, adapters, strict=True)
            if name in adapter.low_rank
        ]
        low_rank[name] = combined(parts, how, rank)
    full = combined_full(adapters, weights)
    with new_output(out, needed_bytes=0, overwrite=overwrite) as folder:
        write_adapter(folder, adapters, low_rank, full, final=out)
    return low_rank


def require_combinable(adapters: Sequence[Adapter], how: str, rank: int | None) -> None:
    """Raise UsageError or CheckpointError for adapters that no single one can stand for."""
    if how not in COMBINATIONS:
        raise UsageError(f"there is no way to combine called {how!r}", hint=f"one of {', '.join(COMBINATIONS)}")
    if rank is not None and (how != "svd" or rank < 1):
        raise UsageError("a rank above 0 can be chosen for svd alone", hint="--how svd --rank N")
    first = adapters[0].description
    for adapter in adapters:
        description = adapter.description
        if description.base_fingerprint != first.base_fingerprint:
            raise CheckpointError(
                f"{description.folder} and {first.folder} belong to different models",
                hint="adapters of one model can be combined",
            )
        if any(one.magnitude is not None for one in adapter.low_rank.values()):
            raise UsageError(
                f"{description.folder} is a DoRA adapter, whose change is no sum that another could be added to",
                hint="merge it into the model instead: mamba-slm adapters merge FOLDER --into MODEL --out FOLDER",
            )


@torch.no_grad()
def combined(parts: Sequence[tuple[float, LowRank]], how: Combination, rank: int | None = None) -> LowRank:
    """One change of a matrix for several, of scale 1.

    Raises:
        UsageError: ranks differ, for "linear".
    """
    signed = [(math.copysign(1.0, weight), math.sqrt(abs(weight) * one.scale), one) for weight, one in parts]
    if how == "linear":
        ranks = sorted({one.A.shape[0] for _, one in parts})
        if len(ranks) > 1:
            raise UsageError(
                f"adapters of ranks {', '.join(map(str, ranks))} cannot be summed matrix by matrix",
                hint="--how concatenate, or --how svd --rank N",
            )
        A = torch.stack([sign * size * one.A.float() for sign, size, one in signed]).sum(dim=0)
        B = torch.stack([size * one.B.float() for _, size, one in signed]).sum(dim=0)
        return LowRank(A=A, B=B, scale=1.0)
    A = torch.cat([sign * size * one.A.float() for sign, size, one in signed])
    B = torch.cat([size * one.B.float() for _, size, one in signed], dim=1)
    if how == "concatenate":
        return LowRank(A=A, B=B, scale=1.0)
    wanted = rank or max(one.A.shape[0] for _, one in parts)
    return nearest(A, B, min(wanted, *A.shape, *B.shape))


def nearest(A: Tensor, B: Tensor, rank: int) -> LowRank:
    """The nearest to B·A of a rank, without making the product: of Q1·(R1·R2ᵀ)·Q2ᵀ the middle is small."""
    left, upper_left = torch.linalg.qr(B)
    right, upper_right = torch.linalg.qr(A.T)
    U, values, Vh = torch.linalg.svd(upper_left @ upper_right.T)
    roots = values[:rank].sqrt()
    return LowRank(A=(right @ Vh[:rank].T * roots).T.contiguous(), B=left @ U[:, :rank] * roots, scale=1.0)


def combined_full(adapters: Sequence[Adapter], weights: Sequence[float]) -> dict[str, Tensor]:
    """Values of tensors trained in full: those of the base and the weighted changes.

    Raises:
        DataError: the base is needed for this and has moved.
    """
    names = sorted({name for adapter in adapters for name in adapter.full})
    if not names:
        return {}
    base = base_tensors(adapters[0])
    found = {}
    for name in names:
        value = base[name].float()
        changes = [w * (a.full[name].float() - value) for w, a in zip(weights, adapters, strict=True) if name in a.full]
        found[name] = value + torch.stack(changes).sum(dim=0)
    return found


def base_tensors(adapter: Adapter) -> Mapping[str, Tensor]:
    """The weights of the model that an adapter says it belongs to."""
    folder = resolve_model_folder(adapter.description.base_path or Path("base model"))
    stored = open_tensors(folder, "model", MODEL_WEIGHTS_FILE)
    return {name.removeprefix(BACKBONE_PREFIX): stored[name] for name in stored}


def write_adapter(
    folder: Path,
    adapters: Sequence[Adapter],
    low_rank: Mapping[str, LowRank],
    full: Mapping[str, Tensor],
    *,
    final: Path,
) -> None:
    """Write an adapter folder that peft reads, with the rank of every matrix of its own.

    Args:
        final: where the folder will be.
    """
    first = adapters[0].description
    ranks = {name.removesuffix(".weight"): one.A.shape[0] for name, one in low_rank.items()}
    most = max(ranks.values(), default=1)
    config = {
        **first.config,
        "r": most,
        "lora_alpha": most,
        "use_rslora": False,
        "target_modules": sorted({name.rpartition(".")[2] for name in ranks}),
        "rank_pattern": {hf_name(name): rank for name, rank in ranks.items() if rank != most},
        "alpha_pattern": {hf_name(name): rank for name, rank in ranks.items() if rank != most},
    }
    tensors = {}
    for name, one in low_rank.items():
        module = f"{PEFT_PREFIX}{hf_name(name.removesuffix('.weight'))}"
        A, B = ("lora_A.weight", one.A), ("lora_B.weight", one.B)
        if name == "embedding.weight":  # [v d] is kept as [rank v] and [d rank]
            A, B = ("lora_embedding_A", one.B.T), ("lora_embedding_B", one.A.T)
        tensors |= {f"{module}.{part}": value.contiguous() for part, value in (A, B)}
    tensors |= {f"{PEFT_PREFIX}{hf_name(name)}": value.contiguous() for name, value in full.items()}
    description = {
        "format_version": ADAPTER_FORMAT_VERSION,
        "base_fingerprint": first.base_fingerprint,
        "base_path": str(first.base_path) if first.base_path else None,
        "base_path_from_here": os.path.relpath(first.base_path, final.resolve()) if first.base_path else None,
        "trained_in_full": [hf_name(name) for name in full],
        "settings": None,
        "combined_from": [str(adapter.description.folder) for adapter in adapters],
    }
    save_file(tensors, folder / WEIGHTS_FILE, metadata={"format": "pt"})
    (folder / WEIGHTS_FILE).chmod(0o644)  # safetensors lets nobody else read what it writes
    (folder / CONFIG_FILE).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    write_json_atomic(folder / DESCRIPTION_FILE, description)


def hf_name(name: str) -> str:
    """A name of `LanguageModel` in the model of transformers."""
    return name if name.startswith("lm_head") else BACKBONE_PREFIX + name
