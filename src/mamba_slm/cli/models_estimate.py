"""`mamba-slm models estimate`: memory, time and cost of training a model, before anything is spent. No torch."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from mamba_slm.cli import console
from mamba_slm.core.errors import UsageError
from mamba_slm.core.units import format_bytes, parse_count

if TYPE_CHECKING:
    from mamba_slm.core.hardware import Gpu
    from mamba_slm.model.config import ModelConfig
    from mamba_slm.training.config import TrainConfig
    from mamba_slm.training.estimate import Estimate
    from mamba_slm.training.fitting import Demand
    from mamba_slm.training.measuring import Measurement
    from mamba_slm.training.published_runs import PublishedRun

DEFAULT_GPU = "H100 80GB"
TOKENS_PER_PARAMETER = 20  # compute-optimal for transformers, arXiv:2203.15556; small models are usually trained longer
SETTINGS = (
    "context_tokens", "batch_tokens", "micro_batch_rows", "gradient_checkpointing", "sharding", "shard_processes",
    "offload", "optimizer", "kernels",
)  # fmt: skip

EPILOG = """\
Without --gpus and --gpu the estimate is for this machine. It warns when the memory does not suffice; it never refuses.
What each device holds depends on --engine; activations are never shared. --measure takes two steps here instead.

examples:
  mamba-slm models estimate nano --tokens 2M
  mamba-slm models estimate 1.3B --gpus 8 --gpu "H100 80GB" --tokens 30B
  mamba-slm models estimate 13B --gpus 8 --engine deepspeed --zero-stage 3 --offload
  mamba-slm models estimate nano --nproc 2 --engine fsdp
  mamba-slm models estimate 1.3B --task qlora --gpu "RTX 4090" --context-tokens 2048
  mamba-slm models estimate small_scale
  mamba-slm models estimate 350M --gpus 1 --gpu "RTX 4090" --price 0.45 --json
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments after NAME and those that change the model."""
    from mamba_slm.cli import models_estimate_finetune
    from mamba_slm.core.hardware import GPUS
    from mamba_slm.core.values import parse_float

    parser.description = (
        "What training or fine-tuning this model takes: memory by part, time and money, and how each number was "
        "obtained."
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
    configure_engine(parser)
    models_estimate_finetune.configure(parser)
    parser.add_argument("--mfu", type=parse_float, metavar="X", help="share of the peak that is reached, such as 35%%")
    parser.add_argument("--price", type=parse_float, metavar="X", help="dollars per device and hour")
    parser.add_argument(
        "--measure", action="store_true", help="take two steps on this machine instead of guessing (loads torch)"
    )
    parser.add_argument("--json", action="store_true", help="one object")


def configure_engine(parser: argparse.ArgumentParser) -> None:
    """Arguments about how the run lies on its devices; the names of `mamba-slm train`."""
    parser.add_argument("--nproc", type=parse_count, metavar="N", help="processes on the CPU of this machine")
    parser.add_argument(
        "--engine",
        choices=("auto", "ddp", "fsdp", "deepspeed"),
        default="auto",
        help="of several devices; auto: ddp where a whole model fits each, else fsdp",
    )
    parser.add_argument("--sharding", choices=("full", "grad_optimizer", "none"), help="of fsdp")
    parser.add_argument("--shard-processes", type=parse_count, metavar="N", help="of fsdp: groups of N (hybrid)")
    parser.add_argument("--zero-stage", type=int, choices=(1, 2, 3), default=2, help="of deepspeed (default: 2)")
    parser.add_argument(
        "--offload", action=argparse.BooleanOptionalAction, help="moments (fsdp, ZeRO 3: weights) in the CPU's memory"
    )
    parser.add_argument("--optimizer", choices=("adamw", "adamw8bit", "muon"), help="default: adamw")
    parser.add_argument("--kernels", choices=("auto", "torch"), help="of this CPU; torch: PyTorch's operations only")


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
    settings = settings_of(args)
    tokens = args.tokens or TOKENS_PER_PARAMETER * facts["parameters"]
    precision = args.precision or ("fp32" if gpu is None else "bf16" if gpu.has_bf16 else "fp16")
    demand, why = demand_for(args, config, settings, gpu, devices, precision)
    rows_at_once = demand.rows_at_once
    estimate = estimated(args, demand, settings, gpu, tokens)
    more = prospects(
        config,
        estimate,
        context_tokens=settings.context_tokens,
        precision=precision,
        gradient_checkpointing=settings.gradient_checkpointing,
        on_gpu=gpu is not None,
        kernels=demand.kernels,
        optimizer=settings.optimizer,
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
        machine = f"{devices} × {gpu.name}" if gpu else "this CPU" + (f", {devices} processes" if devices > 1 else "")
        name = args.name if published is None else f"{published.name} ({args.name})"
        print(f"{name} on {machine}, {precision}{checkpointed}")
        print(estimate)
        if devices > 1 and args.engine == "auto":
            print(f"            automatic: {why}")
        print(f"batch       {shape}")
        print(more)
        if published is not None:
            print(f"claimed     {published.claim()}")
    advise(args, estimate, demand)
    return 0


def demand_for(
    args: argparse.Namespace,
    config: ModelConfig,
    settings: TrainConfig,
    gpu: Gpu | None,
    devices: int,
    precision: str,
) -> tuple[Demand, str]:
    """What the run asks of each device, and why it has this engine."""
    from mamba_slm.training.fitting import demand_of, with_fitting_engine
    from mamba_slm.training.spread import Spread

    engine = "plain" if devices == 1 else "ddp" if args.engine == "auto" else args.engine
    spread = Spread(
        engine=engine,
        processes=devices,
        sharding=settings.sharding,
        shard_processes=settings.shard_processes,
        zero_stage=args.zero_stage,
        offload=settings.offload and devices > 1,
    )
    demand = demand_of(settings, config, spread, precision=precision, on_gpu=gpu is not None)
    if args.engine != "auto":
        return demand, "asked for"
    return with_fitting_engine(demand, memory_of_each(gpu, devices))


def memory_of_each(gpu: Gpu | None, devices: int) -> int | None:
    """Bytes of a GPU, or for one of the processes on this machine's CPU."""
    from mamba_slm.runs.machine import usable_memory_bytes

    if gpu is not None:
        return gpu.memory_bytes
    memory = usable_memory_bytes()
    return None if memory is None else memory // devices


