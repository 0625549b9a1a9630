"""`mamba-slm data curate`: from text to text worth training on, with a funnel at the end."""

from __future__ import annotations

import argparse
import os
import shlex
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mamba_slm.cli import console
from mamba_slm.cli.data_input import add_input
from mamba_slm.core.errors import UsageError
from mamba_slm.core.units import format_bytes, parse_count

if TYPE_CHECKING:
    from mamba_slm.data.curation.config import CurateConfig
    from mamba_slm.data.curation.curate import MakeEngine
    from mamba_slm.data.curation.plan import CuratePlan
    from mamba_slm.data.engine.ledger import Reporting
    from mamba_slm.data.engine.progress import StageProgress
    from mamba_slm.data.reading.options import ReadOptions

KINDS = ("web", "books", "code", "docs", "chat")
MAX_DOCUMENT_BYTES = 64 << 20
SAY_SECONDS = 5.0
SLURM = "slurm."

EPILOG = """\
INPUT is read, and judged document by document: length and quality signals with the limits of its kind of source,
language, profanity, spam, benchmark questions, personal data. Then the worst share of each kind goes, by an exact
quantile of a quality score, and exact and near duplicates go. Every rule, with its limits, is a setting of --config.
On Ray and Slurm all machines must see the input and FOLDER under the same paths.

FOLDER receives part-*.jsonl.zst (text, id, source, metadata), which `mamba-slm data tokenize FOLDER` reads, removed/
with the reason for every document that went, report.html, funnel.json and curation.json. A killed run goes on when
the command is repeated. The result depends on documents and settings alone, not on workers, files' order or kills.

examples:
  mamba-slm data curate crawl/ --kind web --out web
  mamba-slm data curate web=crawl/ code=src/ docs=manual/ --workers 8 --on-error skip --out mixed
  mamba-slm data curate crawl/ --kind web --config strict.yaml --dry-run --out web
  mamba-slm data curate crawl/ --kind web --out web --explain pages.jsonl:17
"""


def configure_curate(parser: argparse.ArgumentParser) -> None:
    """Arguments of `mamba-slm data curate`."""
    from mamba_slm.core.config import add_flags
    from mamba_slm.data.engine.slurm_job import SlurmConfig

    parser.epilog = EPILOG
    parser.description = "Keep the text worth training on, and say of everything else why it went."
    add_input(parser, nargs="+", skip=("max_document_bytes",))
    parser.add_argument(
        "--kind",
        choices=KINDS,
        help="what kind of text INPUT is; KIND=INPUT says it for one of several",
    )
    parser.add_argument("--out", required=True, metavar="FOLDER", help="new folder for the result")
    parser.add_argument(
        "--publish",
        metavar="ADDRESS",
        help="copy the result to s3://BUCKET/FOLDER, curation.json last, when it is done",
    )
    parser.add_argument("--config", metavar="FILE", help="YAML with settings; --dry-run --json shows all there are")
    parser.add_argument(
        "--drop-share",
        metavar="SHARE",
        help="documents with the lowest quality scores to drop, of each kind (default 30%%)",
    )
    parser.add_argument(
        "--decontaminate",
        action="append",
        default=[],
        metavar="PATH",
        help="remove documents that hold a question of the benchmarks in this file or folder; may be repeated",
    )
    parser.add_argument(
        "--keep-rejects", action="store_true", help="write the texts of removed documents, too, into FOLDER/removed"
    )
    parser.add_argument(
        "--explain", metavar="ID", help="say what every stage sees in this document, and what became of it"
    )
    parser.add_argument(
        "--engine",
        choices=("local", "ray", "slurm"),
        default="local",
        help="what runs the tasks: processes of this machine (default), a Ray cluster (RAY_ADDRESS), Slurm job arrays",
    )
    parser.add_argument(
        "--workers",
        type=parse_count,
        metavar="N",
        help="processes, each below 1 GB (default: the cores of this machine)",
    )
    parser.add_argument(
        "--max-document-bytes",
        type=parse_count,
        default=MAX_DOCUMENT_BYTES,
        metavar="N",
        help="longest line, record or .json file, which bounds the memory (default 64Mi)",
    )
    add_flags(parser.add_argument_group("Slurm"), SlurmConfig, prefix=SLURM)
    parser.add_argument("--dry-run", action="store_true", help="print settings and an estimate, and do nothing")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def run_curate(args: argparse.Namespace) -> int:
    """Curate, or explain one document, or show what would be done."""
    from mamba_slm.data.curation.config import parse_inputs
    from mamba_slm.data.curation.curate import curate
    from mamba_slm.data.curation.curation import CURATION
    from mamba_slm.data.curation.explain import explain
    from mamba_slm.data.curation.plan import plan_of
    from mamba_slm.data.storage import is_remote, publish

    config, origins = settings_of(args)
    options = reading_of(args)
    workers = len(os.sched_getaffinity(0)) if args.workers is None else args.workers
    if args.publish is not None and not is_remote(args.publish):
        raise UsageError(f"--publish {args.publish} is no address", hint="write it as s3://BUCKET/FOLDER")
    if args.explain is not None or args.dry_run:
        plan = plan_of(parse_inputs(args.input, args.kind), config, options, args.decontaminate)
        if args.explain is None:
            return show_plan(args, plan, origins, workers)
        explanation = explain(plan, args.explain, Path(args.out))
        if args.json:
            console.print_json(explanation.to_dict())
        else:
            print(explanation)
        return 0
    done = curate(
        args.input,
        args.out,
        kind=args.kind,
        config=config,
        options=options,
        benchmarks=args.decontaminate,
        workers=workers,
        make_engine=make_engine(args, workers),
        reporting=reporting(),
    )
    if args.publish is not None:
        sent = publish(done.folder, args.publish, last=CURATION, say=console.say)
        console.say(f"published at {args.publish}, {format_bytes(sent)} sent")
    if args.json:
        console.print_json(done.to_dict())
    else:
        print(done)
        if not done.funnel.total.written.documents:
            console.say("careful: no document stays; the report says why, and --dry-run shows the settings")
        console.say(f"next: open {done.folder / 'report.html'} in a browser")
        console.say(f"      mamba-slm data tokenize {shlex.quote(str(done.folder))} --tokenizer TOKENIZER --out TOKENS")
    return 0


