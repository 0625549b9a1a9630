"""What a fine-tuning or an alignment would do, for the dashboard: settings, reach, steps and memory, no torch."""

from __future__ import annotations

import importlib.util
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mamba_slm.core.hardware import Gpu
    from mamba_slm.dashboard.reading.base_model import BaseModel
    from mamba_slm.finetuning.alignment.config import AlignConfig
    from mamba_slm.finetuning.config import FinetuneConfig
    from mamba_slm.finetuning.memory_estimate import FinetuneShape
    from mamba_slm.model.config import ModelConfig


def plan_of_tuning(words: Sequence[str], reads_data: bool = True) -> dict[str, Any]:
    """The settings, the reach and the estimate of `mamba-slm finetune …` or `mamba-slm align …`.

    Args:
        words: after `mamba-slm`.
        reads_data: whether to look at the first examples; without them nothing is known about steps and memory.

    Returns: `settings` with `origins`, `parameters`, `trained`, `coverage`, `learning_rate`, `data`, `steps` and
        `memory`, each None where it is not known, and as `problem` the error that model or data give, or None.

    Raises:
        MambaSlmError: the command would refuse these settings.
    """
    from mamba_slm.core.config import to_dict
    from mamba_slm.core.errors import MambaSlmError
    from mamba_slm.dashboard.reading.base_model import base_model
    from mamba_slm.model.count import count_parameters

    config, origins = settings_of(words)
    found: dict[str, Any] = dict.fromkeys(
        ("problem", "parameters", "pattern", "trained", "coverage", "learning_rate", "data", "steps", "memory")
    )
    found |= {"settings": to_dict(config), "origins": origins, "how": "", "tokens": None, "gpu": None}
    found["on_gpu"] = has_gpu(config.device)
    try:
        base = base_model(Path(config.model))
        parameters = count_parameters(base.config).total
        rate, reason = config.peak_rate(parameters)
        found |= {"parameters": parameters, "pattern": base.config.pattern, "learning_rate": [rate, reason]}
        found |= reach(config, base.config)
        require_possible(config, base)
        if reads_data:
            found |= steps_and_memory(config, base)
    except MambaSlmError as error:
        found["problem"] = error
    return found


def settings_of(words: Sequence[str]) -> tuple[FinetuneConfig | AlignConfig, dict[str, str]]:
    """The resolved settings of either command.

    Raises:
        UsageError: another command, or one that trains nothing new.
    """
    from mamba_slm.cli import align, finetune
    from mamba_slm.cli.main import load_command
    from mamba_slm.core.errors import UsageError

    if not words or words[0] not in ("finetune", "align"):
        raise UsageError("this plans mamba-slm finetune and mamba-slm align")
    _, parser = load_command(words[0])
    args = parser.parse_args(list(words[1:]))
    if args.resume is not None or args.dry_run or getattr(args, "dry_reward", None) is not None:
        raise UsageError(
            "--resume, --dry-run and --dry-reward are not for this form",
            hint="resume a run on its own page; type the others in a terminal",
        )
    return (finetune if words[0] == "finetune" else align).settings_of(args, None)


def require_possible(config: FinetuneConfig | AlignConfig, base: BaseModel) -> None:
    """Refuse what the command would refuse once it has loaded the model.

    Raises:
        UsageError: a quantized model that cannot be trained in this way.
        MissingDependencyError: a library is not installed.
    """
    from mamba_slm.core.errors import MissingDependencyError, UsageError
    from mamba_slm.finetuning.config import FinetuneConfig

    if base.is_quantized and (config.method != "qlora" or base.has_adapter):
        raise UsageError(
            f"{base.folder} is quantized, and this wants weights in floating point",
            hint="use --method qlora on the model without an adapter, or the model that it was made from",
        )
    is_finetuning = isinstance(config, FinetuneConfig)
    names = ["transformers", *([] if is_finetuning else ["trl", "datasets"])]
    for name in [*names, *([] if config.method == "full" else ["peft"])]:
        if importlib.util.find_spec(name) is None:
            purpose = f"mamba-slm {'finetune' if is_finetuning else 'align'}"
            raise MissingDependencyError(
                f"{purpose} needs {name}, which is not installed", hint="pip install 'mamba-slm[finetune]'"
            )


