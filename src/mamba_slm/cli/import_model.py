"""`mamba-slm import`: a dense GraniteMoeHybrid of Hugging Face becomes a model folder of ours."""

from __future__ import annotations

import argparse
from pathlib import Path

from mamba_slm.cli import console
from mamba_slm.cli.export_hf import in_words, positive_number
from mamba_slm.core.units import format_count

EPILOG = """\
SOURCE is a folder with config.json, safetensors and tokenizer.json, or the hub id of one in the local cache; the
network is not used. Both spellings of layer_types are read. Multipliers that our model has not (embedding, residual,
logits, attention) are multiplied into the weights; without them the weights keep every bit. Refused, with the reason:
experts, other architectures, keys that are not known here, pickles. The new folder is compared with transformers on
the source.

examples:
  mamba-slm import exported/quickstart --out models/quickstart
  mamba-slm import OWNER/NAME --out models/name --json
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of `mamba-slm import`."""
    parser.epilog = EPILOG
    parser.add_argument("source", metavar="SOURCE", help="folder of a GraniteMoeHybrid, or a hub id in the local cache")
    parser.add_argument("--out", metavar="FOLDER", type=Path, required=True, help="the folder to write; must not exist")
    parser.add_argument("--overwrite", action="store_true", help="replace FOLDER once the new one is verified")
    parser.add_argument(
        "--tolerance",
        type=positive_number,
        default=1e-4,
        metavar="X",
        help="largest difference of a logit, default 1e-4",
    )
    parser.add_argument("--json", action="store_true", help="one JSON document: pattern, sizes, errors measured")


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    from mamba_slm.export.compare import comparison_as_json
    from mamba_slm.export.hf.importing import import_hf
    from mamba_slm.model.count import count_parameters

    found = import_hf(args.source, args.out, overwrite=args.overwrite, tolerance=args.tolerance, say=console.say)
    parameters = count_parameters(found.config).total
    if args.json:
        console.print_json(
            {
                "source": args.source,
                "out": str(found.out),
                "pattern": found.config.pattern,
                "parameters": parameters,
                "multiplied_into_weights": found.folded,
                "removed_feed_forwards": found.removed_feed_forwards,
                "parity": comparison_as_json(found.parity),
            }
        )
        return 0
    print(f"{found.out}  {format_count(parameters)} parameters, pattern {found.config.pattern}")
    print(f"verified  {in_words(found.parity)}")
    return 0