def estimated(
    args: argparse.Namespace, demand: Demand, settings: TrainConfig, gpu: Gpu | None, tokens: int
) -> Estimate:
    """The plan, for this machine when `gpu` is None."""
    from mamba_slm.training.estimate import estimate_training

    return estimate_training(
        demand.model,
        context_tokens=demand.context_tokens,
        batch_tokens=settings.batch_tokens,
        rows_at_once=demand.rows_at_once,
        tokens=tokens,
        precision=demand.precision,
        gradient_checkpointing=demand.gradient_checkpointing,
        gpu=gpu,
        spread=demand.spread,
        kernels=demand.kernels,
        optimizer=demand.optimizer,
        measured=measured(args, demand, settings, gpu) if args.measure else None,
        device_memory_bytes=memory_of_each(gpu, demand.spread.processes),
        mfu=args.mfu,
        price_per_hour_usd=args.price,
    )


def measured(args: argparse.Namespace, demand: Demand, settings: TrainConfig, gpu: Gpu | None) -> Measurement:
    """Two real steps on this machine.

    Raises:
        UsageError: the estimate is for other GPUs than this machine has.
        OutOfMemoryError: they do not fit.
    """
    from dataclasses import replace

    from mamba_slm.runs.machine import gpu_names
    from mamba_slm.training.measuring import measure_steps

    spread = demand.spread
    if gpu is not None and len(gpu_names()) < spread.processes:
        raise UsageError(
            f"--measure takes steps on this machine, which has {len(gpu_names())} GPUs; the estimate is for "
            f"{spread.processes} × {gpu.name}",
            hint="leave out --measure, or add --gpus 0",
        )
    config = replace(
        settings,
        device="cpu" if gpu is None else "cuda",
        engine="auto" if spread.engine == "plain" else spread.engine,
        precision=demand.precision,
    )
    console.say("taking two steps …")
    return measure_steps(config, demand.model, processes=spread.processes)


def devices_of(args: argparse.Namespace) -> tuple[Gpu | None, int]:
    """The GPU and how many of it; None and 1 for the CPU. What the arguments leave open, this machine decides."""
    from mamba_slm.core.hardware import find_gpu, gpu_by_device_name
    from mamba_slm.runs.machine import gpu_names

    if args.nproc is not None:
        if args.gpus or args.gpu:
            raise UsageError("--nproc means processes on this CPU", hint="for GPUs give --gpus N alone")
        if args.nproc < 1:
            raise UsageError(f"--nproc must be at least 1, got {args.nproc}")
        return None, args.nproc
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


def advise(args: argparse.Namespace, estimate: Estimate, demand: Demand) -> None:
    """On stderr: what to do when the memory does not suffice or the speed is unknown."""
    from mamba_slm.training.fitting import hint_for

    if estimate.fits is False:
        name, size = estimate.memory.largest
        console.say(
            f"hint: it does not fit, and the largest part is {name} with {format_bytes(size)}; "
            + hint_for(demand, estimate.device_memory_bytes)
        )
    if estimate.tokens_per_second is None:
        console.say(
            f"hint: mamba-slm models estimate {args.name} --measure takes two steps and tells how long it takes"
        )