def reach(config: FinetuneConfig | AlignConfig, model: ModelConfig) -> dict[str, Any]:
    """Which sublayers and matrices are trained, and how many numbers that is."""
    from mamba_slm.finetuning.memory_estimate import adapter_sizes, full_sizes
    from mamba_slm.model.count import count_parameters
    from mamba_slm.model.matrices import part_of

    total = count_parameters(model).total
    if config.method == "full":
        reached = [True] * len(model.pattern)
        return {"trained": total, "coverage": {"sublayers": reached, "parts": [], "in_full": total}}
    sizes, matrices, numbers = adapter_sizes(model, config.lora), Counter[str](), Counter[str]()
    for name, size in sizes.items():
        matrices[part_of(name)] += 1
        numbers[part_of(name)] += size
    in_full = sum(full_sizes(model, config.lora).values())
    reached = [any(name.startswith(f"sublayers.{i}.") for name in sizes) for i in range(len(model.pattern))]
    if "norms" in config.lora.full:
        reached = [True] * len(model.pattern)
    elif in_full:
        reached = [is_reached or kind == "M" for is_reached, kind in zip(reached, model.pattern, strict=True)]
    parts = [{"part": part, "matrices": matrices[part], "parameters": numbers[part]} for part in matrices]
    return {
        "trained": sum(sizes.values()) + in_full,
        "coverage": {"sublayers": reached, "parts": parts, "in_full": in_full},
    }


def steps_and_memory(config: FinetuneConfig | AlignConfig, base: BaseModel) -> dict[str, Any]:
    """What the first examples say about the length of the run and about memory.

    Raises:
        MambaSlmError: the data cannot be learned from.
    """
    from mamba_slm.core.errors import ConfigError
    from mamba_slm.data.conversations.hub import is_hub_id
    from mamba_slm.finetuning.config import FinetuneConfig

    if not config.data:
        raise ConfigError("there is nothing to learn from", hint="add a file, or prefs:NAME of rated pairs")
    if any(is_hub_id(source) for source in config.data):
        return {"how": "a data set of the hub is read when the command begins: nothing is known about it before"}
    return (steps_of_finetuning if isinstance(config, FinetuneConfig) else steps_of_alignment)(config, base)  # type: ignore[arg-type]


def steps_of_finetuning(config: FinetuneConfig, base: BaseModel) -> dict[str, Any]:
    """Of `finetune`: exact where all examples were read, else scaled up from the first ones."""
    from mamba_slm.cli.dashboard_tuning_data import looked_at
    from mamba_slm.finetuning.memory_estimate import estimate_finetune_memory
    from mamba_slm.finetuning.planned import shape_of
    from mamba_slm.finetuning.prepared import rows_of, tokens_of
    from mamba_slm.finetuning.step_plan import plan_steps

    seen = looked_at(config, base)
    prepared, on_gpu = seen.prepared, has_gpu(config.device)
    rows = rows_of(prepared.train.examples, config, prepared.context_tokens)
    row_tokens = prepared.context_tokens if config.packing else max(1.0, sum(map(tokens_of, rows)) / len(rows))
    scale = 1.0 if seen.total is None else seen.total / max(1, seen.read)
    plan = plan_steps(
        config,
        num_rows=max(1, round(len(rows) * scale)),
        row_tokens=row_tokens,
        device_type="cuda" if on_gpu else "cpu",
    )
    chosen = replace(config, precision=precision_of(config, on_gpu=on_gpu))  # type: ignore[arg-type]
    shape = shape_of(chosen, plan, context_tokens=prepared.context_tokens, device_type="cuda" if on_gpu else "cpu")
    memory = estimate_finetune_memory(base.config, shape)
    is_known = seen.total is not None or config.max_steps is not None
    tokens = plan.steps * round(plan.rows_per_step * row_tokens) if is_known else None
    used = prepared.train
    return {
        "data": {
            "said": seen.said, "examples": len(used.examples), "read": seen.read, "total": seen.total,
            "tokens": used.num_tokens, "learned": used.num_trained, "template": str(prepared.template),
        },
        "steps": plan.steps if is_known else None,
        "tokens": tokens,
        "gpu": on_this_gpu(base.config, shape, here(), tokens=tokens) if on_gpu else None,
        "memory": asdict(memory),
        "how": "" if seen.total == seen.read else f"from the first {seen.read:,} examples; --dry-run reads all",
    }  # fmt: skip


