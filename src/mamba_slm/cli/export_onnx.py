"""`mamba-slm export onnx`: a folder for ONNX Runtime, onnxruntime-genai and transformers.js."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mamba_slm.cli import console
from mamba_slm.core.units import parse_count

if TYPE_CHECKING:
    from mamba_slm.export.onnx.export import OnnxExport

EPILOG = """\
MODEL is a run directory, one of its checkpoints, or a model folder. One graph reads prompts and single tokens, with its
states as inputs and outputs. fused uses operators of ONNX Runtime and is the fast one; portable has standard operators
only. Every pattern, position and window can be exported.

The graph is run in ONNX Runtime before the folder appears: whole, in pieces, one token at a time, in batches padded
left and right, and greedily over 64 tokens. int8 and int4 come with a report against fp32 in quantization.json.

A quantized model (mamba-slm quantize) keeps its numbers, scales and zero points to the last bit, unless --weights asks
for another rounding. Its graph must give the model's logits with products in float32; as it runs, ONNX Runtime rounds
their inputs to 8 bits, and quantization.json says what that changes. nf4 and fp4 are possible in the fused form.

examples:
  mamba-slm export onnx runs/quickstart --out exported/quickstart-onnx
  mamba-slm export onnx runs/quickstart --out exported/quickstart-int8 --weights int8 --text notes.txt
  mamba-slm export onnx runs/quickstart --out exported/both --form both --json
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of `mamba-slm export onnx`."""
    parser.epilog = EPILOG
    parser.add_argument("model", metavar="MODEL", help="run directory, checkpoint or model folder")
    parser.add_argument("--out", metavar="FOLDER", type=Path, required=True, help="the folder to write; must not exist")
    parser.add_argument(
        "--form", choices=("fused", "portable", "both"), default="fused", help="operators to use, default fused"
    )
    parser.add_argument(
        "--weights",
        choices=("fp32", "int8", "int4"),
        help="of matrices, default fp32, or a quantized model's own; int4 keeps in_proj, embedding and head in 8 bits",
    )
    parser.add_argument(
        "--block-size",
        type=parse_count,
        metavar="N",
        help="weights that share a scale: 16 to 256; smaller is slower and more exact, default up to 128",
    )
    parser.add_argument(
        "--text", type=Path, metavar="FILE", help="measure int8 and int4 on this text; default: our own source code"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace FOLDER once the new one is verified")
    parser.add_argument("--json", action="store_true", help="one JSON document: files, errors measured, report")


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    from mamba_slm.export.onnx.export import export_onnx, total_size

    export = export_onnx(
        args.model,
        args.out,
        forms=("fused", "portable") if args.form == "both" else (args.form,),
        weights=args.weights,
        block_size=args.block_size,
        text=args.text,
        overwrite=args.overwrite,
        say=console.say,
    )
    if args.json:
        console.print_json(as_json(export))
        return 0
    print(f"{export.out}  {total_size(export)}, {export.contract.weights}")
    for form, check in export.exact.items():
        print(
            f"verified  {form}, products in float32: largest difference of a logit from the model "
            f"{check.max_logit_error:.1e}, {check.greedy_tokens} greedy tokens equal"
        )
    for form, check in export.checks.items():
        greedy = f", {check.greedy_tokens} greedy tokens equal" if check.greedy_tokens else ""
        what = "the model" if export.report is None else "its own rounded weights"
        print(
            f"verified  {form}: largest difference of a logit from {what} {check.max_logit_error:.1e} over "
            f"{check.num_tokens} tokens in {len(check.readings)} ways of reading{greedy}"
        )
    if export.report is not None:
        print(f"{'as it runs' if export.exact else export.report.weights}  {export.report}")
    return 0


def as_json(export: OnnxExport) -> dict[str, Any]:
    """What `--json` prints."""
    return {
        "out": str(export.out),
        "files": dict(export.files),
        "bytes": sum(export.files.values()),
        "graphs": dict(export.contract.files),
        "weights": export.contract.weights,
        "block_size": export.contract.block_size,
        "pattern": export.contract.config.pattern,
        "checks": {form: asdict(check) for form, check in export.checks.items()},
        "exact_checks": {form: asdict(check) for form, check in export.exact.items()},
        "report": None if export.report is None else export.report.as_json(),
    }