def settings_of(args: argparse.Namespace) -> tuple[CurateConfig, dict[str, str]]:
    """The settings, and where each came from.

    Raises:
        ConfigError: a setting is unknown or out of range.
    """
    from mamba_slm.core.config import load_yaml, resolve
    from mamba_slm.core.values import parse_float
    from mamba_slm.data.curation.config import CurateConfig

    layers: list[tuple[str, dict[str, Any]]] = []
    if args.config is not None:
        layers.append((str(args.config), load_yaml(args.config)))
    flags: dict[str, Any] = {}
    if args.drop_share is not None:
        flags["drop_share"] = parse_float(args.drop_share)
    if args.keep_rejects:
        flags["keep_rejects"] = True
    return resolve(CurateConfig, [*layers, ("command line", flags)])


def reading_of(args: argparse.Namespace) -> ReadOptions:
    """How files are read."""
    from mamba_slm.cli.data_input import read_options

    return read_options(args, max_document_bytes=args.max_document_bytes)


def show_plan(args: argparse.Namespace, plan: CuratePlan, origins: dict[str, str], workers: int) -> int:
    """What would be read, with which settings, how long it would take."""
    from mamba_slm.core.config import to_dict
    from mamba_slm.data.curation.timing import estimate

    found = estimate(plan, workers)
    if args.json:
        console.print_json(
            {
                "settings": to_dict(plan.config),
                "origins": origins,
                "inputs": [str(one) for one in plan.inputs],
                "parts": len(plan.parts),
                "size_bytes": plan.size_bytes,
                "estimate": found.to_dict(),
            }
        )
        return 0
    changed = [
        [name, value_at(to_dict(plan.config), name), origin] for name, origin in origins.items() if origin != "default"
    ]
    for one in plan.inputs:
        print(f"input       {one}")
    parts = "1 part" if len(plan.parts) == 1 else f"{len(plan.parts)} parts"
    print(f"read        {format_bytes(plan.size_bytes)} in {parts}, by {workers} workers")
    if changed:
        print(console.table(["setting", "value", "from"], changed))
    print(f"settings    {len(origins) - len(changed)} at their defaults; --json shows them all")
    print(found)
    return 0


def value_at(settings: Any, dotted: str) -> Any:
    """A setting by its dotted name."""
    for name in dotted.split("."):
        settings = settings[name]
    return settings


def make_engine(args: argparse.Namespace, workers: int) -> MakeEngine | None:
    """What makes the engine that was asked for; None for processes of this machine."""
    from mamba_slm.core.config import flags_given, resolve
    from mamba_slm.data.engine.slurm_job import SlurmConfig

    slurm = flags_given(args, SlurmConfig, prefix=SLURM)
    if slurm and args.engine != "slurm":
        name = next(iter(slurm)).replace("_", "-")
        raise UsageError(f"--{SLURM}{name} is for Slurm", hint="add --engine slurm, or leave it out")
    if args.engine == "ray":
        from mamba_slm.data.engine.ray_cluster import RayEngine

        return lambda folder, configuration: RayEngine(
            workers, folder=folder, configuration=configuration, reporting=reporting()
        )
    if args.engine == "slurm":
        from mamba_slm.data.engine.slurm import SlurmEngine

        config = resolve(SlurmConfig, [("command line", slurm)])[0]
        return lambda folder, configuration: SlurmEngine(
            workers, folder=folder, configuration=configuration, reporting=reporting(), slurm=config
        )
    return None


def reporting() -> Reporting:
    """Talk on stderr: what goes wrong, and how far it is every few seconds and at the end of each stage."""
    from mamba_slm.data.engine.ledger import Reporting

    said = time.monotonic()

    def on_progress(progress: StageProgress) -> None:
        nonlocal said
        now = time.monotonic()
        if now - said >= SAY_SECONDS:
            said = now
            console.say(str(progress))

    return Reporting(say=console.say, on_progress=on_progress)
