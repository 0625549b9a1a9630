"""`mamba-slm finetune`: teach a trained model from examples, with adapters or in full."""

from __future__ import annotations

import argparse
import functools
from typing import TYPE_CHECKING, Any

from mamba_slm.cli import console
from mamba_slm.cli.changes_shown import say_changes
from mamba_slm.core.errors import InterruptedRunError, UsageError

if TYPE_CHECKING:
    from mamba_slm.finetuning.config import FinetuneConfig
    from mamba_slm.finetuning.prepared import PreparedExamples
    from mamba_slm.runs.layout import RunDirectory
    from mamba_slm.training.hooks import Hook

EPILOG = """\
MODEL is a model folder, a checkpoint or a run. What comes out lies in the run directory: RUN/adapter with --method lora
and qlora, RUN/model with --method full or --merge; every command takes RUN. Interrupt it with Ctrl-C: it finishes the
step, saves, and prints how to go on.

examples:
  mamba-slm finetune runs/book --data faq.jsonl --max-steps 200 --out runs/faq
  mamba-slm finetune runs/book --data faq.jsonl --rank 8 --alpha 16 --targets in_proj,out_proj --dry-run
  mamba-slm finetune runs/book --data HuggingFaceH4/ultrachat_200k --method qlora --context-tokens 2048
  mamba-slm finetune runs/book --data faq.jsonl --method full --epochs 3 --learning-rate 1e-4
  mamba-slm finetune --resume runs/faq
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of `mamba-slm finetune`."""
    from mamba_slm.core.config import add_flags
    from mamba_slm.finetuning.config import FinetuneConfig

    parser.epilog = EPILOG
    parser.add_argument("model", metavar="MODEL", nargs="?", help="model folder, checkpoint or run to begin with")
    parser.add_argument("--config", metavar="FILE", help="YAML with settings, or the config.yaml of another run")
    parser.add_argument("--out", metavar="DIR", help="run directory (default: a new one, dated, in the home of runs)")
    parser.add_argument("--resume", metavar="RUN", help="continue a run")
    parser.add_argument(
        "--dry-run", action="store_true", help="read the data, show settings, steps and the estimate; train nothing"
    )
    parser.add_argument(
        "--mask-check", action="store_true", help="print one example before the first step, what is learned coloured"
    )
    parser.add_argument("--json", action="store_true", help="the result as one JSON object on stdout")
    add_flags(parser.add_argument_group("settings"), FinetuneConfig, skip=("model",))


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    directory = resumed_run(args)
    config, origins = settings_of(args, directory)
    if args.dry_run:
        show_plan(args, config, origins)
        return 0
    from mamba_slm.finetuning.run import finetune
    from mamba_slm.training.report_cards import write_report_cards

    result = finetune(
        config,
        run=directory.path if directory else args.out,
        resume=directory is not None,
        hooks=hooks_of(config),
        show_sample=show_sample,
        show_mask=functools.partial(show_mask, is_talk=args.json) if args.mask_check else None,
        say=console.say,
    )
    write_report_cards(result.run, say=console.say)
    if result.interrupted:
        raise InterruptedRunError(
            f"stopped by {result.training.reason} after step {result.training.step:,}; everything is saved",
            hint=f"go on with: mamba-slm finetune --resume {result.run}",
        )
    if args.json:
        console.print_json({**result.row(), "run": str(result.run)})
    else:
        say_changes(result.run)
        print(result)
        console.say(f"next: mamba-slm chat {result.run}")
        console.say(f"      open {result.run / 'report.html'} in a browser")
    return 0


def resumed_run(args: argparse.Namespace) -> RunDirectory | None:
    """The run that `--resume` names, or None.

    Raises:
        UsageError: `--resume` names another run than `--out`, or neither it nor a model is given.
    """
    from pathlib import Path

    from mamba_slm.runs.layout import find_run

    if args.resume is None:
        return None
    found = find_run(args.resume)
    if args.out is not None and Path(args.out).resolve() != found.path.resolve():
        raise UsageError(f"--resume names {found.path}, and --out {args.out}", hint="leave out --out")
    return found


