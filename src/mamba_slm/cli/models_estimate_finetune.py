"""`mamba-slm models estimate --task lora|qlora|full`: what fine-tuning a model takes. No torch."""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from mamba_slm.cli import console
from mamba_slm.core.errors import UsageError
from mamba_slm.core.units import format_bytes, format_count, parse_count

if TYPE_CHECKING:
    from mamba_slm.core.hardware import Gpu
    from mamba_slm.finetuning.memory_estimate import FinetuneShape
    from mamba_slm.model.config import ModelConfig
    from mamba_slm.training.estimate import Estimate

TASKS = ("train", "lora", "qlora", "full")
MOST_CONTEXT_TOKENS = 1024
"""Where none is given, as `finetune` has it."""
FROZEN_SHARE = 2 / 3
"""Of the FLOPs of training: a frozen matrix passes gradients on and has none itself."""
TOKENS_AT_ONCE = {False: 2048, True: 8192}
"""Through the model at once, on a CPU and on a GPU, as `finetune` has it."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of fine-tuning; their names and defaults are those of `mamba-slm finetune`."""
    from mamba_slm.finetuning.adapters.settings import PROJECTIONS

    parser.add_argument(
        "--task", choices=TASKS, default="train", help="training from the start, or a --method of mamba-slm finetune"
    )
    parser.add_argument("--rank", type=parse_count, metavar="N", help="of lora and qlora (default: 16)")
    parser.add_argument(
        "--targets", metavar="LIST", help=f"of lora and qlora: all (default), or some of {', '.join(PROJECTIONS)}"
    )
    parser.add_argument("--base-format", choices=("nf4", "fp4"), default="nf4", help="of qlora (default: nf4)")
    parser.add_argument(
        "--double-quantization",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="of qlora: scales in 8 bits, too (default: true)",
    )


def run(args: argparse.Namespace, config: ModelConfig, facts: dict[str, Any]) -> int:
    """Print the estimate of fine-tuning `config` on one device; `facts` are what `--json` says about the model."""
    from mamba_slm.cli.models_estimate import devices_of, memory_of_each
    from mamba_slm.finetuning.memory_estimate import estimate_finetune_memory, trained_parameters

    gpu, devices = devices_of(args)
    if devices > 1:
        raise UsageError(
            f"--task {args.task} is estimated for one device, and there are {devices}",
            hint="add --gpus 1, or --gpus 0 for the CPU",
        )
    shape = shape_of(args, config, gpu)
    memory = estimate_finetune_memory(config, shape)
    device_bytes = memory_of_each(gpu, 1)
    estimate = estimated(args, config, shape, gpu, device_bytes)
    trained = trained_parameters(config, shape)
    if args.json:
        chosen = {
            "task": args.task,
            "trained_parameters": trained,
            "context_tokens": shape.context_tokens,
            "rows_at_once": shape.rows_at_once,
            "precision": shape.precision,
            "gradient_checkpointing": shape.gradient_checkpointing,
            "rank": None if args.task == "full" else shape.lora.rank,
            "optimizer": shape.optimizer,
        }
        console.print_json({**facts, **estimate.to_dict(), **chosen})
    else:
        checkpointed = ", gradient checkpointing" if shape.gradient_checkpointing else ""
        rank = "" if args.task == "full" else f" of rank {shape.lora.rank}"
        print(f"{args.task}{rank} of {args.name} on {gpu.name if gpu else 'this CPU'}, {shape.precision}{checkpointed}")
        print(f"trained     {format_count(trained)} parameters, {trained / facts['parameters']:.2%} of the model's")
        print(estimate)
        print(f"batch       {shape.rows_at_once} × {shape.context_tokens:,} tokens at once")
    if estimate.fits is False:
        name, size = memory.largest
        less = "" if shape.gradient_checkpointing else "--gradient-checkpointing, "
        other = ", --task qlora" if args.task != "qlora" else ""
        console.say(
            f"hint: it does not fit, and the largest part is {name} with {format_bytes(size)}; less take {less}"
            f"fewer --micro-batch-rows, --context-tokens{other}"
        )
    return 0


def shape_of(args: argparse.Namespace, config: ModelConfig, gpu: Gpu | None) -> FinetuneShape:
    """Settings of the step: what is given, else what `finetune` takes.

    Raises:
        ConfigError, UsageError: a setting of the adapter or of the matrices is impossible.
    """
    from mamba_slm.core.config import from_dict
    from mamba_slm.finetuning.adapters.settings import LoraSettings
    from mamba_slm.finetuning.memory_estimate import FinetuneShape
    from mamba_slm.finetuning.qlora.settings import FourBitSettings

    context_tokens = args.context_tokens or min(MOST_CONTEXT_TOKENS, config.max_context_tokens)
    given = {"rank": args.rank, "targets": None if args.targets is None else tuple(args.targets.split(","))}
    lora = from_dict(LoraSettings, {name: value for name, value in given.items() if value is not None}, where="flags")
    return FinetuneShape(
        method=args.task,
        context_tokens=context_tokens,
        rows_at_once=args.micro_batch_rows or max(1, TOKENS_AT_ONCE[gpu is not None] // context_tokens),
        precision=args.precision or ("fp32" if gpu is None else "bf16" if gpu.has_bf16 else "fp16"),
        gradient_checkpointing=bool(args.gradient_checkpointing),
        lora=lora,
        four_bit=FourBitSettings(format=args.base_format, double_quantization=args.double_quantization),
        optimizer=args.optimizer or "adamw",
        on_gpu=gpu is not None,
        kernels="torch" if args.kernels == "torch" else "native",
    )


def estimated(
    args: argparse.Namespace, config: ModelConfig, shape: FinetuneShape, gpu: Gpu | None, device_bytes: int | None
) -> Estimate:
    """The plan on one device, with the parts of fine-tuning."""
    from mamba_slm.finetuning.memory_estimate import estimate_finetune_memory
    from mamba_slm.training.estimate import estimate_training

    plan = estimate_training(
        config,
        context_tokens=shape.context_tokens,
        batch_tokens=args.batch_tokens or max(8192, shape.rows_at_once * shape.context_tokens),
        rows_at_once=shape.rows_at_once,
        tokens=args.tokens,
        precision=shape.precision,
        gradient_checkpointing=shape.gradient_checkpointing,
        gpu=gpu,
        device_memory_bytes=device_bytes,
        mfu=args.mfu,
        price_per_hour_usd=args.price,
    )
    memory: Any = estimate_finetune_memory(config, shape)
    plan = replace(plan, memory=memory)
    if shape.method == "full" or plan.step_seconds is None or plan.tokens_per_second is None:
        return plan
    return replace(
        plan,
        flops_per_token=plan.flops_per_token * FROZEN_SHARE,
        tokens_per_second=plan.tokens_per_second / FROZEN_SHARE,
        step_seconds=plan.step_seconds * FROZEN_SHARE,
        seconds=None if plan.seconds is None else plan.seconds * FROZEN_SHARE,
        cost_usd=None if plan.cost_usd is None else plan.cost_usd * FROZEN_SHARE,
        how=f"{plan.how}; frozen matrices have no gradient: 4 of 6 FLOPs per weight",
    )
