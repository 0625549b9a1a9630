"""Which runtimes can load a config.json of a GraniteMoeHybrid with the same logits, and which key is the reason if not.

The rules were read in the sources of the runtimes (November 2026: transformers 5.23, vLLM 0.33, SGLang 0.5.23,
MLX-LM 0.32, llama.cpp, transformers.js 4). A runtime that none of them loses "loads" the model; verified is only what
was run here. Rules about sizes are those of `mamba_slm.model.portability`. No torch.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from mamba_slm.core.errors import ConfigError
from mamba_slm.model.granite import ARCHITECTURE, MODEL_TYPE, NO_TIME_STEP_LIMIT
from mamba_slm.model.granite_import import DEFAULT_ROPE_THETA, model_config_from_granite
from mamba_slm.model.portability import (
    LLAMA_CPP,
    MLX,
    RUNTIMES,
    SGLANG,
    TRANSFORMERS,
    TRANSFORMERS_JS,
    VLLM,
    PortabilityIssue,
    portability_issues,
)

NEUTRAL = {"embedding_multiplier": 1.0, "residual_multiplier": 1.0, "logits_scaling": 1.0}
"""Multipliers that every runtime applies and that a model of ours does not need."""
MLX_NEEDS = (
    *("attention_bias", "attention_multiplier", "embedding_multiplier", "intermediate_size", "layer_types"),
    *("logits_scaling", "residual_multiplier", "rms_norm_eps", "rope_theta"),
)


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What one runtime makes of a model."""

    runtime: str
    loads: bool
    """Runs it, with the same logits."""
    reasons: tuple[str, ...]
    """Why not; empty where it loads."""
    remarks: tuple[str, ...]
    """What is slower, larger or less exact there."""

    def __str__(self) -> str:
        return f"{self.runtime}: " + ("yes" if self.loads else "no: " + "; ".join(self.reasons))


def verdicts(values: Mapping[str, Any], *, tensor_names: frozenset[str] = frozenset()) -> list[Verdict]:
    """One verdict per runtime, in the order of `RUNTIMES`.

    Args:
        values: config.json.
        tensor_names: names in the safetensors files, where they are known.
    """
    issues = [*lint(values, tensor_names=tensor_names), *size_issues_of(values)]
    return [
        Verdict(
            runtime=runtime,
            loads=not any(issue.effect == "lost" for issue in issues if runtime in issue.runtimes),
            reasons=tuple(in_words(issue) for issue in issues if runtime in issue.runtimes and issue.effect == "lost"),
            remarks=tuple(
                f"{issue.effect}: {in_words(issue)}"
                for issue in issues
                if runtime in issue.runtimes and issue.effect != "lost"
            ),
        )
        for runtime in RUNTIMES
    ]


def in_words(issue: PortabilityIssue) -> str:
    """The field, its value and what is wrong with it."""
    return f"{issue.field} = {issue.value}: {issue.reason}"


def size_issues_of(values: Mapping[str, Any]) -> list[PortabilityIssue]:
    """What the sizes of the model break; empty where our model cannot follow the config, and `lint` says why."""
    neutral = dict(values) | NEUTRAL | {"time_step_limit": [0.0, NO_TIME_STEP_LIMIT]}
    if head_dim := head_dim_of(values):
        neutral["attention_multiplier"] = head_dim**-0.5
    try:
        return portability_issues(model_config_from_granite(neutral))
    except ConfigError:
        return []


