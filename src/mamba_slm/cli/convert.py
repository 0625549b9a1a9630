"""`mamba-slm convert`: a Transformer becomes a hybrid, and learns from the Transformer."""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mamba_slm.cli import console
from mamba_slm.core.errors import InterruptedRunError, UsageError
from mamba_slm.core.flags import add_flags, flags_given
from mamba_slm.core.units import format_count
from mamba_slm.finetuning.conversion.distillation import TRAINING, Distillation
from mamba_slm.finetuning.conversion.shape import HybridShape
from mamba_slm.training.config import TrainConfig

if TYPE_CHECKING:
    from mamba_slm.finetuning.conversion.distill import Distilled

EPILOG = """\
SOURCE is a folder of a Llama, Mistral or Qwen2 as transformers saves it (config.json, safetensors, tokenizer). The
embedding, the norms, the feed-forwards and the attention that stays are copied; every other attention layer becomes a
Mamba-2 layer that begins with its projections. Such a model says little of use before it has learnt: --distill TEXT
lets it learn from the Transformer, first each new layer the update of the attention it replaces, then the whole model
the next tokens that the Transformer expects. OUT is then a run directory, and OUT/model the finished hybrid; without
--distill it is the model folder.

examples:
  mamba-slm convert llama/ --keep-attention 0.35 --out models/hybrid
  mamba-slm convert llama/ --keep-attention 0.35 --distill text/ --max-tokens 50M --out runs/hybrid
  mamba-slm convert --resume runs/hybrid
"""
NOT_ASKED = (
    *("model", "initial", "layout", "pattern", "attention_share", "placement", "model_settings", "data", "tokenizer"),
    *("vocab_size", "prompts", "sample_every_steps", "benchmarks", "benchmark_every_steps", "benchmark_limit"),
    *("benchmark_data_dir", "engine", "sharding", "shard_processes", "offload", "zero_stage", "deepspeed_config"),
    *("rank_timeout_minutes", "qat", "qat_keep", "qat_block_size", "qat_start_step", "spike_sigmas"),
    *("spike_patience_steps", "auto_fit"),
)
"""Settings of training that the Transformer decides, or that mean nothing where it teaches."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of `mamba-slm convert`."""
    parser.epilog = EPILOG
    parser.add_argument("source", metavar="SOURCE", nargs="?", help="folder of a Llama, Mistral or Qwen2")
    parser.add_argument("--out", metavar="OUT", type=Path, help="the model folder to write, or the run directory")
    parser.add_argument(
        "--distill", metavar="TEXT", action="append", default=[],
        help="text or token shards to learn on, as --data of train; may be given again",
    )  # fmt: skip
    parser.add_argument("--resume", metavar="RUN", type=Path, help="go on with a run of --distill")
    parser.add_argument(
        "--dry-run", action="store_true", help="only say what the hybrid would be, and what learning would take"
    )
    parser.add_argument(
        "--gpu", metavar="NAME", help='what --dry-run counts with, such as "H100 80GB"; default: no times'
    )
    parser.add_argument("--price", metavar="USD", type=float, help="of an hour of that GPU; default: an assumption")
    parser.add_argument("--overwrite", action="store_true", help="replace the model folder")
    parser.add_argument("--json", action="store_true", help="one JSON document")
    add_flags(parser.add_argument_group("the hybrid"), HybridShape)
    add_flags(parser.add_argument_group("how it learns (--distill)"), Distillation)
    begin = ", ".join(f"{name} {value:g}" for name, value in TRAINING.items() if name not in NOT_ASKED)
    add_flags(
        parser.add_argument_group(f"training (--distill), as in mamba-slm train, but: {begin}"),
        TrainConfig,
        skip=NOT_ASKED,
    )


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    if args.resume is not None:
        return resume(args)
    if args.dry_run and args.source is not None:
        return show_plan(args)
    if args.source is None or args.out is None:
        raise UsageError(
            "SOURCE and --out are needed", hint="mamba-slm convert llama/ --out models/hybrid; or --resume RUN"
        )
    if args.distill:
        return learn(args)
    return convert_only(args)


def training_given(args: argparse.Namespace) -> dict[str, Any]:
    """The settings of training on the command line, and not those of the hybrid that have the same names."""
    return {name: value for name, value in flags_given(args, TrainConfig).items() if name not in NOT_ASKED}


