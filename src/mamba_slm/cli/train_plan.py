"""`mamba-slm train … --dry-run`: what would run, here or on a GPU that one thinks of, before there is data."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from mamba_slm.cli import console
from mamba_slm.core.errors import UsageError

if TYPE_CHECKING:
    from mamba_slm.core.hardware import Gpu
    from mamba_slm.model.config import ModelConfig
    from mamba_slm.runs.layout import RunDirectory
    from mamba_slm.training.config import TrainConfig
    from mamba_slm.training.estimate import Estimate


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments that only a plan has."""
    parser.add_argument(
        "--gpu",
        metavar="NAME",
        help='what --dry-run counts with instead of this machine, such as "RTX 4090"; --nproc of them',
    )
    parser.add_argument(
        "--price", metavar="USD", type=float, help="of an hour of one --gpu; default: an assumption, which is said"
    )


def require_dry_run(args: argparse.Namespace) -> None:
    """Raise UsageError when something is given that only a plan has."""
    for flag in ("gpu", "price"):
        if getattr(args, flag) is not None:
            raise UsageError(f"--{flag} is what a plan counts with", hint="add --dry-run, or choose with --device")


def show(args: argparse.Namespace, config: TrainConfig, origins: dict[str, str], directory: RunDirectory | None) -> int:
    """Print what would run: settings with origins, model, data, estimate."""
    from mamba_slm.core.config import to_dict
    from mamba_slm.core.hardware import find_gpu
    from mamba_slm.training.data_arguments import parse_sources
    from mamba_slm.training.plan import model_config_for
    from mamba_slm.training.run_config import read_model_config

    if args.price is not None and args.gpu is None:
        raise UsageError("--price is that of a --gpu", hint='add --gpu, such as --gpu "RTX 4090"')
    sources = parse_sources(config.data, must_exist=False)
    model = (read_model_config(directory) if directory else None) or model_config_for(config)
    planned = for_gpu(args, config, model, find_gpu(args.gpu)) if args.gpu else for_this_machine(args, config, model)
    estimate, device, precision = planned
    where = directory.path if directory else args.out or "a new folder in the home of runs"
    if args.json:
        console.print_json(
            {
                "settings": to_dict(config),
                "origins": origins,
                "model": to_dict(model),
                "estimate": estimate.to_dict(),
                "device": device,
                "precision": precision,
                "run": str(where),
            }
        )
        return 0
    rows = [[name, plain(value), origins[name]] for name, value in to_dict(config).items()]
    print(console.table(["setting", "value", "from"], rows))
    print(f"\nrun         {where}{' (resumed)' if directory else ''}")
    for source in sources:
        weight = f", weight {source.weight:g}" if source.weight else ""
        print(f"data        {source.name}: {source.path}{weight}{'' if source.path.exists() else ', not there yet'}")
    print(f"model       {config.model}: {model.pattern}, vocabulary {model.vocab_size:,}")
    print(f"device      {device}; precision {precision}")
    if not config.has_limit:
        print("length      one pass over the data (no limit was given)")
    print(estimate)
    return 0


def for_this_machine(args: argparse.Namespace, config: TrainConfig, model: ModelConfig) -> tuple[Estimate, str, str]:
    """The estimate here, and what was chosen as device and precision."""
    from mamba_slm.training.peak import peak_of
    from mamba_slm.training.precision import choose_device, choose_precision
    from mamba_slm.training.run import with_choices
    from mamba_slm.training.run_estimate import estimate_run

    device = choose_device(config.device)
    precision = choose_precision(config.precision, device.value)
    chosen = with_choices(config, device, precision)
    estimate = estimate_run(chosen, model, peak_of(chosen.device, chosen.precision), processes=args.nproc or 1)
    return estimate, str(device), str(precision)


def for_gpu(args: argparse.Namespace, config: TrainConfig, model: ModelConfig, gpu: Gpu) -> tuple[Estimate, str, str]:
    """The estimate for `--nproc` GPUs that need not be here. Loads no torch."""
    from mamba_slm.training.estimate import estimate_training
    from mamba_slm.training.fitting import demand_of, with_fitting_engine
    from mamba_slm.training.spread import spread_of

    devices = args.nproc or 1
    precision = config.precision
    if precision == "auto":
        precision = "bf16" if gpu.has_bf16 else "fp16"
    demand = demand_of(config, model, spread_of(config, devices), precision=precision, on_gpu=True)
    why = "asked for"
    if config.engine == "auto":
        demand, why = with_fitting_engine(demand, gpu.memory_bytes)
    estimate = estimate_training(
        model,
        context_tokens=demand.context_tokens,
        batch_tokens=config.batch_tokens,
        rows_at_once=demand.rows_at_once,
        tokens=config.limit_tokens,
        seconds=None if config.max_minutes is None else 60 * config.max_minutes,
        precision=precision,
        gradient_checkpointing=config.gradient_checkpointing,
        gpu=gpu,
        spread=demand.spread,
        kernels=demand.kernels,
        optimizer=config.optimizer,
        price_per_hour_usd=args.price,
    )
    shown = f"{devices} × {gpu.name} (--gpu: nothing of this machine is counted; engine: {why})"
    return estimate, shown, precision


def plain(value: Any) -> str:
    """A setting's value as one would write it."""
    if value is None:
        return "none"
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return str(value).lower() if isinstance(value, bool) else str(value)
