"""`mamba-slm models estimate`: memory, time and cost of training a model, before anything is spent. No torch."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from mamba_slm.cli import console
from mamba_slm.core.errors import UsageError
from mamba_slm.core.units import parse_count

if TYPE_CHECKING:
    from mamba_slm.core.hardware import Gpu
    from mamba_slm.model.config import ModelConfig
    from mamba_slm.training.config import TrainConfig
    from mamba_slm.training.estimate import Estimate
    from mamba_slm.training.published_runs import PublishedRun

DEFAULT_GPU = "H100 80GB"
TOKENS_PER_PARAMETER = 20  # compute-optimal for transformers, arXiv:2203.15556; small models are usually trained longer
SETTINGS = ("context_tokens", "batch_tokens", "micro_batch_rows", "gradient_checkpointing")

EPILOG = """\
Without --gpus and --gpu the estimate is for this machine. It warns when the memory does not suffice; it never refuses.
Weights, gradients and optimiser state are sharded over the GPUs; activations are not.

examples:
  mamba-slm models estimate nano --tokens 2M
  mamba-slm models estimate 1.3B --gpus 8 --gpu "H100 80GB" --tokens 30B
  mamba-slm models estimate small_scale
  mamba-slm models estimate 350M --gpus 1 --gpu "RTX 4090" --price 0.45 --json
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments after NAME and those that change the model."""
    from mamba_slm.core.hardware import GPUS
    from mamba_slm.core.values import parse_float

    parser.description = (
        "What training this model takes: memory by part, time and money, and how each number was obtained."
    )
    parser.epilog = EPILOG
    length = f"training tokens, default {TOKENS_PER_PARAMETER} per parameter"
    parser.add_argument("--tokens", type=parse_count, metavar="N", help=length)
    parser.add_argument("--gpus", type=parse_count, metavar="N", help="how many GPUs; 0 means the CPU of this machine")
    parser.add_argument("--gpu", metavar="NAME", help=f"default {DEFAULT_GPU}; known: {', '.join(GPUS)}")
    parser.add_argument(
        "--context-tokens", type=parse_count, metavar="N", help="length of a row; default: the preset's"
    )
    parser.add_argument(
        "--batch-tokens", type=parse_count, metavar="N", help="per optimiser step; default: the preset's"
    )
    parser.add_argument("--micro-batch-rows", type=parse_count, metavar="N", help="rows at once on one device")
    parser.add_argument(
        "--gradient-checkpointing", action=argparse.BooleanOptionalAction, help="default: the preset's choice"
    )
    parser.add_argument(
        "--precision",
        choices=("fp32", "bf16", "fp16"),
        help="default: bf16 on a GPU that has it, fp16 on others, fp32 on a CPU",
    )
    parser.add_argument("--mfu", type=parse_float, metavar="X", help="share of the peak that is reached, such as 35%%")
    parser.add_argument("--price", type=parse_float, metavar="X", help="dollars per device and hour")
    parser.add_argument("--measure", action="store_true", help="time matrix products on this CPU now (loads torch)")
    parser.add_argument("--json", action="store_true", help="one object")


def take_published_run(args: argparse.Namespace) -> PublishedRun | None:
    """Where NAME is a published run: put its model, GPUs, batch and length into the arguments that are not given."""
    from mamba_slm.training.published_runs import GPU, PUBLISHED_RUNS

    if args.name not in PUBLISHED_RUNS:
        return None
    run = PUBLISHED_RUNS[args.name]()
    context_tokens = args.context_tokens or run.context_tokens
    own = {
        "gpus": run.gpus,
        "gpu": None if args.gpus == 0 else GPU,
        "context_tokens": context_tokens,
        "batch_tokens": run.rows_per_step * context_tokens,
    }
    for name, value in own.items():
        if getattr(args, name) is None:
            setattr(args, name, value)
    args.tokens = args.tokens or args.batch_tokens * run.steps
    args.name = run.model
    return run


def run(
    args: argparse.Namespace, config: ModelConfig, facts: dict[str, Any], published: PublishedRun | None = None
) -> int:
    """Print the estimate for `config`; `facts` are what `--json` says about the model itself.

    With a published run, its claimed time and what that would need come after it.
    """
    from mamba_slm.training.prospects import prospects

    gpu, devices = devices_of(args)
    if args.measure and gpu is not None:
        raise UsageError(
            "--measure times this CPU, but the estimate is for a GPU", hint="leave out --gpu, or add --gpus 0"
        )
    settings = settings_of(args)
    tokens = args.tokens or TOKENS_PER_PARAMETER * facts["parameters"]
    precision = args.precision or ("fp32" if gpu is None else "bf16" if gpu.has_bf16 else "fp16")
    rows_at_once = min(settings.rows_at_once, max(1, settings.rows_per_step // devices))
    estimate = estimated(args, config, settings, gpu, devices, tokens, precision, rows_at_once)
    more = prospects(
        config,
        estimate,
        context_tokens=settings.context_tokens,
        precision=precision,
        gradient_checkpointing=settings.gradient_checkpointing,
        on_gpu=gpu is not None,
        keep_last=settings.keep_last,
    )
    shape = (
        f"{rows_at_once} × {settings.context_tokens:,} tokens at once per device, {settings.batch_tokens:,} per step"
    )
    if args.json:
        chosen = {
            name: getattr(settings, name) for name in ("context_tokens", "batch_tokens", "gradient_checkpointing")
        }
        found = {**facts, **estimate.to_dict(), **more.to_dict(), **chosen}
        found |= {"rows_at_once": rows_at_once, "precision": precision}
        if published is not None:
            found |= {
                "published_run": published.name,
                "claimed_seconds": published.claimed_seconds,
                "claimed_flops_per_second": published.claimed_flops_per_second(),
            }
        console.print_json(found)
    else:
        checkpointed = ", gradient checkpointing" if settings.gradient_checkpointing else ""
        machine = "this CPU" if gpu is None else f"{devices} × {gpu.name}"
        name = args.name if published is None else f"{published.name} ({args.name})"
        print(f"{name} on {machine}, {precision}{checkpointed}")
        print(estimate)
        print(f"batch       {shape}")
        print(more)
        if published is not None:
            print(f"claimed     {published.claim()}")
    advise(args, estimate, settings, gpu)
    return 0


def estimated(
    args: argparse.Namespace,
    config: ModelConfig,
    settings: TrainConfig,
    gpu: Gpu | None,
    devices: int,
    tokens: int,
    precision: str,
    rows_at_once: int,
) -> Estimate:
    """The plan, for the CPU of this machine when `gpu` is None."""
    from mamba_slm.runs.machine import usable_memory_bytes
    from mamba_slm.training.estimate import estimate_training

    measured = None
    if gpu is None and args.measure:
        from mamba_slm.training.peak import measured_gemm_rate

        measured = measured_gemm_rate(precision=precision)
    return estimate_training(
        config,
        context_tokens=settings.context_tokens,
        batch_tokens=settings.batch_tokens,
        rows_at_once=rows_at_once,
        tokens=tokens,
        precision=precision,
        gradient_checkpointing=settings.gradient_checkpointing,
        gpu=gpu,
        devices=devices,
        cpu_flops_per_second=measured,
        device_memory_bytes=usable_memory_bytes() if gpu is None else None,
        mfu=args.mfu,
        price_per_hour_usd=args.price,
    )


def devices_of(args: argparse.Namespace) -> tuple[Gpu | None, int]:
    """The GPU and how many of it; None and 1 for the CPU. What the arguments leave open, this machine decides."""
    from mamba_slm.core.hardware import find_gpu, gpu_by_device_name
    from mamba_slm.runs.machine import gpu_names

    if args.gpus == 0:
        if args.gpu is not None:
            raise UsageError("--gpus 0 means the CPU, and --gpu names a GPU", hint="leave out one of them")
        return None, 1
    if args.gpus is not None and args.gpus < 0:
        raise UsageError(f"--gpus must be 0 or more, got {args.gpus}")
    if args.gpus is not None or args.gpu is not None:
        return find_gpu(args.gpu or DEFAULT_GPU), args.gpus or 1
    here = [row for row in map(gpu_by_device_name, gpu_names()) if row is not None]
    return (here[0], len(here)) if here else (None, 1)


def settings_of(args: argparse.Namespace) -> TrainConfig:
    """Training settings: the preset's, with what the arguments change."""
    from mamba_slm.core.config import from_dict
    from mamba_slm.training.config import TrainConfig
    from mamba_slm.training.presets import train_preset

    given = {name: value for name in SETTINGS if (value := getattr(args, name)) is not None}
    return from_dict(TrainConfig, {**train_preset(args.name), **given}, where="estimate")


def advise(args: argparse.Namespace, estimate: Estimate, settings: TrainConfig, gpu: Gpu | None) -> None:
    """On stderr: what to do when the memory does not suffice or the speed is unknown."""
    if estimate.fits is False:
        ways = [
            "--gradient-checkpointing" if not settings.gradient_checkpointing else "",
            f"--micro-batch-rows {max(1, settings.rows_at_once // 2)}" if settings.rows_at_once > 1 else "",
            "more or larger GPUs" if gpu is not None else "a smaller preset",
        ]
        console.say(f"hint: it does not fit; try {', or '.join(filter(None, ways))}")
    if estimate.tokens_per_second is None:
        console.say(f"hint: mamba-slm models estimate {args.name} --measure times this CPU and tells how long it takes")
