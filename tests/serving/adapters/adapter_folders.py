"""Adapters of random numbers, as folders in the form of peft."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import save_file

from mamba_slm.model.adapter_folder import CONFIG_FILE, DESCRIPTION_FILE, PEFT_PREFIX, WEIGHTS_FILE
from mamba_slm.model.checkpoint import BACKBONE_PREFIX
from mamba_slm.model.fingerprint import fingerprint
from mamba_slm.model.matrices import matrix_shapes
from mamba_slm.model.stack import LanguageModel

SMALL = ("A_log", "D", "dt_bias", "conv_weight", "conv_bias", "norm.weight")
"""Endings of the tensors that may be trained in full."""


def write_adapter(
    folder: Path,
    model: LanguageModel,
    *,
    rank: int = 3,
    parts: tuple[str, ...] = ("in_proj", "out_proj", "q_proj", "v_proj", "o_proj", "gate_up_proj", "down_proj"),
    full: tuple[str, ...] = (),
    dora: bool = False,
    seed: int = 1,
    strength: float = 0.3,
) -> Path:
    """Write an adapter of `model` that changes what it says."""
    generator = torch.Generator().manual_seed(seed)
    tensors, parameters = {}, dict(model.named_parameters())
    for name, (outputs, inputs) in matrix_shapes(model.config).items():
        if not name.endswith(parts):
            continue
        key = f"{PEFT_PREFIX}{BACKBONE_PREFIX}{name}"
        A, B = ("lora_embedding_A", "lora_embedding_B") if name == "embedding" else ("lora_A.weight", "lora_B.weight")
        wide = outputs if name == "embedding" else inputs
        tensors[f"{key}.{A}"] = torch.randn(rank, wide, generator=generator) / wide**0.5
        tensors[f"{key}.{B}"] = torch.randn(inputs if name == "embedding" else outputs, rank, generator=generator)
        tensors[f"{key}.{B}"] *= strength / rank
        if dora:
            lengths = parameters[f"{name}.weight"].norm(dim=1)
            tensors[f"{key}.lora_magnitude_vector"] = lengths * (1 + 0.1 * torch.rand(outputs, generator=generator))
    for name, parameter in parameters.items():
        if full and name.endswith(full):
            change = 0.3 * torch.randn(parameter.shape, generator=generator)
            tensors[f"{PEFT_PREFIX}{BACKBONE_PREFIX}{name}"] = parameter.detach() + change
    folder.mkdir(parents=True)
    config = {"peft_type": "LORA", "r": rank, "lora_alpha": 2 * rank, "use_dora": dora}
    (folder / CONFIG_FILE).write_text(json.dumps(config), encoding="utf-8")
    save_file(tensors, folder / WEIGHTS_FILE)
    described = {"format_version": 1, "base_fingerprint": fingerprint(model.config, model.state_dict())}
    (folder / DESCRIPTION_FILE).write_text(json.dumps(described), encoding="utf-8")
    return folder