def show_plan(args: argparse.Namespace) -> int:
    """What would come out, from config.json alone."""
    from mamba_slm.core.config import from_dict, resolve
    from mamba_slm.core.hardware import find_gpu
    from mamba_slm.finetuning.conversion.plan import plan_conversion
    from mamba_slm.finetuning.conversion.source import read_config

    teacher = read_config(Path(args.source))
    hybrid = from_dict(HybridShape, flags_given(args, HybridShape), where="command line").hybrid(teacher)
    distillation = from_dict(Distillation, flags_given(args, Distillation), where="command line")
    config, _ = resolve(TrainConfig, [("convert", TRAINING), ("command line", training_given(args))])
    gpu = find_gpu(args.gpu) if args.gpu else None
    plan = plan_conversion(teacher, hybrid, config, distillation, gpu, price_per_hour_usd=args.price)
    if args.json:
        console.print_json(plan.to_dict())
    else:
        print(plan)
    return 0


def convert_only(args: argparse.Namespace) -> int:
    """Write the model folder."""
    from mamba_slm.core.config import from_dict
    from mamba_slm.finetuning.conversion.convert import convert

    training = training_given(args)
    asked = [*flags_given(args, Distillation), *(name for name in training if name != "seed")]
    if asked:
        raise UsageError(f"{asked[0]} is about learning, and nothing is learnt", hint="add --distill TEXT")
    shape = from_dict(HybridShape, flags_given(args, HybridShape), where="command line")
    result = convert(
        args.source, args.out, shape=shape, seed=training.get("seed", 0), overwrite=args.overwrite, say=console.say
    )
    if args.json:
        console.print_json(result.to_dict())
        return 0
    print(f"{result.out}  {format_count(result.parameters)} parameters, pattern {result.config.pattern}")
    console.say(f"next: mamba-slm convert {args.source} --distill TEXT --out RUN lets it learn what it lost")
    return 0


def learn(args: argparse.Namespace) -> int:
    """Convert and train in a run directory."""
    from mamba_slm.core.config import from_dict, resolve
    from mamba_slm.finetuning.conversion.distill import distill

    given = training_given(args) | {"data": tuple(args.distill)}
    config, _ = resolve(TrainConfig, [("convert", TRAINING), ("command line", given)])
    shape = from_dict(HybridShape, flags_given(args, HybridShape), where="command line")
    distillation = from_dict(Distillation, flags_given(args, Distillation), where="command line")
    found = distill(args.source, config, args.out, shape=shape, distillation=distillation, say=console.say)
    return finish(args, found)


def resume(args: argparse.Namespace) -> int:
    """Go on with a run; flags of training change its settings."""
    from mamba_slm.core.config import resolve
    from mamba_slm.finetuning.conversion.distill import resume_distillation
    from mamba_slm.runs.layout import find_run
    from mamba_slm.training.run_config import read_train_settings

    directory = find_run(str(args.resume))
    layers = [
        (str(directory.config_file), read_train_settings(directory)),
        ("command line", training_given(args)),
    ]
    config, _ = resolve(TrainConfig, layers)
    return finish(args, resume_distillation(directory.path, config, say=console.say))


def finish(args: argparse.Namespace, found: Distilled) -> int:
    """Report, and what came out."""
    from mamba_slm.training.report_cards import write_report_cards

    result = found.result
    write_report_cards(result.run, say=console.say)
    if result.interrupted:
        raise InterruptedRunError(
            f"stopped by {result.reason} after step {result.step:,}; everything is saved",
            hint=f"go on with: mamba-slm convert --resume {result.run}",
        )
    if args.json:
        console.print_json({**result.row(), "run": str(result.run), **found.to_dict()})
        return 0
    print(f"{result.run / 'model'}  after {format_count(result.tokens)} tokens")
    if found.loss is not None and found.teacher_loss is not None and found.start_loss is not None:
        more = math.exp(found.loss - found.teacher_loss) - 1
        print(
            f"perplexity of held-out text: teacher {math.exp(found.teacher_loss):.2f}, hybrid "
            f"{math.exp(found.start_loss):.2f} before and {math.exp(found.loss):.2f} after ({more:+.1%} to the teacher)"
        )
    return 0
