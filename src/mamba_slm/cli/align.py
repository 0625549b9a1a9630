"""`mamba-slm align`: train a model on what people prefer, or on rewards."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from mamba_slm.cli import console
from mamba_slm.cli.changes_shown import say_changes
from mamba_slm.core.errors import ConfigError, InterruptedRunError, UsageError

if TYPE_CHECKING:
    from mamba_slm.finetuning.alignment.config import AlignConfig
    from mamba_slm.runs.layout import RunDirectory
    from mamba_slm.training.hooks import Hook

EPILOG = """\
dpo, ipo, orpo and simpo learn from pairs of answers, kto from answers judged good or bad; reward makes a model that
scores answers; grpo draws answers to prompts and rewards them. What comes out lies in the run directory: RUN/adapter
with --method lora and qlora, RUN/model with --method full or --merge; every command takes RUN.

examples:
  mamba-slm align runs/faq dpo --data pairs.jsonl --max-steps 100 --out runs/better
  mamba-slm align runs/faq kto --data prefs:tone --beta 0.2
  mamba-slm align runs/faq reward --data pairs.jsonl --out runs/judge
  mamba-slm align runs/faq grpo --data questions.jsonl --reward math --reward length=64 --reward-weights 1,0.2
  mamba-slm align runs/faq grpo --data questions.jsonl --reward math --dry-reward 50
  mamba-slm align --resume runs/better
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of `mamba-slm align`."""
    from mamba_slm.core.config import add_flags
    from mamba_slm.finetuning.alignment.config import OBJECTIVES, AlignConfig

    parser.epilog = EPILOG
    parser.add_argument("model", metavar="MODEL", nargs="?", help="model folder, checkpoint or run to begin with")
    parser.add_argument("objective", metavar="OBJECTIVE", nargs="?", help=", ".join(OBJECTIVES))
    parser.add_argument("--config", metavar="FILE", help="YAML with settings, or the config.yaml of another run")
    parser.add_argument("--out", metavar="DIR", help="run directory (default: a new one, dated, in the home of runs)")
    parser.add_argument("--resume", metavar="RUN", help="continue a run")
    parser.add_argument(
        "--dry-run", action="store_true", help="read the data, show settings, steps and rates; train nothing"
    )
    parser.add_argument(
        "--dry-reward", metavar="N", type=int, help="draw N answers, score and show them; train nothing (grpo)"
    )
    parser.add_argument("--json", action="store_true", help="the result as one JSON object on stdout")
    add_flags(parser.add_argument_group("settings"), AlignConfig, skip=("model", "objective"))


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    directory = resumed_run(args)
    config, origins = settings_of(args, directory)
    if args.dry_run:
        show_plan(args, config, origins)
        return 0
    if args.dry_reward is not None:
        show_rewards(args, config)
        return 0
    from mamba_slm.finetuning.alignment.run import align
    from mamba_slm.training.report_cards import write_report_cards

    result = align(
        config,
        run=directory.path if directory else args.out,
        resume=directory is not None,
        hooks=hooks_of(config),
        show_sample=show_sample,
        say=console.say,
    )
    write_report_cards(result.run, say=console.say)
    if result.interrupted:
        raise InterruptedRunError(
            f"stopped by {result.training.reason} after step {result.training.step:,}; everything is saved",
            hint=f"go on with: mamba-slm align --resume {result.run}",
        )
    if args.json:
        console.print_json({**result.row(), "run": str(result.run)})
    else:
        say_changes(result.run)
        print(result)
        if config.objective != "reward":
            console.say(f"next: mamba-slm chat {result.run}")
        console.say(f"      open {result.run / 'report.html'} in a browser")
    return 0


def resumed_run(args: argparse.Namespace) -> RunDirectory | None:
    """The run that `--resume` names, or None.

    Raises:
        UsageError: `--resume` names another run than `--out`.
    """
    from pathlib import Path

    from mamba_slm.runs.layout import find_run

    if args.resume is None:
        return None
    found = find_run(args.resume)
    if args.out is not None and Path(args.out).resolve() != found.path.resolve():
        raise UsageError(f"--resume names {found.path}, and --out {args.out}", hint="leave out --out")
    return found


def settings_of(args: argparse.Namespace, directory: RunDirectory | None) -> tuple[AlignConfig, dict[str, str]]:
    """The resolved settings, and where each came from.

    Raises:
        UsageError: no model or objective, or a resumed run has another one.
        ConfigError: a setting is unknown or out of range.
    """
    from mamba_slm.core.config import flags_given, load_yaml, resolve
    from mamba_slm.finetuning.alignment.config import AlignConfig

    layers: list[tuple[str, dict[str, Any]]] = []
    if directory is not None:
        content = load_yaml(directory.config_file).get("align")
        if not isinstance(content, dict):
            raise UsageError(f"{directory.path} is no alignment", hint=f"mamba-slm runs resume {directory.path}")
        for name in ("model", "objective"):
            given = getattr(args, name)
            if given is not None and given != content.get(name):
                raise UsageError(f"the {name} of {directory.path} is {content.get(name)}, not {given}")
        layers.append((str(directory.config_file), content))
    if args.config is not None:
        from_file = load_yaml(args.config)
        found = from_file.get("align")
        layers.append((str(args.config), found if isinstance(found, dict) else from_file))
    given = dict(flags_given(args, AlignConfig))
    given |= {name: value for name in ("model", "objective") if (value := getattr(args, name)) is not None}
    layers.append(("command line", given))
    known = {name for _, layer in layers for name in layer}
    for name in ("model", "objective"):
        if name not in known:
            raise UsageError(f"which {name}?", hint="mamba-slm align MODEL dpo --data FILE")
    return resolve(AlignConfig, layers)


def hooks_of(config: AlignConfig) -> list[Hook]:
    """What watches the run besides what it has of its own: benchmarks before, during and after."""
    if not config.benchmarks:
        return []
    from mamba_slm.evaluation.during_training import benchmark_hooks

    return benchmark_hooks(config, say=console.say, asks_first=True)


def show_plan(args: argparse.Namespace, config: AlignConfig, origins: dict[str, str]) -> None:
    """What would run: settings with origins, the data as they would be read, and the steps."""
    import dataclasses

    from mamba_slm.cli.train_plan import plain
    from mamba_slm.core.config import to_dict
    from mamba_slm.finetuning.alignment.data import prepare_alignment
    from mamba_slm.finetuning.alignment.plan import plan_of
    from mamba_slm.model.adapter_choice import resolve_adapted
    from mamba_slm.model.checkpoint import load_config
    from mamba_slm.model.count import count_parameters
    from mamba_slm.training.precision import choose_device, choose_precision

    adapted = resolve_adapted(config.model)
    sizes = load_config(adapted.base)
    prepared = prepare_alignment(
        config, adapted.tokenizer_folder, max_context_tokens=sizes.max_context_tokens, say=console.say
    )
    device = choose_device(config.device)
    precision = choose_precision(config.precision, device.value)
    plan = plan_of(dataclasses.replace(config, device=device.value), prepared)
    parameters = count_parameters(sizes).total
    rate, reason = config.peak_rate(parameters)
    where = args.out or "a new folder in the home of runs"
    if args.json:
        console.print_json(
            {
                "settings": to_dict(config), "origins": origins, "model": to_dict(sizes), "parameters": parameters,
                "plan": dataclasses.asdict(plan), "learning_rate": rate, "data": prepared.record(),
                "device": str(device), "precision": str(precision), "run": str(where),
            }
        )  # fmt: skip
        return
    rows = [[name, plain(value), origins[name]] for name, value in to_dict(config).items()]
    print(console.table(["setting", "value", "from"], rows))
    print(f"\nrun         {where}")
    print(f"model       {adapted}: {sizes.pattern}, {count_parameters(sizes)}")
    print(f"device      {device}; precision {precision}")
    print(f"rate        {rate:.1e} ({reason})")
    print(f"plan        {plan}")


def show_rewards(args: argparse.Namespace, config: AlignConfig) -> None:
    """Answers and what they would be worth, before any training.

    Raises:
        ConfigError: another objective than grpo, or no answer is wanted.
    """
    if config.objective != "grpo" or args.dry_reward < 1:
        raise ConfigError("--dry-reward N draws N answers for grpo", hint="mamba-slm align MODEL grpo --dry-reward 50")
    from mamba_slm.finetuning.alignment.dry_reward import dry_rewards

    found = dry_rewards(config, answers=args.dry_reward, say=console.say)
    if args.json:
        console.print_json(found.as_json())
        return
    for row in found.rows:
        worth = "  ".join(f"{name} {value:g}" for name, value in row["rewards"].items())
        print(f"{worth}\n  {row['prompt'][-100:]!r}\n  → {row['completion'][:300]!r}")
    print()
    print(found)


def show_sample(step: int, row: dict[str, Any]) -> None:
    """A sample in one line."""
    console.say(f"sample at step {step}: {row['prompt']!r} → {row['text']!r}")
