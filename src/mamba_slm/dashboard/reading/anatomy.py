"""What a model is made of, by arithmetic from its config: layers, parts, FLOPs, and memory against the context."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from mamba_slm.dashboard.reading.plain import open_plain
from mamba_slm.model.config import ModelConfig
from mamba_slm.model.count import (
    context_of_equal_flops,
    count_parameters,
    forward_flops_by_part,
    state_bytes,
    weight_bytes,
)
from mamba_slm.model.matrices import matrix_shapes
from mamba_slm.model.pattern import ATTENTION, FEED_FORWARD, MAMBA, mixers
from mamba_slm.model.portability import RUNTIMES, lost_runtimes, portability_issues
from mamba_slm.model.quantization import BFLOAT16_BYTES, PLANS, quantized_bytes

CONTEXTS = (2048, 8192, 32_768, 131_072)
POINTS = 64
MOST_HEADER_BYTES = 16 << 20
PART_OF = {MAMBA: "mamba", ATTENTION: "attention", FEED_FORWARD: "feed_forward"}
SHOWN = (
    "hidden_size", "num_heads", "num_kv_heads", "head_dim", "num_ssm_heads", "ssm_head_dim", "state_size",
    "feed_forward_size", "vocab_size", "tie_embeddings", "max_context_tokens", "position", "chunk_size",
)  # fmt: skip


def anatomy(config: ModelConfig, *, stored: Mapping[str, Mapping[str, int]] | None = None) -> dict[str, Any]:
    """Everything that follows from a config.

    Args:
        stored: bytes by type for each part of the file, from `stored_by_part`.
    """
    layers = mixers(config.pattern)
    return {
        "parameters": count_parameters(config).total,
        "bf16_bytes": weight_bytes(config),
        "pattern": config.pattern,
        "layers": layers_of(config.pattern),
        "mamba_layers": layers.count(MAMBA),
        "attention_layers": layers.count(ATTENTION),
        "settings": {name: getattr(config, name) for name in SHOWN},
        "parts": parts_of(config, stored or {}),
        "flops_per_token": sum(forward_flops_by_part(config, config.max_context_tokens).values()),
        "memory": memory_of(config),
        "formats": formats_of(config),
        "issues": [asdict(issue) for issue in portability_issues(config)],
        "runtimes": {name: name not in lost_runtimes(config) for name in RUNTIMES},
    }


def layers_of(pattern: str) -> list[dict[str, Any]]:
    """Mixers with the number of feed-forwards behind each; those before the first mixer count as a layer of their own.

    >>> layers_of("M-*MM--")
    [{'mixer': 'M', 'feed_forwards': 1}, {'mixer': '*', 'feed_forwards': 0}, {'mixer': 'M', 'feed_forwards': 0}, \
{'mixer': 'M', 'feed_forwards': 2}]
    """
    found: list[dict[str, Any]] = []
    for sublayer in pattern:
        if sublayer == FEED_FORWARD:
            if not found:
                found.append({"mixer": FEED_FORWARD, "feed_forwards": 0})
            found[-1]["feed_forwards"] += 1
        else:
            found.append({"mixer": sublayer, "feed_forwards": 0})
    return found


def parts_of(config: ModelConfig, stored: Mapping[str, Mapping[str, int]]) -> list[dict[str, Any]]:
    """Parameters, forward FLOPs per token at a full context, and bytes in the file, by part."""
    flops = forward_flops_by_part(config, config.max_context_tokens)
    rows = []
    for name, count in asdict(count_parameters(config)).items():
        if count or flops.get(name):
            types = stored.get(name, {})
            rows.append(
                {
                    "name": name.replace("_", "-"),
                    "parameters": count,
                    "flops": flops.get(name, 0),
                    "bytes": sum(types.values()) if types else None,
                    "types": sorted(types, key=lambda kind: -types[kind]),
                }
            )
    return rows


def memory_of(config: ModelConfig) -> dict[str, Any]:
    """Bytes of one conversation against its length, beside the twin with attention in every layer; keys and values in
    BF16, the state of the Mamba layers in FP32."""
    twin = replace(config, pattern=config.pattern.replace(MAMBA, ATTENTION))
    longest = max(CONTEXTS[-1], config.max_context_tokens)
    contexts = [round(longest * point / POINTS) for point in range(POINTS + 1)]
    constant = state_bytes(config, 0)
    return {
        "contexts": contexts,
        "hybrid": [state_bytes(config, n) for n in contexts],
        "attention_only": [state_bytes(twin, n) for n in contexts],
        "table": [
            {"context": n, "hybrid": state_bytes(config, n), "attention_only": state_bytes(twin, n)} for n in CONTEXTS
        ],
        "constant": constant,
        "per_token": state_bytes(config, 1) - constant,
        "attention_only_per_token": state_bytes(twin, 1),
        "equal_from": equal_from(constant, state_bytes(config, 1) - constant, state_bytes(twin, 1)),
        "equal_flops_from": context_of_equal_flops(config),
    }


def equal_from(constant: int, per_token: int, twin_per_token: int) -> int | None:
    """From how many tokens on the hybrid takes less memory than its twin; None where it never does.

    >>> equal_from(1000, 2, 10), equal_from(0, 2, 2)
    (126, None)
    """
    spared = twin_per_token - per_token
    return constant // spared + 1 if spared > 0 else None


def formats_of(config: ModelConfig) -> list[dict[str, Any]]:
    """How large the weights would be in each format of `mamba-slm quantize`, from shapes alone."""
    rows = []
    shapes = matrix_shapes(config)
    weights = sum(outputs * inputs for outputs, inputs in shapes.values())
    for name, plan in PLANS.items():
        schemes = plan.fitted_to(config)
        stored = sum(
            BFLOAT16_BYTES * outputs * inputs
            if (scheme := schemes[each]) is None
            else scheme.stored_bytes(outputs, inputs)
            for each, (outputs, inputs) in shapes.items()
        )
        rows.append({"format": name, "bytes": quantized_bytes(config, plan), "bits": 8 * stored / weights})
    return rows


def stored_by_part(weights: Path, pattern: str) -> dict[str, dict[str, int]]:
    """Bytes of a safetensors file of ours by part and type, from its header; empty where it cannot be read."""
    try:
        with open_plain(weights, follows=True) as file:
            (size,) = struct.unpack("<Q", file.read(8))
            if size > MOST_HEADER_BYTES:
                return {}
            header = json.loads(file.read(size))
        found: dict[str, dict[str, int]] = {}
        for name, tensor in header.items():
            if name == "__metadata__":
                continue
            first, last = tensor["data_offsets"]
            types = found.setdefault(part_of_tensor(name, pattern), {})
            types[tensor["dtype"]] = types.get(tensor["dtype"], 0) + last - first
        return found
    except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError, struct.error):
        return {}


def part_of_tensor(name: str, pattern: str) -> str:
    """The part that a tensor counts with; norms before a sublayer count with the sublayer.

    >>> part_of_tensor("sublayers.1.norm.weight", "M-"), part_of_tensor("embedding.weight.codes", "M-")
    ('feed_forward', 'embedding')
    """
    words = name.removeprefix("model.").split(".")
    if words[0] == "sublayers":
        return PART_OF.get(pattern[int(words[1])], "plugins")
    return {"lm_head": "head", "final_norm": "final_norm"}.get(words[0], "embedding")
