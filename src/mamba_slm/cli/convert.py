"""`mamba-slm convert`: a Transformer becomes a hybrid."""

from __future__ import annotations

import argparse
from pathlib import Path

from mamba_slm.cli import console
from mamba_slm.core.flags import add_flags, flags_given
from mamba_slm.core.units import format_count, parse_count
from mamba_slm.finetuning.conversion.shape import HybridShape

EPILOG = """\
SOURCE is a folder of a Llama, Mistral or Qwen2 as transformers saves it (config.json, safetensors, tokenizer). The
embedding, the norms, the feed-forwards and the attention that stays are copied; every other attention layer becomes a
Mamba-2 layer that begins with its projections. FOLDER is then a model like any other.

examples:
  mamba-slm convert llama/ --keep-attention 0.35 --out models/hybrid
  mamba-slm convert llama/ --keep-attention 0.5 --placement even --out models/half --json
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of `mamba-slm convert`."""
    parser.epilog = EPILOG
    parser.add_argument("source", metavar="SOURCE", help="folder of a Llama, Mistral or Qwen2 of transformers")
    parser.add_argument("--out", metavar="FOLDER", type=Path, required=True, help="the folder to write; must not exist")
    parser.add_argument("--overwrite", action="store_true", help="replace FOLDER")
    parser.add_argument("--seed", type=parse_count, default=0, metavar="N", help="of what attention says nothing about")
    parser.add_argument("--json", action="store_true", help="one JSON document")
    add_flags(parser.add_argument_group("the hybrid"), HybridShape)


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    from mamba_slm.core.config import from_dict
    from mamba_slm.finetuning.conversion.convert import convert

    shape = from_dict(HybridShape, flags_given(args, HybridShape), where="command line")
    result = convert(args.source, args.out, shape=shape, seed=args.seed, overwrite=args.overwrite, say=console.say)
    if args.json:
        console.print_json(result.to_dict())
        return 0
    print(f"{result.out}  {format_count(result.parameters)} parameters, pattern {result.config.pattern}")
    return 0
