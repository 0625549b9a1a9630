"""Everything that is found out about the processes of a job before it costs money, in one call."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import torch

from mamba_slm.core.errors import ConfigError
from mamba_slm.training.distributed.facts import facts_of, judge_processes, judge_variables, judge_versions
from mamba_slm.training.distributed.finding import Finding
from mamba_slm.training.distributed.network import (
    check_sums,
    measure_all_reduce,
    measure_barrier,
    measure_clocks,
    measure_links,
    measure_work,
)
from mamba_slm.training.distributed.place import Place
from mamba_slm.training.distributed.shared_disk import check_disk
from mamba_slm.training.distributed.world import World


def examine_world(world: World, *, folder: str | os.PathLike[str], say: Callable[[str], None]) -> list[Finding]:
    """The findings, the same in every process. All processes call this together.

    Args:
        folder: where a run would be written; it need not be there yet.
        say: told what is looked at.

    Raises:
        RankLostError: a process is gone or hangs.
    """
    say(f"{world.size} processes have come; a few seconds of messages, and files in {Path(folder)}")
    facts = world.gather(facts_of(world))
    findings = [judge_processes(facts), judge_versions(facts), judge_variables(facts), check_sums(world)]
    findings.append(measure_all_reduce(world))
    findings.append(measure_links(world))
    clocks, offset = measure_clocks(world)
    findings += [measure_barrier(world, offset), clocks, measure_work(world)]
    findings.append(check_disk(world, Path(world.agree(lambda: str(Path(folder).absolute())))))
    return findings


def device_type_for(place: Place, wanted: str) -> str:
    """`cuda` or `cpu` for `auto`, `cuda` and `cpu`; chooses the GPU of this process.

    Raises:
        ConfigError: there is no GPU for this process.
    """
    if wanted == "cpu" or (wanted == "auto" and not torch.cuda.is_available()):
        return "cpu"
    if place.local_rank >= torch.cuda.device_count():
        raise ConfigError(
            f"process {place.rank} has no GPU: {place.local_size} processes here, {torch.cuda.device_count()} GPUs",
            hint="start one process per GPU, or use --device cpu",
        )
    torch.cuda.set_device(place.local_rank)
    return "cuda"
