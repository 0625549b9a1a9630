"""The flags that say what runs a model, and where."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from mamba_slm.cli import console
from mamba_slm.cli.adapter_flags import adapter_choices, add_adapter_flag
from mamba_slm.core.units import parse_count

if TYPE_CHECKING:
    from mamba_slm.generation.runtime import RuntimeSettings


def add_runtime_flags(parser: argparse.ArgumentParser) -> None:
    """What runs the model, and where."""
    group = parser.add_argument_group("runtime")
    group.add_argument(
        "--runtime",
        choices=("auto", "torch", "compiled", "onnx"),
        default="auto",
        help="auto: onnx for a folder of mamba-slm export onnx, else compiled on a CPU where there is a C++ compiler, "
        "else torch; compiled: torch with a decoding step in C++, compiled once for a machine in seconds, several "
        "times as fast",
    )
    group.add_argument(
        "--weights",
        choices=("float32", "bfloat16", "int8", "int4", "nf4", "fp4", "int8-dynamic", "mixed"),
        help="how PyTorch holds the matrices, default float32, or as they are stored where the model is quantized; the "
        "others are rounded while loading and read by --runtime compiled at the speed of memory; int8-dynamic rounds "
        "the inputs of products, too; mixed: int4, but int8 where 4 bits cost most",
    )
    add_adapter_flag(group)
    group.add_argument(
        "--context-tokens", type=parse_count, metavar="N", help="longest sequence, where the model was made for less"
    )
    group.add_argument(
        "--rope-scaling",
        choices=("ntk", "yarn", "linear", "llama3", "none"),
        default="ntk",
        help="how rotary positions are stretched to --context-tokens, default ntk; none: not at all",
    )
    group.add_argument("--device", default="auto", metavar="NAME", help="of PyTorch: auto, cpu or cuda[:i]")
    group.add_argument(
        "--provider", metavar="NAME", help="of ONNX Runtime: cpu (default), cuda or another that it was built with"
    )
    group.add_argument(
        "--threads", type=parse_count, metavar="N", help="CPU threads, default: as many as PyTorch takes"
    )


def runtime_settings(args: argparse.Namespace) -> RuntimeSettings:
    """How the flags want the model to be run."""
    from mamba_slm.generation.runtime import RuntimeSettings

    return RuntimeSettings(
        device=args.device,
        provider=args.provider,
        threads=args.threads,
        weights=args.weights,
        adapters=adapter_choices(args),
        context_tokens=args.context_tokens,
        rope_scaling=args.rope_scaling,
        kernels=True,
        say=console.say,
    )
