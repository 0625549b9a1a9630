"""`mamba-slm train --launcher slurm`: the command as a job of a cluster, submitted or shown."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from mamba_slm.cli import console
from mamba_slm.core.errors import UsageError

if TYPE_CHECKING:
    from mamba_slm.runs.layout import RunDirectory
    from mamba_slm.training.config import TrainConfig

SLURM = "slurm."
LAUNCHERS = ("local", "slurm")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `--launcher`."""
    from mamba_slm.core.config import add_flags
    from mamba_slm.training.launching.slurm import SlurmJobConfig

    parser.add_argument(
        "--launcher",
        choices=LAUNCHERS,
        default="local",
        help="who starts the processes: this machine (default), or a Slurm job; with --dry-run its script is shown",
    )
    add_flags(parser.add_argument_group("Slurm"), SlurmJobConfig, prefix=SLURM)


def require_launcher(args: argparse.Namespace) -> None:
    """Raise UsageError when settings of a launcher are given that is not asked for."""
    from mamba_slm.core.config import flags_given
    from mamba_slm.training.launching.slurm import SlurmJobConfig

    if args.launcher == "slurm":
        return
    for setting in flags_given(args, SlurmJobConfig, prefix=SLURM):
        flag = f"--{SLURM}{setting.replace('_', '-')}"
        raise UsageError(f"{flag} is for Slurm", hint="add --launcher slurm, or leave it out")


def submit_to_slurm(args: argparse.Namespace, config: TrainConfig, directory: RunDirectory | None) -> int:
    """Write the script and give it to sbatch; with `--dry-run` only show it.

    Raises:
        UsageError: there is no folder for the run, or one is in the way.
        ConfigError: the rows of a step cannot be dealt to the processes.
        SetupError: sbatch is not there, or refuses.
    """
    from mamba_slm.core.config import flags_given, resolve
    from mamba_slm.core.files import write_text_atomic
    from mamba_slm.data.engine.slurm_job import submit
    from mamba_slm.training.distributed.place import rows_of_each
    from mamba_slm.training.launching.job import require_new_or_resumed, words_for_ranks
    from mamba_slm.training.launching.slurm import SlurmJobConfig, script_of

    slurm = resolve(SlurmJobConfig, [("command line", flags_given(args, SlurmJobConfig, prefix=SLURM))])[0]
    is_resumed = args.resume is not None
    run = require_new_or_resumed(str(directory.path) if directory else args.out, is_resumed=is_resumed)
    per_node = slurm.processes_per_node(args.nproc)
    processes = slurm.nodes * per_node
    rows = rows_of_each(config.rows_per_step, processes, context_tokens=config.context_tokens)
    require_settings(config)
    words = words_for_ranks(args.words, is_resumed=is_resumed)
    script = script_of(slurm, words, run=run, folder=Path.cwd(), processes_per_node=per_node)
    if args.dry_run:
        print(script, end="")
        return 0
    file = run / "slurm" / "job.sbatch"
    file.parent.mkdir(parents=True, exist_ok=True)
    write_text_atomic(file, script)
    job = submit(file, instead="--launcher local")
    log = file.with_name(f"{job}.log")
    if args.json:
        console.print_json({"job": job, "run": str(run), "script": str(file), "log": str(log), "processes": processes})
        return 0
    print(f"job {job}: {processes} processes on {slurm.nodes} nodes, {rows} rows each per step")
    console.say(f"its log: {log}")
    console.say(f"watch:   squeue --jobs={job}; mamba-slm runs show {shlex.quote(str(run))}")
    console.say(f"stop:    mamba-slm runs stop {shlex.quote(str(run))} (saves first), or scancel {job}")
    return 0


def require_settings(config: TrainConfig) -> None:
    """Refuse here what every process of the job would refuse later."""
    from mamba_slm.training.data_arguments import parse_sources
    from mamba_slm.training.plan import model_config_for

    model_config_for(config)
    parse_sources(config.data)
    if config.has_limit:
        config.run_schedule()
