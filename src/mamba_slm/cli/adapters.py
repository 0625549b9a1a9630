"""`mamba-slm adapters`: what adapters there are, several as one, and a model with its adapters as one."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from mamba_slm.cli import console
from mamba_slm.core.errors import UsageError
from mamba_slm.core.units import format_bytes, parse_count

BASE = "base"
EPILOG = """\
An adapter is a folder that plain peft loads as well. generate, chat, eval, probe, quantize and export take it with
--adapter FOLDER, or FOLDER=WEIGHT for a share of it, several times for several, and a run directory that holds nothing
but an adapter as a MODEL of its own. An adapter is refused for any model but the one that it was trained on.

examples:
  mamba-slm adapters list runs
  mamba-slm adapters merge runs/stories runs/poems=0.5 --out adapters/both
  mamba-slm adapters merge runs/stories --into base --out models/stories --dtype bfloat16
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of `mamba-slm adapters`."""
    parser.epilog = EPILOG
    commands = parser.add_subparsers()
    listed = "adapters in folders and in the run directories below them"
    listing = commands.add_parser("list", help=listed, description=f"Show {listed}.")
    listing.epilog = "examples:\n  mamba-slm adapters list runs --json\n"
    listing.add_argument("places", metavar="FOLDER", nargs="*", default=["runs"], help="where to look, default runs")
    listing.add_argument("--json", action="store_true", help="one JSON list")
    merged = "several adapters as one, or a model with its adapters as one model"
    merging = commands.add_parser("merge", help=f"write {merged}", description=f"Write {merged}.")
    merging.epilog = (
        "examples:\n  mamba-slm adapters merge runs/stories runs/poems=0.5 --out adapters/both --how svd --rank 16\n"
    )
    merging.add_argument(
        "adapters", metavar="ADAPTER[=WEIGHT]", nargs="+", help="adapter folder or run directory, and its share"
    )
    merging.add_argument("--out", metavar="FOLDER", type=Path, required=True, help="the folder to write")
    merging.add_argument("--overwrite", action="store_true", help="replace FOLDER once the new one is complete")
    merging.add_argument(
        "--into", metavar="MODEL", help="write a model: this one, or base for the one that the adapters belong to"
    )
    merging.add_argument(
        "--dtype", choices=("float32", "bfloat16"), help="with --into: of the matrices; default: as they are stored"
    )
    merging.add_argument(
        "--how",
        choices=("concatenate", "svd", "linear"),
        help="of several adapters: concatenate (default) is exactly their sum, with the sum of their ranks; svd the "
        "nearest of --rank; linear sums A and B each for itself, which is rough",
    )
    merging.add_argument("--rank", type=parse_count, metavar="N", help="with --how svd; default: the largest of theirs")
    merging.add_argument("--json", action="store_true", help="one JSON document")


def run(args: argparse.Namespace) -> int:
    """Run the subcommand."""
    return list_adapters(args) if args.subcommand == "list" else merge(args)


def list_adapters(args: argparse.Namespace) -> int:
    """A table of the adapters in some places."""
    from mamba_slm.model.adapter_folder import CONFIG_FILE, describe_adapter, is_adapter_folder

    places = [Path(place) for place in args.places]
    patterns = (CONFIG_FILE, f"*/{CONFIG_FILE}", f"*/*/{CONFIG_FILE}")
    folders = sorted({file.parent for place in places for pattern in patterns for file in place.glob(pattern)})
    rows = [described(describe_adapter(folder)) for folder in folders if is_adapter_folder(folder)]
    if args.json:
        console.print_json(rows)
    elif rows:
        shown = [{**row, "bytes": format_bytes(row["bytes"])} for row in rows]
        names = ["adapter", "kind", "rank", "targets", "in full", "size", "base"]
        print(console.table(names, [list(row.values()) for row in shown], right=["rank", "size"]))
    else:
        console.say(f"no adapter in {', '.join(args.places)}; mamba-slm finetune MODEL --method lora makes one")
    return 0


def described(adapter: Any) -> dict[str, Any]:
    """A row of the list."""
    from mamba_slm.model.adapter_folder import WEIGHTS_FILE

    config = adapter.config
    kinds = [name for name, key in (("rsLoRA", "use_rslora"), ("DoRA", "use_dora")) if config.get(key)]
    return {
        "adapter": str(adapter.folder),
        "kind": " ".join(kinds) or "LoRA",
        "rank": config.get("r"),
        "targets": " ".join(sorted(config.get("target_modules") or [])),
        "in_full": " ".join(sorted({name.rpartition(".")[2] for name in adapter.trained_in_full})),
        "bytes": (adapter.folder / WEIGHTS_FILE).stat().st_size,
        "base": str(adapter.base_path or "not known"),
    }


def merge(args: argparse.Namespace) -> int:
    """Write one adapter, or one model."""
    from mamba_slm.model.adapter_choice import AdapterChoice, adapter_folder

    parsed = [AdapterChoice.parse(text) for text in args.adapters]
    choices = [AdapterChoice(folder=adapter_folder(one.folder), weight=one.weight) for one in parsed]
    if args.into is None:
        if args.dtype is not None:
            raise UsageError("--dtype is a choice for a model", hint="add --into base, or leave it out")
        return combine(args, choices)
    if args.how is not None or args.rank is not None:
        raise UsageError("into a model adapters are merged exactly", hint="leave out --how and --rank")
    return merge_into(args, choices)


def combine(args: argparse.Namespace, choices: list[Any]) -> int:
    """Several adapters as one."""
    from mamba_slm.finetuning.adapters.combine import combine_adapters

    how = args.how or "concatenate"
    changes = combine_adapters(choices, args.out, how=how, rank=args.rank, overwrite=args.overwrite)
    ranks = sorted({one.A.shape[0] for one in changes.values()})
    if args.json:
        console.print_json({"out": str(args.out), "how": how, "matrices": len(changes), "ranks": ranks})
    else:
        print(
            f"{args.out}: {len(choices)} adapters as one, rank {' and '.join(map(str, ranks))}, {len(changes)} matrices"
        )
    return 0


def merge_into(args: argparse.Namespace, choices: list[Any]) -> int:
    """A model with its adapters as a model folder."""
    import torch

    from mamba_slm.core.errors import DataError
    from mamba_slm.model.adapter import write_merged
    from mamba_slm.model.adapter_choice import Adapted
    from mamba_slm.model.adapter_folder import describe_adapter
    from mamba_slm.model.checkpoint import resolve_model_folder
    from mamba_slm.training.publishing import complete_for_transformers

    known = describe_adapter(choices[0].folder).base_path
    if args.into == BASE and known is None:
        raise DataError(f"{choices[0].folder} does not say which model it belongs to", hint="--into MODEL")
    base = resolve_model_folder(known if args.into == BASE and known is not None else args.into)
    dtype = None if args.dtype is None else getattr(torch, args.dtype)
    adapted = Adapted(base=base, adapters=tuple(choices))
    console.say(f"merging {adapted}")
    write_merged(adapted, args.out, dtype=dtype, overwrite=args.overwrite, complete=complete_for_transformers)
    if args.json:
        console.print_json({"out": str(args.out), "base": str(base), "adapters": [str(one.folder) for one in choices]})
    else:
        print(f"model       {args.out}")
    return 0
