"""What command lines would do, for the dashboard: parsed and resolved by the code of the commands, no torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mamba_slm.dashboard.actions import Actions


def actions() -> Actions:
    """What the dashboard asks the command line."""
    from mamba_slm.cli.dashboard_data import encode_conversation
    from mamba_slm.cli.dashboard_evaluation import differences_of, scores_of
    from mamba_slm.cli.dashboard_examples import example_of_tuning
    from mamba_slm.cli.dashboard_models import plan_of_quantization
    from mamba_slm.cli.dashboard_serving import api_keys, check_server
    from mamba_slm.cli.dashboard_tuning import plan_of_tuning

    return Actions(
        check_command=check_command,
        plan_training=plan_of_training,
        scores_of=scores_of,
        differences_of=differences_of,
        check_server=check_server,
        api_keys=api_keys,
        plan_tuning=plan_of_tuning,
        example_of_tuning=example_of_tuning,
        encode_conversation=encode_conversation,
        plan_quantization=plan_of_quantization,
    )


def check_command(words: Sequence[str]) -> None:
    """Parse a command line and do nothing.

    Args:
        words: after `mamba-slm`.

    Raises:
        MambaSlmError: the command does not exist or does not take these arguments.
    """
    from mamba_slm.cli.main import load_command
    from mamba_slm.core.errors import UsageError

    if not words or {"-h", "--help"} & set(words):
        raise UsageError("this asks for help, and does nothing", hint="type it in a terminal")
    _, parser = load_command(words[0])
    parser.parse_args(list(words[1:]))


def plan_of_training(words: Sequence[str]) -> dict[str, Any]:
    """The settings and the estimate of `mamba-slm train …`, without looking at the data's content.

    Args:
        words: after `mamba-slm train`.

    Returns: `settings` that were resolved with their `origins`, `model` and `estimate` (both None where the weights
        come from a folder), and as `problem` the error that the data would give, or None.

    Raises:
        MambaSlmError: the command would refuse these settings.
    """
    from mamba_slm.cli.main import load_command
    from mamba_slm.cli.train import settings_of
    from mamba_slm.core.config import to_dict
    from mamba_slm.core.errors import MambaSlmError, UsageError
    from mamba_slm.core.hardware import gpu_by_device_name
    from mamba_slm.runs.machine import gpu_names, usable_memory_bytes
    from mamba_slm.training.data_arguments import parse_sources
    from mamba_slm.training.estimate import estimate_training
    from mamba_slm.training.plan import model_config_for
    from mamba_slm.training.spread import Spread

    _, parser = load_command("train")
    args = parser.parse_args(list(words))
    if args.resume is not None or args.dry_run or args.launcher != "local" or args.nproc is not None:
        raise UsageError(
            "--resume, --dry-run, --nproc and --launcher are not for this form",
            hint="resume a run on its own page; type the others in a terminal",
        )
    config, origins = settings_of(args, None)
    problem = None
    try:
        parse_sources(config.data)
    except MambaSlmError as error:
        problem = error
    found: dict[str, Any] = {
        "settings": to_dict(config),
        "origins": origins,
        "problem": problem,
        "model": None,
        "estimate": None,
    }
    if config.initial is not None:
        return found
    model = model_config_for(config)
    gpu = next((row for row in map(gpu_by_device_name, gpu_names()) if row is not None), None)
    on_gpu = gpu is not None and config.device != "cpu"
    estimate = estimate_training(
        model,
        context_tokens=config.context_tokens,
        batch_tokens=config.batch_tokens,
        rows_at_once=config.rows_at_once,
        tokens=config.limit_tokens,
        seconds=None if config.max_minutes is None else 60 * config.max_minutes,
        precision="bf16" if config.precision == "auto" else config.precision,
        gradient_checkpointing=config.gradient_checkpointing,
        gpu=gpu if on_gpu else None,
        spread=Spread(),
        kernels="torch" if config.kernels == "torch" else "native",
        optimizer=config.optimizer,
        device_memory_bytes=usable_memory_bytes(),
    )
    return {**found, "model": to_dict(model), "estimate": estimate.to_dict()}