def lint(values: Mapping[str, Any], *, tensor_names: frozenset[str] = frozenset()) -> Iterator[PortabilityIssue]:
    """Every rule about keys and their spelling that a config.json breaks."""

    def broken(field: str, reason: str, *runtimes: str, effect: Any = "lost") -> PortabilityIssue:
        shown = "absent" if field not in values else short(values[field])
        return PortabilityIssue(field=field, value=shown, reason=reason, runtimes=runtimes, effect=effect)

    if values.get("model_type") != MODEL_TYPE or ARCHITECTURE not in (values.get("architectures") or []):
        field = "model_type" if values.get("model_type") != MODEL_TYPE else "architectures"
        yield broken(field, f"expected {MODEL_TYPE} and {ARCHITECTURE}", *RUNTIMES)
        return
    kinds = values.get("layer_types") or []
    if not kinds or set(kinds) - {"mamba", "attention"}:
        reason = (
            "only the words mamba and attention are known there; llama.cpp's converter writes a wrong file silently"
        )
        yield broken("layer_types", reason, MLX, LLAMA_CPP, TRANSFORMERS_JS)
    if values.get("num_local_experts", 8) != 0:
        yield broken("num_local_experts", "a dense model has 0; absent means 8", *RUNTIMES)
    yield from time_step_issues(values, broken)
    yield from position_issues(values, broken)
    for key in MLX_NEEDS:
        if values.get(key) is None:
            yield broken(key, "a required key there", MLX)
    if head_dim_of(values) is None:
        yield broken("hidden_size", "not num_attention_heads times the size of a head", *RUNTIMES)
    if not values.get("shared_intermediate_size"):
        yield broken("shared_intermediate_size", "0 is not taken for no feed-forward: the normed input is added", VLLM)
    if values.get("mamba_conv_bias") is False:
        yield broken("mamba_conv_bias", "it adds the bias of the convolution always", LLAMA_CPP)
    for key in ("attention_bias", "mamba_proj_bias", "mlp_bias"):
        if values.get(key):
            yield broken(key, "it has no such bias", LLAMA_CPP)
    if values.get("tie_word_embeddings") and "lm_head.weight" in tensor_names:
        yield broken("tie_word_embeddings", "lm_head.weight is stored, too", VLLM, SGLANG, effect="larger")


def head_dim_of(values: Mapping[str, Any]) -> int | None:
    """Channels of an attention head, where the heads fill the width exactly."""
    width, heads = values.get("hidden_size"), values.get("num_attention_heads")
    if not isinstance(width, int) or not isinstance(heads, int) or heads < 1 or width % heads:
        return None
    return width // heads if values.get("head_dim") in (None, width // heads) else None


def time_step_issues(values: Mapping[str, Any], broken: Any) -> Iterator[PortabilityIssue]:
    """Rules about `time_step_limit`."""
    if "mamba" not in (values.get("layer_types") or ["mamba"]) and "linear_attention" not in values["layer_types"]:
        return
    limit = values.get("time_step_limit")
    if limit is None:
        yield broken("time_step_limit", "absent means [0.001, 100] there, which acts", MLX)
        return
    numbers = [each for each in limit if isinstance(each, int | float)]
    if len(numbers) != 2 or not all(map(math.isfinite, numbers)):
        yield broken("time_step_limit", f"infinity is not JSON: write [0.0, {NO_TIME_STEP_LIMIT:g}]", MLX)
    elif numbers[0] > 0 or numbers[1] < NO_TIME_STEP_LIMIT:
        reason = "a limit that acts is not applied there"
        yield broken("time_step_limit", reason, VLLM, SGLANG, LLAMA_CPP)
        yield broken("time_step_limit", "it is applied to a prompt, but not to generated tokens", TRANSFORMERS)


def position_issues(values: Mapping[str, Any], broken: Any) -> Iterator[PortabilityIssue]:
    """Rules about positions."""
    position = values.get("position_embedding_type")
    if position is None:
        yield broken("position_embedding_type", 'null is taken for rope: write "nope"', MLX)
    if position != "rope":
        return
    rope = values.get("rope_parameters") or values.get("rope_scaling") or {}
    flat, nested = values.get("rope_theta"), rope.get("rope_theta")
    if flat is None:
        yield broken(
            "rope_theta", f"absent: it does not read rope_parameters, and takes {DEFAULT_ROPE_THETA:g}", SGLANG
        )
    elif nested is not None and nested != flat:
        yield broken("rope_theta", f"rope_parameters says {nested:g}: runtimes read one or the other", *RUNTIMES)
    if not values.get("rope_parameters"):
        yield broken("rope_parameters", "absent: versions differ in the default", TRANSFORMERS, effect="less exact")
    fraction = rope.get("partial_rotary_factor", values.get("partial_rotary_factor"))
    if fraction not in (None, 1):
        yield broken("partial_rotary_factor", "heads are rotated whole", LLAMA_CPP, MLX, SGLANG)


def short(value: Any) -> str:
    """The value, cut where it is long."""
    text = str(value)
    return text if len(text) <= 40 else f"{text[:37]}…"
