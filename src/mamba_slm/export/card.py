"""The model card: README.md of an exported folder, with what was verified and the measured number."""

from __future__ import annotations

from collections.abc import Sequence

from mamba_slm import __version__
from mamba_slm.core.units import format_count
from mamba_slm.export.compare import Comparison
from mamba_slm.export.hf.lint import Verdict
from mamba_slm.model.config import ModelConfig
from mamba_slm.model.count import count_parameters
from mamba_slm.model.portability import LLAMA_CPP, MLX, SGLANG, TRANSFORMERS_JS, VLLM

HEADER = """\
---
library_name: transformers
pipeline_tag: text-generation
tags: [mamba2, hybrid, granitemoehybrid]
---
"""
PYTHON_CODE = """\
from transformers import AutoModelForCausalLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("{name}")
model = AutoModelForCausalLM.from_pretrained("{name}", dtype="auto")
tokens = tokenizer({prompt!r}, return_tensors="pt")
print(tokenizer.decode(model.generate(**tokens, max_new_tokens=100)[0]))
"""
COMMANDS = {
    VLLM: "vllm serve {name} --mamba-ssm-cache-dtype float32",
    SGLANG: "python -m sglang.launch_server --model-path {name}",
    MLX: "mlx_lm.generate --model {name} --prompt {prompt!r}",
    LLAMA_CPP: "needs a GGUF file: mamba-slm export gguf",
    TRANSFORMERS_JS: "needs the ONNX form: mamba-slm export onnx",
}
PROMPT = "A lake is"


def model_card(
    name: str,
    config: ModelConfig,
    *,
    dtype: str,
    parity: Comparison,
    rounding: Comparison | None,
    verdicts: Sequence[Verdict],
    warnings: Sequence[str] = (),
    has_chat: bool = False,
) -> str:
    """The text of README.md."""
    parts = [
        HEADER,
        f"# {name}\n",
        "A hybrid Mamba-2 and attention language model, trained with MAMBA_SLM and exported as a dense "
        f"`GraniteMoeHybridForCausalLM` by mamba-slm {__version__}.\n",
        facts(config, dtype, has_chat),
        "".join(f"> {warning[0].upper()}{warning[1:]}.\n\n" for warning in warnings),
        "## Verified\n",
        verified(parity, rounding),
        "## Runtimes\n",
        "Read from the sources of each runtime (November 2026); only transformers was run on this folder.\n",
        runtime_table(name, verdicts),
        "## Use\n",
        f"```python\n{PYTHON_CODE.format(name=name, prompt=PROMPT)}```\n",
    ]
    return "\n".join(part for part in parts if part)


def facts(config: ModelConfig, dtype: str, has_chat: bool) -> str:
    """Sizes, as a table."""
    counts = count_parameters(config)
    rows = {
        "parameters": f"{counts.total:,} ({format_count(counts.total)})",
        "pattern": f"`{config.pattern}` (`M` Mamba-2, `*` attention, `-` SwiGLU)",
        "layers": f"{config.num_layers}, {config.num_attention} of them with attention",
        "width": f"{config.hidden_size}, {config.num_heads} heads, {config.num_kv_heads} KV heads of {config.head_dim}",
        "context": f"{config.max_context_tokens:,} tokens, positions: {config.position}",
        "vocabulary": f"{config.vocab_size:,}, {'tied' if config.tie_embeddings else 'untied'} head",
        "weights": f"{dtype}; A_log, D and dt_bias in float32",
        "chat template": "`chat_template.jinja`" if has_chat else "none: the model continues documents",
    }
    return "| | |\n|---|---|\n" + "".join(f"| {name} | {value} |\n" for name, value in rows.items())


def verified(parity: Comparison, rounding: Comparison | None) -> str:
    """What was run, and what came out."""
    text = (
        f"{parity.other} against {parity.reference} with the stored weights, on {parity.num_tokens} tokens in "
        f"{parity.num_sequences} sequences: largest difference of a logit {parity.max_logit_error:.1e}, argmax "
        f"agreement {parity.argmax_agreement:.4f}.\n"
    )
    if rounding is not None:
        text += (
            f"\nWhat {rounding.other} computes, against the float32 weights it came from: largest difference of a "
            f"logit {rounding.max_logit_error:.1e}, argmax agreement {rounding.argmax_agreement:.4f}, mean KL "
            f"divergence {rounding.mean_kl:.1e} nats.\n"
        )
    return text


def runtime_table(name: str, verdicts: Sequence[Verdict]) -> str:
    """A line per runtime: whether it can load the folder, why not, and how it is started."""
    lines = ["| runtime | loads | remarks | run |", "|---|---|---|---|"]
    for verdict in verdicts:
        remarks = "; ".join([*verdict.reasons, *verdict.remarks]) or "–"
        command = COMMANDS.get(verdict.runtime, "see below").format(name=name, prompt=PROMPT)
        shown = f"`{command}`" if verdict.runtime in (VLLM, SGLANG, MLX) else command
        answer = "yes" if verdict.loads else "no"
        lines.append(f"| {verdict.runtime} | {answer} | {remarks} | {shown if verdict.loads else '–'} |")
    return "\n".join(lines) + "\n"
