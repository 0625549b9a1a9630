"""The plan of a run on this machine, and how run.json keeps it."""

from __future__ import annotations

import dataclasses

import torch

from mamba_slm.core.hardware import gpu_by_device_name
from mamba_slm.model.config import ModelConfig
from mamba_slm.runs.machine import usable_memory_bytes
from mamba_slm.runs.record import RunRecord
from mamba_slm.training.config import TrainConfig
from mamba_slm.training.estimate import Estimate, estimate_training
from mamba_slm.training.peak import Peak
from mamba_slm.training.spread import spread_of


def estimate_run(config: TrainConfig, model_config: ModelConfig, peak: Peak | None, *, processes: int = 1) -> Estimate:
    """The plan of this run on this machine, with the measured rate of one process."""
    on_gpu = config.device.startswith("cuda")
    memory = usable_memory_bytes()
    return estimate_training(
        model_config,
        context_tokens=config.context_tokens,
        batch_tokens=config.batch_tokens,
        rows_at_once=min(config.rows_at_once, max(1, config.rows_per_step // processes)),
        tokens=config.limit_tokens,
        seconds=None if config.max_minutes is None else 60 * config.max_minutes,
        precision=config.precision,
        gradient_checkpointing=config.gradient_checkpointing,
        gpu=gpu_by_device_name(torch.cuda.get_device_name(config.device)) if on_gpu else None,
        spread=spread_of(config, processes),
        kernels="torch" if config.kernels == "torch" else "native",
        optimizer=config.optimizer,
        cpu_flops_per_second=None if peak is None or on_gpu else peak.flops_per_second,
        device_memory_bytes=None if memory is None else memory // processes,
    )


def larger_peak(peak: Peak | None, record: RunRecord, precision: str) -> Peak | None:
    """The peak measured now or at an earlier start of this run: other work on the machine only makes it smaller."""
    earlier = record.hardware.get("peak")
    here = {"precision": precision, "threads": torch.get_num_threads()}
    if peak is None or not earlier or {name: earlier.get(name) for name in here} != here:
        return peak
    return dataclasses.replace(peak, flops_per_second=max(peak.flops_per_second, earlier["flops_per_second"]))


def with_estimate(record: RunRecord, estimate: Estimate, peak: Peak | None, precision: str, kernels: str) -> RunRecord:
    """The record with the plan, the kernels and the peak; a resumed run keeps the plan it began with."""
    hardware = {**record.hardware, "threads": torch.get_num_threads(), "kernels": kernels}
    if peak is not None:
        hardware["peak"] = {**dataclasses.asdict(peak), "precision": precision, "threads": torch.get_num_threads()}
    return dataclasses.replace(record, estimate=record.estimate or estimate.to_dict(), hardware=hardware, result=None)
