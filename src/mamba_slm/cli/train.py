"""`mamba-slm train`: pretrain a model from text or token shards, or go on with a run."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mamba_slm.cli import console, train_launch, train_plan
from mamba_slm.core.errors import InterruptedRunError, TrainingDivergedError, UsageError

if TYPE_CHECKING:
    from mamba_slm.runs.layout import RunDirectory
    from mamba_slm.training.config import TrainConfig
    from mamba_slm.training.hooks import Hook
    from mamba_slm.training.prepare import PreparedData
    from mamba_slm.training.reports import TrainResult

DEFAULT_PRESET = "nano"
SAMPLE_TOKENS = 64
EPILOG = """\
PRESET brings its own settings; --config changes them, and flags change both. Without a limit the run is one pass over
the data. Interrupt it with Ctrl-C: it finishes the step, saves, and prints how to go on; a second Ctrl-C aborts.

examples:
  mamba-slm train nano --data book.txt --max-minutes 10
  mamba-slm train tiny --data code=src/:2 --data prose=books/:1 --max-tokens 20M --out runs/mixed
  mamba-slm train nano --data shards/ --max-steps 800 --schedule wsd --dry-run
  mamba-slm train production --data shards/ --dry-run
  mamba-slm train 350M --config quick_test --data shards/ --dry-run
  mamba-slm train 125M --data shards/ --max-tokens 5B --dry-run --gpu "RTX 4090"
  mamba-slm train --resume runs/mixed --max-tokens 40M
  mamba-slm train 125M --data shards/ --nproc 8 --out runs/125M
  mamba-slm train 1.3B --data shards/ --out runs/1.3B --launcher slurm --slurm.nodes 4 --slurm.gpus-per-node 8
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of `mamba-slm train`."""
    from mamba_slm.core.config import add_flags
    from mamba_slm.training.config import TrainConfig

    parser.epilog = EPILOG
    parser.add_argument(
        "preset",
        metavar="PRESET",
        nargs="?",
        help="a size of `mamba-slm models list` (default: nano), or a published run: quick_test, small_scale, "
        "medium_scale, large_scale, xlarge_scale, production",
    )
    parser.add_argument(
        "--config",
        metavar="FILE",
        help="YAML with settings, the config.yaml of another run, or a published run: its batch, length and schedule "
        "for PRESET",
    )
    parser.add_argument("--out", metavar="DIR", help="run directory (default: a new one, dated, in the home of runs)")
    parser.add_argument(
        "--resume",
        metavar="RUN",
        nargs="?",
        const=True,
        help="continue a run; without RUN, the one at --out; auto: that one if it has begun, else begin it",
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="show settings, their origin and the estimate; do nothing"
    )
    train_plan.add_arguments(parser)
    parser.add_argument(
        "--nproc", metavar="N", type=int, help="train in N processes of this machine; N GPUs where there are GPUs"
    )
    parser.add_argument("--json", action="store_true", help="the result as one JSON object on stdout")
    train_launch.add_arguments(parser)
    add_flags(parser.add_argument_group("settings"), TrainConfig, skip=("model",))


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    from mamba_slm.training.distributed.place import find_place, is_one_of_many, sign_in

    directory = resumed_run(args)
    config, origins = settings_of(args, directory)
    train_launch.require_launcher(args)
    if args.launcher != "local" and not is_one_of_many():
        return train_launch.submit_job(args, config, directory)
    if args.dry_run:
        return train_plan.show(args, config, origins, directory)
    train_plan.require_dry_run(args)
    if args.nproc is not None and not is_one_of_many():
        return run_in_processes(args, config, directory)
    sign_in()

    from mamba_slm.training.distributed.world import FailedElsewhereError
    from mamba_slm.training.report_cards import write_report_cards
    from mamba_slm.training.run import summary, train

    is_first = find_place().rank == 0
    try:
        result = train(
            config,
            run=directory.path if directory else args.out,
            resume=directory is not None,
            make_sampler=make_sampler,
            show_sample=show_sample,
            hooks=hooks_of(config) if is_first else (),
            say=console.say,
        )
    except (FailedElsewhereError, TrainingDivergedError):
        if is_first:
            raise
        return 0  # the first process says what happened, and its exit code counts
    if not is_first:
        return 0
    write_report_cards(result.run, say=console.say)
    if result.interrupted:
        raise InterruptedRunError(
            f"stopped by {result.reason} after step {result.step:,}; everything is saved",
            hint=f"go on with: mamba-slm train --resume {result.run}",
        )
    if args.json:
        console.print_json({**result.row(), "run": str(result.run)})
    else:
        print(summary(result))
        suggest(result)
    return 0


def run_in_processes(args: argparse.Namespace, config: TrainConfig, directory: RunDirectory | None) -> int:
    """This very command in `--nproc` processes, after the settings have been looked at once.

    Raises:
        ConfigError: fewer than one process, or the rows of a step cannot be dealt to them.
        RankLostError: a process was killed.
    """
    from mamba_slm.core.errors import ConfigError
    from mamba_slm.training.distributed.launch import launch
    from mamba_slm.training.distributed.place import rows_of_each
    from mamba_slm.training.run import require_usable

    if args.nproc < 1:
        raise ConfigError(f"--nproc must be at least 1, got {args.nproc}")
    rows_of_each(config.rows_per_step, args.nproc, context_tokens=config.context_tokens)
    require_usable(config, has_data=False, processes=args.nproc)
    where = str(directory.path) if directory else args.out
    return launch(args.words, processes=args.nproc, run=where, say=console.say)


def hooks_of(config: TrainConfig) -> list[Hook]:
    """What watches the run besides what the trainer has of its own."""
    if not config.benchmarks:
        return []
    from mamba_slm.evaluation.during_training import benchmark_hooks

    return benchmark_hooks(config, say=console.say)


def suggest(result: TrainResult) -> None:
    """What one could do now."""
    console.say(f'next: mamba-slm generate {result.run} "Once upon a time"')
    console.say(f"      open {result.run / 'report.html'} in a browser")


def resumed_run(args: argparse.Namespace) -> RunDirectory | None:
    """The run that `--resume` names, or None.

    Raises:
        UsageError: `--resume` without a run, or another one than `--out`.
    """
    from mamba_slm.runs.layout import find_run
    from mamba_slm.training.launching.job import begun

    if args.resume is None:
        return None
    if args.resume in (True, "auto"):
        if args.out is None:
            raise UsageError(
                "which run is to be resumed?", hint="give it: --resume RUN; mamba-slm runs list shows them"
            )
        return begun(args.out) if args.resume == "auto" else find_run(args.out)
    found = find_run(args.resume)
    if args.out is not None and Path(args.out).resolve() != found.path.resolve():
        raise UsageError(f"--resume names {found.path}, and --out {args.out}", hint="leave out --out")
    return found


def settings_of(args: argparse.Namespace, directory: RunDirectory | None) -> tuple[TrainConfig, dict[str, str]]:
    """The resolved settings, and where each came from.

    Raises:
        UsageError: a resumed run has another preset.
        ConfigError: a setting is unknown or out of range.
    """
    from mamba_slm.core.config import flags_given, resolve
    from mamba_slm.training.config import TrainConfig
    from mamba_slm.training.published_runs import settings_of as settings_named
    from mamba_slm.training.run_config import named_settings, read_train_settings

    layers: list[tuple[str, dict[str, Any]]] = []
    from_file = {} if args.config is None else named_settings(args.config)
    if directory is not None:
        settings = read_train_settings(directory)
        if args.preset is not None and settings_named(args.preset)["model"] != settings.get("model"):
            raise UsageError(
                f"{directory.path} trains {settings.get('model')!r}, not {args.preset!r}", hint="leave the preset out"
            )
        layers.append((str(directory.config_file), settings))
    else:
        name = args.preset or from_file.get("model") or DEFAULT_PRESET
        layers.append((f"preset {name}", settings_named(str(name))))
    if from_file:
        layers.append((str(args.config), from_file))
    if args.preset is not None and directory is None:
        layers.append(("command line", {"model": settings_named(args.preset)["model"]}))
    layers.append(("command line", flags_given(args, TrainConfig)))
    return resolve(TrainConfig, layers)


def make_sampler(prepared: PreparedData, config: TrainConfig) -> Callable[[Any, int], list[dict[str, Any]]]:
    """`sample(model, step)`: a continuation of every prompt, with the same seed at every step."""
    from mamba_slm.generation.sampling import Sampler
    from mamba_slm.generation.text import generate_text

    sampler = Sampler.from_settings(temperature=0.8, top_p=0.95)
    prompts = config.prompts or ("",)

    def sample(model: Any, step: int) -> list[dict[str, Any]]:
        texts, _ = generate_text(
            model, prepared.tokenizer, prompts, max_new_tokens=SAMPLE_TOKENS, sampler=sampler, seed=config.seed
        )
        return [{"prompt": prompt, "text": text.text} for prompt, text in zip(prompts, texts, strict=True)]

    return sample


def show_sample(step: int, row: dict[str, Any]) -> None:
    """A sample in one line."""
    console.say(f"sample at step {step}: {row['prompt']!r} → {row['text']!r}")
