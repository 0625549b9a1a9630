"""`mamba-slm export hf`: a folder that transformers loads natively."""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mamba_slm.cli import console
from mamba_slm.core.errors import ConfigError, UsageError
from mamba_slm.core.units import format_bytes, parse_count

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mamba_slm.export.compare import Comparison
    from mamba_slm.export.hf.export import HfExport
    from mamba_slm.export.hf.lint import Verdict

DTYPES = ("float32", "bfloat16", "float16")
EPILOG = """\
MODEL is a run directory, one of its checkpoints, or a model folder. The folder holds config.json, safetensors, the
tokenizer, the chat template where there is one, generation_config.json and a model card. A model without a feed-forward
in every layer (--layout classic) gets feed-forwards of zeros; a warning says what they cost.

A_log, D and dt_bias stay in float32 at any --dtype. What is compared: logits of our model and of transformers, on
random tokens, all special tokens and text, both in float32 with the weights as stored.

examples:
  mamba-slm export hf runs/quickstart --out exported/quickstart
  mamba-slm export hf runs/quickstart --out exported/quickstart-bf16 --dtype bfloat16 --max-shard-size 2Gi
  mamba-slm export hf runs/quickstart --dry-run --json
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of `mamba-slm export hf`."""
    parser.epilog = EPILOG
    parser.add_argument("model", metavar="MODEL", help="run directory, checkpoint or model folder")
    parser.add_argument("--out", metavar="FOLDER", type=Path, help="the folder to write; must not exist")
    parser.add_argument("--dtype", choices=DTYPES, default="float32", help="of the stored weights, default float32")
    parser.add_argument(
        "--max-shard-size", type=parse_count, default=5 * 10**9, metavar="BYTES", help="of a weights file, default 5B"
    )
    parser.add_argument(
        "--pad-vocabulary", action="store_true", help="fill the vocabulary up to a multiple of 8 with unused tokens"
    )
    parser.add_argument(
        "--dequantize", action="store_true", help="write the values of a quantized model, which is refused otherwise"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace FOLDER once the new one is verified")
    parser.add_argument(
        "--tolerance",
        type=positive_number,
        default=1e-4,
        metavar="X",
        help="largest difference of a logit, default 1e-4",
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="only say which runtimes can load the model; writes nothing"
    )
    parser.add_argument("--json", action="store_true", help="one JSON document: files, errors measured, runtimes")


def positive_number(text: str) -> float:
    """Read a number above 0.

    Raises:
        ConfigError: it is none.
    """
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not value > 0:
        raise ConfigError(f"{text!r} is not a number above 0")
    return value


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    import torch

    from mamba_slm.export.hf.export import export_hf, plan_export

    dtype = getattr(torch, args.dtype)
    if args.max_shard_size < 1:
        raise UsageError(f"--max-shard-size must be at least 1, got {args.max_shard_size}")
    if args.dry_run:
        plan = plan_export(args.model, dtype=dtype, pad_vocabulary=args.pad_vocabulary, dequantize=args.dequantize)
        for warning in plan.warnings:
            console.say(f"warning: {warning}")
        if args.json:
            runtimes = runtimes_as_json(plan.verdicts)
            summary = {"pattern": plan.config.pattern, "weights_bytes": plan.weights_bytes}
            console.print_json(summary | {"warnings": list(plan.warnings), "runtimes": runtimes})
        else:
            print(f"weights  {format_bytes(plan.weights_bytes)} in {args.dtype}")
            print(runtime_lines(plan.verdicts))
        return 0
    if args.out is None:
        raise UsageError("where to? --out is missing", hint="mamba-slm export hf MODEL --out FOLDER")
    export = export_hf(
        args.model,
        args.out,
        dtype=dtype,
        max_shard_bytes=args.max_shard_size,
        pad_vocabulary=args.pad_vocabulary,
        dequantize=args.dequantize,
        overwrite=args.overwrite,
        tolerance=args.tolerance,
        say=console.say,
    )
    if args.json:
        console.print_json(as_json(export))
        return 0
    print(f"{export.out}  {format_bytes(sum(export.files.values()))} in {len(export.files)} files, {export.dtype}")
    print(f"verified  {in_words(export.parity)}")
    if export.rounding is not None:
        print(f"rounding  {in_words(export.rounding)}, KL {export.rounding.mean_kl:.1e} nats, as run in {export.dtype}")
    print(runtime_lines(export.verdicts))
    return 0


def in_words(comparison: Comparison) -> str:
    """The measured numbers in one line."""
    return (
        f"largest difference of a logit {comparison.max_logit_error:.1e} over {comparison.num_tokens} tokens, "
        f"argmax agreement {comparison.argmax_agreement:.4f}"
    )


def runtime_lines(verdicts: Sequence[Verdict]) -> str:
    """A line per runtime: can it load the model, and which field is the reason if not."""
    rows = [
        [each.runtime, "yes" if each.loads else "no", "; ".join(each.reasons or each.remarks[:1])] for each in verdicts
    ]
    return console.table(["runtime", "loads", "because"], rows)


def runtimes_as_json(verdicts: Sequence[Verdict]) -> dict[str, Any]:
    """Runtime -> loads, reasons, remarks."""
    return {
        each.runtime: {"loads": each.loads, "reasons": list(each.reasons), "remarks": list(each.remarks)}
        for each in verdicts
    }


def as_json(export: HfExport) -> dict[str, Any]:
    """What `--json` prints."""
    from mamba_slm.export.compare import comparison_as_json

    return {
        "out": str(export.out),
        "files": export.files,
        "bytes": sum(export.files.values()),
        "dtype": export.dtype,
        "pattern": export.config.pattern,
        "parity": comparison_as_json(export.parity),
        "rounding": None if export.rounding is None else comparison_as_json(export.rounding),
        "tokenizer_checked": export.tokenizer_checked,
        "warnings": list(export.warnings),
        "runtimes": runtimes_as_json(export.verdicts),
    }
