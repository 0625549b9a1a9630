"""Values beside the claims of the original documents; what is said about them stands in roadmap.txt."""

from __future__ import annotations

from mamba_slm.core.units import format_bytes, format_seconds
from origins.roadmap_numbers import DAY, TOKENS, asked

CLAIMED_DAYS = 2.5
CLAIMED_TOKENS_PER_SECOND = 1200
CLAIMED_FLOPS_PER_TOKEN, CLAIMED_FLOPS_PER_SECOND = 23.4e9, 1.2e15
ATTENTION_LAYERS = "q_proj,k_proj,v_proj,o_proj,gate_up_proj,down_proj"


def values() -> dict[str, str]:
    """Placeholders of roadmap.txt with what stands for them."""
    step_tokens = TOKENS / 100_000
    per_token = asked("models estimate 1.3B --gpus 8 --context-tokens 2048")["flops_per_token"]
    return {
        "run_tokens": f"{TOKENS / 1e9:.1f}B",
        "days_at_1200": f"{TOKENS / CLAIMED_TOKENS_PER_SECOND / DAY:,.0f}",
        "rate_for_2_days": f"{TOKENS / (CLAIMED_DAYS * DAY):,.0f}",
        "flops_per_token": f"{per_token / 1e9:.1f}",
        "step_seconds": format_seconds(CLAIMED_FLOPS_PER_TOKEN * step_tokens / CLAIMED_FLOPS_PER_SECOND),
        "lora_attention": f"{trained_by_lora(ATTENTION_LAYERS):,}",
        "lora_all": f"{trained_by_lora('all'):,}",
        "lora_memory": lora_memory(),
        "demo_bytes": format_bytes(asked("models describe demo")["bf16_bytes"]),
        "state": state(),
    }


def trained_by_lora(targets: str) -> int:
    """Parameters of rank 8 in these matrices of the demo."""
    line = f'models estimate demo --task lora --gpu "A100 40GB" --rank 8 --targets {targets}'
    return asked(line)["trained_parameters"]


def lora_memory() -> str:
    """Bytes of tuning 1.3B in three ways."""
    line = 'models estimate 1.3B --gpu "A100 80GB" --context-tokens 2048 --micro-batch-rows 1 --task'
    found = {task: asked(f"{line} {task}")["memory_bytes"] for task in ("full", "lora", "qlora")}
    parts = ", ".join(f"{format_bytes(memory)} with {task}" for task, memory in found.items())
    return f"Estimated for 1.3B with one row of 2,048 tokens: {parts}, mostly activations"


def state() -> str:
    """Memory of a conversation of 1.3B."""
    found = asked('models estimate 1.3B --gpus 1 --gpu "A100 80GB" --context-tokens 8192')
    ours, theirs = format_bytes(found["sequence_bytes"]), format_bytes(found["attention_only_sequence_bytes"])
    return f"{ours} at 8,192 tokens, {theirs} with attention in every layer"