def settings_of(args: argparse.Namespace, directory: RunDirectory | None) -> tuple[FinetuneConfig, dict[str, str]]:
    """The resolved settings, and where each came from.

    Raises:
        UsageError: no model, or a resumed run has another one.
        ConfigError: a setting is unknown or out of range.
    """
    from mamba_slm.core.config import flags_given, load_yaml, resolve
    from mamba_slm.finetuning.config import FinetuneConfig

    layers: list[tuple[str, dict[str, Any]]] = []
    if directory is not None:
        content = load_yaml(directory.config_file).get("finetune")
        if not isinstance(content, dict):
            raise UsageError(f"{directory.path} is no fine-tuning", hint=f"mamba-slm runs resume {directory.path}")
        if args.model is not None and args.model != content.get("model"):
            raise UsageError(f"{directory.path} tunes {content.get('model')}, not {args.model}", hint="leave it out")
        layers.append((str(directory.config_file), content))
    if args.config is not None:
        from_file = load_yaml(args.config)
        found = from_file.get("finetune")
        layers.append((str(args.config), found if isinstance(found, dict) else from_file))
    given = dict(flags_given(args, FinetuneConfig))
    if args.model is not None:
        given["model"] = args.model
    layers.append(("command line", given))
    config, origins = resolve(FinetuneConfig, layers)
    if not config.model:
        raise UsageError("which model is to be fine-tuned?", hint="mamba-slm finetune MODEL --data FILE")
    return config, origins


def hooks_of(config: FinetuneConfig) -> list[Hook]:
    """What watches the run besides what it has of its own: benchmarks before, during and after."""
    if not config.benchmarks:
        return []
    from mamba_slm.evaluation.during_training import benchmark_hooks

    return benchmark_hooks(config, say=console.say, asks_first=True)


def show_plan(args: argparse.Namespace, config: FinetuneConfig, origins: dict[str, str]) -> None:
    """What would run: settings with origins, the data as they would be read, and the steps."""
    import dataclasses

    from mamba_slm.cli.train_plan import plain
    from mamba_slm.core.config import to_dict
    from mamba_slm.finetuning.memory_estimate import estimate_finetune_memory
    from mamba_slm.finetuning.planned import memory_text, shape_of
    from mamba_slm.finetuning.prepared import prepare_examples
    from mamba_slm.finetuning.run import dry_plan
    from mamba_slm.model.adapter_choice import resolve_adapted
    from mamba_slm.model.checkpoint import load_config
    from mamba_slm.model.count import count_parameters
    from mamba_slm.training.precision import choose_device, choose_precision

    adapted = resolve_adapted(config.model)
    sizes = load_config(adapted.base)
    prepared = prepare_examples(
        config, adapted.tokenizer_folder, max_context_tokens=sizes.max_context_tokens, say=console.say
    )
    if args.mask_check:
        show_mask(prepared, is_talk=args.json)
    device = choose_device(config.device)
    precision = choose_precision(config.precision, device.value)
    chosen = dataclasses.replace(config, device=device.value, precision=precision.value)  # type: ignore[arg-type]
    plan = dry_plan(chosen, prepared)
    shape = shape_of(
        chosen, plan, context_tokens=prepared.context_tokens, device_type="cuda" if "cuda" in device.value else "cpu"
    )
    memory = estimate_finetune_memory(sizes, shape)
    parameters = count_parameters(sizes).total
    rate, reason = config.peak_rate(parameters)
    where = args.out or "a new folder in the home of runs"
    if args.json:
        console.print_json(
            {
                "settings": to_dict(config), "origins": origins, "model": to_dict(sizes), "parameters": parameters,
                "plan": dataclasses.asdict(plan), "learning_rate": rate, "memory_bytes": memory.total,
                "memory": dataclasses.asdict(memory), "data": prepared.record(),
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
    print(f"memory      {memory_text(memory)}")


def show_mask(prepared: PreparedExamples, *, is_talk: bool) -> None:
    """One example with what is learned in it made visible; beside JSON it is talk."""
    import os
    import sys

    from mamba_slm.finetuning.mask_check import mask_shown

    stream = sys.stderr if is_talk else sys.stdout
    colour = stream.isatty() and "NO_COLOR" not in os.environ
    print(mask_shown(prepared.train.examples[0], prepared.template.tokenizer, colour=colour), file=stream)


def show_sample(step: int, row: dict[str, Any]) -> None:
    """A sample in one line."""
    console.say(f"sample at step {step}: {row['prompt']!r} → {row['text']!r}")
