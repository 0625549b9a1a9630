"""`mamba-slm train --launcher slurm|ray`: the command as a job of a cluster, submitted or shown."""

from __future__ import annotations

import argparse
import shlex
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mamba_slm.cli import console
from mamba_slm.core.errors import ConfigError, UsageError

if TYPE_CHECKING:
    from mamba_slm.runs.layout import RunDirectory
    from mamba_slm.training.config import TrainConfig

LAUNCHERS = ("local", "slurm", "ray")


def settings_of_launchers() -> dict[str, type]:
    """Launcher -> what can be asked of it."""
    from mamba_slm.training.launching.ray_job import RayJobConfig
    from mamba_slm.training.launching.slurm import SlurmJobConfig

    return {"slurm": SlurmJobConfig, "ray": RayJobConfig}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `--launcher`."""
    from mamba_slm.core.config import add_flags

    parser.add_argument(
        "--launcher",
        choices=LAUNCHERS,
        default="local",
        help="who starts the processes: this machine (default), a Slurm job, or a job of a Ray cluster; --dry-run "
        "shows what would be submitted",
    )
    for name, settings in settings_of_launchers().items():
        add_flags(parser.add_argument_group(f"--launcher {name}"), settings, prefix=f"{name}.")


def require_launcher(args: argparse.Namespace) -> None:
    """Raise UsageError when settings of a launcher are given that is not asked for."""
    from mamba_slm.core.config import flags_given

    for name, settings in settings_of_launchers().items():
        given = flags_given(args, settings, prefix=f"{name}.")
        if given and args.launcher != name:
            flag = f"--{name}.{next(iter(given)).replace('_', '-')}"
            raise UsageError(f"{flag} is for --launcher {name}", hint=f"add --launcher {name}, or leave it out")


def settings_given(args: argparse.Namespace) -> Any:
    """The settings of the launcher that is asked for."""
    from mamba_slm.core.config import flags_given, resolve

    settings = settings_of_launchers()[args.launcher]
    return resolve(settings, [("command line", flags_given(args, settings, prefix=f"{args.launcher}."))])[0]


def submit_job(args: argparse.Namespace, config: TrainConfig, directory: RunDirectory | None) -> int:
    """Write down the job and hand it to the cluster; with `--dry-run` only show it.

    Raises:
        UsageError: there is no folder for the run, or one is in the way.
        ConfigError: the rows of a step cannot be dealt to the processes, or no cluster is named.
        SetupError: the cluster is not there, or refuses.
    """
    from mamba_slm.training.data_arguments import parse_sources
    from mamba_slm.training.launching.job import require_new_or_resumed
    from mamba_slm.training.plan import model_config_for

    run = require_new_or_resumed(str(directory.path) if directory else args.out, is_resumed=args.resume is not None)
    model_config_for(config)  # refuse here what every process would refuse later
    parse_sources(config.data, must_exist=not args.dry_run)
    return (submit_to_slurm if args.launcher == "slurm" else submit_to_ray)(args, config, run)


def submit_to_slurm(args: argparse.Namespace, config: TrainConfig, run: Path) -> int:
    """The job as a script for sbatch."""
    from mamba_slm.core.files import write_text_atomic
    from mamba_slm.data.engine.slurm_job import submit
    from mamba_slm.training.distributed.place import rows_of_each
    from mamba_slm.training.launching.job import words_for_ranks
    from mamba_slm.training.launching.slurm import script_of

    slurm = settings_given(args)
    per_node = slurm.processes_per_node(args.nproc)
    processes = slurm.nodes * per_node
    rows_of_each(config.rows_per_step, processes, context_tokens=config.context_tokens)
    words = words_for_ranks(args.words, is_resumed=args.resume is not None)
    script = script_of(slurm, words, run=run, folder=Path.cwd(), processes_per_node=per_node)
    if args.dry_run:
        print(script, end="")
        return 0
    file = run / "slurm" / "job.sbatch"
    file.parent.mkdir(parents=True, exist_ok=True)
    write_text_atomic(file, script)
    job = submit(file, instead="--launcher local")
    log = file.with_name(f"{job}.log")
    shown = shlex.quote(str(run))
    tell(
        args,
        {"job": job, "run": str(run), "script": str(file), "log": str(log), "processes": processes},
        hints=[
            f"watch: tail -f {shlex.quote(str(log))}; squeue --jobs={job}; mamba-slm runs show {shown}",
            f"stop:  mamba-slm runs stop {shown} (saves first), or scancel {job}",
        ],
    )
    return 0


def submit_to_ray(args: argparse.Namespace, config: TrainConfig, run: Path) -> int:
    """The job as a file, and the command that gives it to the cluster."""
    from mamba_slm.core.files import write_text_atomic
    from mamba_slm.training.distributed.place import rows_of_each
    from mamba_slm.training.launching.job import words_for_ranks
    from mamba_slm.training.launching.ray_job import RayJob, submit, submit_command

    ray = settings_given(args)
    processes = args.nproc or 1
    if processes < 1:
        raise ConfigError(f"--nproc must be at least 1, got {args.nproc}")
    rows_of_each(config.rows_per_step, processes, context_tokens=config.context_tokens)
    words = words_for_ranks(args.words, is_resumed=args.resume is not None)
    job = RayJob.of(ray, words, run=run, folder=Path.cwd(), processes=processes)
    file = run / "ray" / "job.json"
    name = f"{run.name}-{time.strftime('%Y%m%d-%H%M%S')}"
    command = submit_command(ray, file, name=name)
    if args.dry_run:
        console.say(f"{file} would hold:\n{job.to_json()}")
        print(shlex.join(command))
        return 0
    file.parent.mkdir(parents=True, exist_ok=True)
    write_text_atomic(file, job.to_json())
    submit(command, say=console.say)
    shown, address = shlex.quote(str(run)), command[command.index("--address") + 1]
    tell(
        args,
        {"job": name, "run": str(run), "script": str(file), "log": None, "processes": processes},
        hints=[
            f"watch: ray job logs --address {address} --follow {name}; mamba-slm runs show {shown}",
            f"stop:  mamba-slm runs stop {shown} (saves first), or ray job stop --address {address} {name}",
        ],
    )
    return 0


def tell(args: argparse.Namespace, job: dict[str, Any], *, hints: list[str]) -> None:
    """What was submitted, and what one can do now."""
    if args.json:
        console.print_json(job)
    else:
        print(f"job {job['job']}: {job['processes']} processes train {job['run']}")
    for hint in hints:
        console.say(hint)
