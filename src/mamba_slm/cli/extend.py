"""`mamba-slm extend`: make a trained model for a longer context."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from mamba_slm.cli import console
from mamba_slm.core.errors import ConfigError
from mamba_slm.core.units import parse_count

if TYPE_CHECKING:
    from mamba_slm.evaluation.long_context.extend import Extension

EPILOG = """\
Stretches the rotary positions, trains a little on rows of the new length, and measures the loss by position on held-out
text before and after: in the terminal, in RUN/extend.json and as RUN/extend.svg. The extended model is RUN/model. The
text must be long: documents shorter than the new context are joined for the measurement, and say less.

examples:
  mamba-slm extend runs/quickstart --to 4x --data books/ --train-tokens 500k
  mamba-slm extend model/ --to 32Ki --method ntk --data shards/ --train-tokens 50M --out runs/long
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of `mamba-slm extend`."""
    from mamba_slm.model.stretch import METHODS

    parser.epilog = EPILOG
    parser.add_argument("model", metavar="MODEL", help="run directory, checkpoint or model folder")
    parser.add_argument("--to", required=True, metavar="N", help="the new context in tokens, or as many times: 4x")
    parser.add_argument(
        "--method", choices=METHODS, default="yarn",
        help="how rotary positions are stretched, default yarn; none: only the limit, for models without rotation",
    )  # fmt: skip
    parser.add_argument("--data", action="append", required=True, metavar="PATH", help="text or token shards")
    parser.add_argument("--train-tokens", type=parse_count, default=500_000, metavar="N", help="default 500k")
    parser.add_argument("--batch-tokens", type=parse_count, metavar="N", help="per step, default: the new context")
    parser.add_argument("--learning-rate", type=float, default=1e-4, metavar="X", help="peak, default 1e-4")
    parser.add_argument("--validation", metavar="PATH", help="text to measure on; default: documents held out")
    parser.add_argument(
        "--validation-share", type=float, default=0.05, metavar="X", help="share that is held out, default 0.05"
    )
    parser.add_argument("--precision", choices=("auto", "fp32", "bf16"), default="auto", help="default auto")
    parser.add_argument("--device", default="auto", metavar="NAME", help="auto, cpu or cuda[:i]")
    parser.add_argument("--threads", type=parse_count, metavar="N", help="CPU threads")
    parser.add_argument("--seed", type=parse_count, default=0, metavar="N", help="of the order of the data")
    parser.add_argument("--out", metavar="RUN", help="the run directory; default: a new one in the home of runs")
    parser.add_argument("--json", action="store_true", help="one object")


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    from mamba_slm.evaluation.long_context.extend import extend
    from mamba_slm.model.checkpoint import load_config, resolve_model_folder
    from mamba_slm.training.config import TrainConfig

    config = load_config(resolve_model_folder(args.model))
    context = context_of(args.to, config.max_context_tokens)
    batch_tokens = args.batch_tokens or context
    settings = TrainConfig(
        data=tuple(args.data),
        context_tokens=context,
        batch_tokens=-(-batch_tokens // context) * context,
        max_tokens=args.train_tokens,
        learning_rate=args.learning_rate,
        warmup_share=0.1,
        validation=args.validation,
        validation_share=args.validation_share,
        precision=args.precision,
        device=args.device,
        threads=args.threads,
        seed=args.seed,
        sample_every_steps=0,
    )
    extension = extend(args.model, settings, context_tokens=context, method=args.method, run=args.out, say=console.say)
    if args.json:
        console.print_json(extension.to_dict())
    else:
        print(table_of(extension))
        print(summary_of(extension))
    return 0


def context_of(text: str, now: int) -> int:
    """The new context: a number of tokens, or a multiple of what it is now.

    >>> context_of("4x", 512), context_of("2Ki", 512)
    (2048, 2048)

    Raises:
        ConfigError: neither.
    """
    if text.endswith("x"):
        try:
            return round(float(text[:-1]) * now)
        except ValueError:
            raise ConfigError(f"--to {text!r} is not a multiple", hint="--to 4x, or --to 8192") from None
    return parse_count(text)


def table_of(extension: Extension) -> str:
    """Perplexity by position."""
    names = list(extension.curves)
    rows = [
        [f"{stretches[0].start:,} to {stretches[0].end:,}", *(f"{one.perplexity:.2f}" for one in stretches)]
        for stretches in zip(*extension.curves.values(), strict=True)
    ]
    heads = {"before": "before", "stretched": "stretched", "after": "after training"}
    shown = [heads[name] for name in names]
    return console.table(["perplexity at positions", *shown], rows, right=shown)


def summary_of(extension: Extension) -> str:
    """What it came to, in a few lines."""
    gain = extension.improvement()
    better = f"{gain:.3f} nats per token lower" if gain >= 0 else f"{-gain:.3f} nats per token HIGHER"
    return (
        f"beyond {extension.trained_tokens:,} tokens the loss is {better} than before, after "
        f"{extension.training_tokens:,} tokens of training ({extension.how})\n"
        f"model       {extension.run}/model, for {extension.context_tokens:,} tokens ({extension.method})\n"
        f"picture     {extension.run}/extend.svg"
    )