def steps_of_alignment(config: AlignConfig, base: BaseModel) -> dict[str, Any]:
    """Of `align`: examples as they are read; the command says more once it has cut them into tokens."""
    from mamba_slm.cli.dashboard_tuning_data import base_of, read_alignment, versions

    said, items, total = read_alignment(base_of(config), versions(config.data))
    held_out = 0 if config.validation is not None else config.validation_share
    count = len(items) if total is None else total
    per_step = max(1, min(config.batch_examples, round(count * (1 - held_out))))
    steps = max(1, round(config.epochs * -(-max(1, round(count * (1 - held_out))) // per_step))) * config.updates
    steps = steps if config.max_steps is None else min(steps, config.max_steps)
    is_known = total is not None or config.max_steps is not None
    return {
        "data": {"said": said, "examples": len(items), "read": len(items), "total": total, "tokens": None,
                 "learned": None, "template": None},
        "steps": steps if is_known else None,
    }  # fmt: skip


def has_gpu(device: str) -> bool:
    """Whether the command would compute on a GPU, as far as the kernel driver tells."""
    from mamba_slm.runs.machine import gpu_names

    return device.startswith("cuda") or (device == "auto" and bool(gpu_names()))


def precision_of(config: FinetuneConfig | AlignConfig, *, on_gpu: bool) -> str:
    """What `auto` comes to on this machine, as `choose_precision` of training has it, which needs torch to know."""
    from mamba_slm.core.processor import has_instructions

    if config.precision != "auto":
        return config.precision
    if on_gpu:
        gpu = here()
        return "fp16" if gpu is not None and not gpu.has_bf16 else "bf16"
    return "bf16" if has_instructions("avx512_bf16") or has_instructions("amx_tile") else "fp32"


def here() -> Gpu | None:
    """The GPU of this machine, as the table of hardware has it."""
    from mamba_slm.core.hardware import gpu_by_device_name
    from mamba_slm.runs.machine import gpu_names

    return next((row for row in map(gpu_by_device_name, gpu_names()) if row is not None), None)


def on_this_gpu(model: ModelConfig, shape: FinetuneShape, gpu: Gpu | None, *, tokens: int | None) -> dict[str, Any]:
    """Time and cost by the data sheet of a GPU, as `models estimate --task` has them, and the memory that it has."""
    from mamba_slm.cli.models_estimate_finetune import FROZEN_SHARE
    from mamba_slm.training.estimate import estimate_training

    if gpu is None:
        return {"seconds": None, "cost_usd": None, "memory_bytes": None, "how": "this GPU is in no table of hardware"}
    estimate = estimate_training(
        model,
        context_tokens=shape.context_tokens,
        batch_tokens=shape.rows_at_once * shape.context_tokens,
        rows_at_once=shape.rows_at_once,
        tokens=tokens,
        precision=shape.precision,
        gradient_checkpointing=shape.gradient_checkpointing,
        gpu=gpu,
    )
    share = 1.0 if shape.method == "full" else FROZEN_SHARE
    is_known = tokens is not None and estimate.seconds is not None
    return {
        "seconds": share * estimate.seconds if is_known and estimate.seconds is not None else None,
        "cost_usd": share * estimate.cost_usd if is_known and estimate.cost_usd is not None else None,
        "memory_bytes": gpu.memory_bytes,
        "how": f"{gpu.name}: {estimate.how}",
    }
