"""Which runtimes a model would lose, and why, from its config alone. No torch.

A portable model is exactly a HF `GraniteMoeHybrid` without experts. A config that breaks one of the rules below is
allowed; whoever trains it should know beforehand. The rules were read in the sources of the runtimes named (November
2026: transformers 5.23, vLLM 0.33, SGLang 0.5.23, llama.cpp, MLX-LM 0.32).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from mamba_slm.model.config import ModelConfig
from mamba_slm.model.pattern import is_portable_pattern, plugin_letters_in

Effect = Literal["lost", "slower", "less exact", "larger"]

TRANSFORMERS, VLLM, SGLANG, MLX = "transformers", "vLLM", "SGLang", "MLX"
LLAMA_CPP = "llama.cpp"
"""Also stands for Ollama and LM Studio, which run it."""
TRANSFORMERS_JS = "transformers.js"
"""Reads the ONNX form of a model, and its config.json."""
RUNTIMES = (TRANSFORMERS, VLLM, SGLANG, MLX, LLAMA_CPP, TRANSFORMERS_JS)
"""The runtimes that load a portable model with their own code. Ours runs every config."""


@dataclass(frozen=True, kw_only=True)
class PortabilityIssue:
    """One rule that a config breaks."""

    field: str
    """Name of the setting in `ModelConfig`, or of the property that follows from it."""
    value: object
    """What it is."""
    reason: str
    """What goes wrong, and what would be portable."""
    runtimes: tuple[str, ...]
    """Where it goes wrong."""
    effect: Effect = "lost"
    """`lost`: does not run there, or not with the same logits. The others run."""

    def __str__(self) -> str:
        return f"{self.field} = {self.value}: {self.effect} in {', '.join(self.runtimes)}; {self.reason}"


def portability_issues(config: ModelConfig) -> list[PortabilityIssue]:
    """Every rule that the config breaks, the ones that lose runtimes first; empty for a model that runs everywhere."""
    issues = [*architecture_issues(config), *size_issues(config)]
    return sorted(issues, key=lambda issue: issue.effect != "lost")


def lost_runtimes(config: ModelConfig) -> tuple[str, ...]:
    """The runtimes that cannot run the config at all, in the order of `RUNTIMES`."""
    lost = {name for issue in portability_issues(config) if issue.effect == "lost" for name in issue.runtimes}
    return tuple(name for name in RUNTIMES if name in lost)


def architecture_issues(config: ModelConfig) -> Iterator[PortabilityIssue]:
    """Things that a GraniteMoeHybrid does not have."""
    letters = plugin_letters_in(config.pattern)
    if letters:
        yield PortabilityIssue(
            field="pattern",
            value=config.pattern,
            reason=f"only this program knows the sublayer {', '.join(letters)} of a plugin; M, * and - are portable",
            runtimes=RUNTIMES,
        )
    elif not is_portable_pattern(config.pattern):
        classic = "--" not in config.pattern and not config.pattern.startswith("-")
        yield PortabilityIssue(
            field="pattern",
            value=config.pattern,
            reason=(
                "some mixers have no feed-forward; the export adds feed-forwards of zeros, which cost memory and time"
                if classic
                else "GraniteMoeHybrid has one feed-forward after each mixer, as in M-*-"
            ),
            runtimes=RUNTIMES,
            effect="larger" if classic else "lost",
        )
    if config.position in ("alibi", "learned"):
        yield PortabilityIssue(
            field="position",
            value=config.position,
            reason="GraniteMoeHybrid knows rotary positions and none: rope or nope",
            runtimes=RUNTIMES,
        )
    if config.position == "rope" and config.rope_scaling in (
        "linear",
        "yarn",
        "llama3",
    ):  # ntk is rope with a larger theta
        yield PortabilityIssue(
            field="rope_scaling",
            value=config.rope_scaling,
            reason="it reads rope_theta alone and would rotate without scaling; ntk is read everywhere",
            runtimes=(SGLANG, MLX, LLAMA_CPP) if config.rope_scaling == "llama3" else (SGLANG, MLX),
        )
    if config.attention_window and config.attention_window < config.max_context_tokens and config.num_attention:
        yield PortabilityIssue(
            field="attention_window",
            value=config.attention_window,
            reason="GraniteMoeHybrid attends to the whole context: 0",
            runtimes=RUNTIMES,
        )


def size_issues(config: ModelConfig) -> Iterator[PortabilityIssue]:
    """Sizes that a runtime does not take, or not well."""
    if config.num_mamba:
        yield from mamba_issues(config)
    if not config.num_attention:
        yield PortabilityIssue(
            field="num_attention",
            value=0,
            reason="it reads the number of past tokens from the keys of an attention layer: 1 or more",
            runtimes=(TRANSFORMERS_JS,),
        )
    if config.num_attention and config.head_dim not in (64, 128):
        yield PortabilityIssue(
            field="head_dim",
            value=config.head_dim,
            reason="hidden_size / num_heads of 64 or 128 keeps full precision; 80 costs a factor of 200",
            runtimes=(LLAMA_CPP,),
            effect="less exact",
        )
    if config.vocab_size % 8:
        yield PortabilityIssue(
            field="vocab_size",
            value=config.vocab_size,
            reason="the embedding is padded with unused tokens up to a multiple of 8",
            runtimes=(LLAMA_CPP,),
            effect="larger",
        )
    widths = {"hidden_size": config.hidden_size}
    if config.num_mamba:
        widths["inner_size"] = config.inner_size
    if config.num_feed_forward:
        widths["feed_forward_size"] = config.feed_forward_size
    for field, value in widths.items():
        if value % 256:
            yield PortabilityIssue(
                field=field,
                value=value,
                reason="not a multiple of 256, the block of k-quants: Q4_K falls back to Q5_0 and Q6_K to Q8_0",
                runtimes=(LLAMA_CPP,),
                effect="larger",
            )


def mamba_issues(config: ModelConfig) -> Iterator[PortabilityIssue]:
    """Sizes of the Mamba-2 mixer."""
    if config.expand != 2:
        yield PortabilityIssue(
            field="expand",
            value=config.expand,
            reason="it asserts that the inner size is twice the hidden size: 2",
            runtimes=(LLAMA_CPP,),
        )
    if config.num_groups != 1:
        yield PortabilityIssue(
            field="num_groups",
            value=config.num_groups,
            reason="its gated norm has no groups: 1",
            runtimes=(MLX,),
        )
        yield PortabilityIssue(
            field="num_groups",
            value=config.num_groups,
            reason="splitting the model over several GPUs needs 1 group, or a multiple of the GPUs",
            runtimes=(VLLM,),
            effect="slower",
        )
    if config.conv_kernel not in (2, 3, 4):
        yield PortabilityIssue(
            field="conv_kernel",
            value=config.conv_kernel,
            reason="the kernels of causal_conv1d have 2, 3 or 4 taps",
            runtimes=(VLLM, SGLANG),
        )
    slow = {
        "state_size": (config.state_size, config.state_size in (96, 128, 256), "is not 96, 128 or 256"),
        "ssm_head_dim": (config.ssm_head_dim, config.ssm_head_dim % 16 == 0, "is not a multiple of 16"),
        "conv_size": (config.conv_size, config.conv_size % 128 == 0, "is not a multiple of 128"),
    }
    for field, (value, is_fine, what) in slow.items():
        if not is_fine:
            yield PortabilityIssue(
                field=field,
                value=value,
                reason=f"it {what}, so the scan runs on the CPU and not on the GPU",
                runtimes=(LLAMA_CPP,),
                effect="slower",
            )
