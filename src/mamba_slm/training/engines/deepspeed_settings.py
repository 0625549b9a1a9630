"""The ds_config.json of a run: what its settings say in DeepSpeed's words, with a user's own file under them.

What the settings decide (batch, clipping, stage, precision) a file may repeat, not contradict. "auto" in a file means
what the settings say. Everything else in it, such as bucket sizes, counts over what is chosen here. Imports no torch.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mamba_slm.core.errors import ConfigError
from mamba_slm.core.files import write_json_atomic
from mamba_slm.model.config import ModelConfig
from mamba_slm.model.count import count_parameters
from mamba_slm.training.config import TrainConfig

FILE_NAME = "ds_config.json"
DEFAULT_STAGE = 2
LARGEST_BUCKET = 50_000_000
"""Values that travel in one message (200 MB in float32); DeepSpeed's own 500 million would be allocated for any model.
"""
KEPT_WHOLE_PER_WIDTH = 10
"""Under stage 3, parameters of up to this many times the model's width stay whole in every process: the norms and the
scan's A_log, D and dt_bias, whose messages would cost more than their memory. transformers uses the same number."""
MATRICES = "mamba_slm.model.projection.Projection"
"""Whose weights and gradients travel in bf16 under autocast; everything else stays float32."""

FLAG_OF = {
    "train_batch_size": "--batch-tokens and --context-tokens",
    "train_micro_batch_size_per_gpu": "--micro-batch-rows",
    "gradient_accumulation_steps": "--batch-tokens and --micro-batch-rows",
    "gradient_clipping": "--clip-norm",
    "zero_optimization.stage": "--zero-stage",
    "zero_optimization.offload_optimizer.device": "--offload",
    "zero_optimization.offload_param.device": "--offload",
    "torch_autocast.enabled": "--precision",
    "torch_autocast.dtype": "--precision",
}
"""What the settings decide, and by which flag."""

NOT_TAKEN = {
    "optimizer": "the optimiser is built from the settings: --learning-rate, --weight-decay, --beta1, --beta2",
    "scheduler": "the learning rate follows the settings: --schedule, --warmup-share",
    "bf16": "it would round all weights, A_log and dt_bias among them; --precision bf16 uses torch_autocast",
    "fp16": "it would round all weights, A_log and dt_bias among them; use --precision bf16",
    "amp": "it would round all weights; --precision bf16 uses torch_autocast",
    "zero_optimization.zero_quantized_weights": "it rounds weights, and works with fused kernels of GPUs only",
    "zero_optimization.zero_quantized_gradients": "it rounds gradients",
    "tensor_parallel": "this engine shares by ZeRO alone",
    "sequence_parallel_size": "this engine shares by ZeRO alone",
    "pipeline": "this engine shares by ZeRO alone",
    "elasticity": "the number of processes is what was started; --resume goes on with another",
    "data_efficiency": "the order of the data is the run's own",
    "curriculum_learning": "the order of the data is the run's own",
    "compression_training": "it would train another model",
    "sparse_attention": "it would train another model",
    "checkpoint": "checkpoints are the run's own",
}
"""Parts of a file that are refused, and why; "enabled": false is no such part."""


def deepspeed_settings(config: TrainConfig, model: ModelConfig, *, processes: int, device_type: str) -> dict[str, Any]:
    """What `deepspeed.initialize` gets, and ds_config.json holds.

    Args:
        config: with its precision resolved; before that, what a file says about it is not looked at.
        processes: that share the model.
        device_type: "cpu" or "cuda".

    Raises:
        ConfigError: the file cannot be read or contradicts the settings (names the key), or the precision is fp16.
    """
    if config.precision == "fp16":
        raise ConfigError(
            "deepspeed cannot keep float32 weights under fp16: its loss scale wants them rounded",
            hint="use --precision bf16, or --engine ddp",
        )
    given, where = given_settings(config)
    refuse_what_is_not_taken(given, where)
    stage = zero_stage(config)
    decided = decided_by_settings(config, processes=processes, stage=stage)
    refuse_contradictions(given, decided, where)
    return merged(merged(chosen_here(model, stage=stage, device_type=device_type), given), decided)


def decided_by_settings(config: TrainConfig, *, processes: int, stage: int) -> dict[str, Any]:
    """What a file may repeat only."""
    rows = config.rows_per_step // processes
    rows_at_once = fitting_rows(rows, config.rows_at_once)
    autocast = {"fp32": {"enabled": False}, "bf16": {"enabled": True, "dtype": "bfloat16"}}
    zero: dict[str, Any] = {"stage": stage}
    if config.offload:
        zero["offload_optimizer"] = {"device": "cpu"}
        if stage == 3:
            zero["offload_param"] = {"device": "cpu"}
    return {
        "train_batch_size": config.rows_per_step,
        "train_micro_batch_size_per_gpu": rows_at_once,
        "gradient_accumulation_steps": rows // rows_at_once,
        "gradient_clipping": config.clip_norm,
        "zero_optimization": zero,
        "torch_autocast": autocast.get(config.precision, {}),  # nothing yet while it is "auto"
    }


def chosen_here(model: ModelConfig, *, stage: int, device_type: str) -> dict[str, Any]:
    """What a file may change."""
    bucket = min(count_parameters(model).total, LARGEST_BUCKET)
    on_gpu = device_type == "cuda"
    zero: dict[str, Any] = {
        "reduce_bucket_size": bucket,
        "allgather_bucket_size": 2 * bucket,
        "overlap_comm": on_gpu,
        "contiguous_gradients": True,
    }
    if stage == 3:
        zero |= {
            "stage3_prefetch_bucket_size": bucket,
            "stage3_max_live_parameters": bucket,
            "stage3_max_reuse_distance": bucket,
            "stage3_param_persistence_threshold": KEPT_WHOLE_PER_WIDTH * model.hidden_size,
            "memory_efficient_linear": False,  # it would replace torch's linear in the whole process
        }
    return {
        "steps_per_print": None,  # the trainer speaks
        "zero_force_ds_cpu_optimizer": False,  # offloaded moments are updated by the same AdamW
        "zero_optimization": zero,
        "torch_autocast": {"lower_precision_safe_modules": [MATRICES]},
    }


def fitting_rows(rows: int, at_once: int) -> int:
    """The most rows, at most `at_once`, in which `rows` can be cut without a rest.

    >>> fitting_rows(12, 5)
    4
    """
    return next(number for number in range(min(rows, at_once), 0, -1) if rows % number == 0)


def given_settings(config: TrainConfig) -> tuple[dict[str, Any], str]:
    """What the user's file holds, and what to call it."""
    if config.deepspeed_config is None:
        return {}, FILE_NAME
    return read_settings(config.deepspeed_config), config.deepspeed_config


def read_settings(file: str) -> dict[str, Any]:
    """A user's own ds_config.json.

    Raises:
        ConfigError: it is not there, no JSON, or no object.
    """
    try:
        content = json.loads(Path(file).read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"--deepspeed-config {file} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise ConfigError(f"--deepspeed-config {file} is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise ConfigError(
            f"--deepspeed-config {file} is not a JSON object", hint='for example {"zero_optimization": …}'
        )
    return content


def leaves(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted names of nested settings with their values."""
    for name, value in settings.items():
        if isinstance(value, Mapping) and value:
            yield from leaves(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def merged(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Two nested settings, the second over the first; "auto" leaves what is under it, or nothing."""
    result = dict(under)
    for name, value in over.items():
        if isinstance(value, Mapping) and isinstance(result.get(name, {}), Mapping):
            result[name] = merged(result.get(name, {}), value)
        elif value != "auto":
            result[name] = value
    return result


def refuse_what_is_not_taken(given: Mapping[str, Any], where: str) -> None:
    """Raise ConfigError for a part of a file that this engine cannot use."""
    for name, reason in NOT_TAKEN.items():
        value: Any = given
        for part in name.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
        is_off = value in (None, False, "auto") or (
            isinstance(value, Mapping) and value.get("enabled") in (False, "auto")
        )
        if not is_off:
            raise ConfigError(f"{where}: {name} cannot be used here: {reason}", hint=f"leave {name} out of the file")
    for name, value in leaves(given):
        if name.endswith(".device") and value == "nvme":
            raise ConfigError(f"{where}: {name} is nvme, which is not built", hint=f'use "{name}": "cpu"')


def zero_stage(config: TrainConfig) -> int:
    """The stage of ZeRO: by the settings, else by the file, else 2."""
    given, where = given_settings(config)
    zero = given.get("zero_optimization", {})
    wanted = zero.get("stage", "auto") if isinstance(zero, Mapping) else "auto"
    if wanted not in ("auto", 1, 2, 3):
        raise ConfigError(
            f"{where}: zero_optimization.stage is {wanted!r}, not 1, 2 or 3", hint="without sharing, use --engine ddp"
        )
    return config.zero_stage or (DEFAULT_STAGE if wanted == "auto" else wanted)


def refuse_contradictions(given: Mapping[str, Any], decided: Mapping[str, Any], where: str) -> None:
    """Raise ConfigError where a file says other than the settings."""
    ours = dict(leaves(decided))
    for name, value in leaves(given):
        if name in ours and value not in ("auto", ours[name]):
            raise ConfigError(
                f"{where}: {name} is {value!r}, and by the settings of the run it is {ours[name]!r}",
                hint=f'leave {name} out of the file or make it "auto", or change {FLAG_OF[name]}',
            )


def write_settings(
    folder: Path, config: TrainConfig, model: ModelConfig, *, processes: int, device_type: str
) -> dict[str, Any]:
    """Write ds_config.json into a run directory; gives what it holds."""
    settings = deepspeed_settings(config, model, processes=processes, device_type=device_type)
    write_json_atomic(folder / FILE_NAME, settings)
    return settings
