"""`mamba-slm data mix`: weights of several sources, what they come to, and a file that training reads."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mamba_slm.cli import console
from mamba_slm.core.errors import ConfigError, DataError, UsageError
from mamba_slm.core.units import parse_count

if TYPE_CHECKING:
    from mamba_slm.data.mixture import Mixture
    from mamba_slm.data.mixture_file import MixtureChange, MixturePlan

EPILOG = """\
A sample is a row of --context-tokens tokens. After any number of samples each source is within one of weight × samples,
and any sample is known at once: --sample shows where it comes from.

examples:
  mamba-slm data mix web=web-tokens:0.7 code=code-tokens:0.3 --tokens 10B --out mixture.yaml
  mamba-slm data mix english=en-tokens basque=eu-tokens --temperature 2
  mamba-slm data mix web=web-tokens:8 code=code-tokens:2 --change 5B:web=1,code=1 --sample 1T
  mamba-slm data mix --published tokens/ --without starcoder --out published.yaml
  mamba-slm data mix mixture.yaml --tokens 20B --json
"""


def configure_mix(parser: argparse.ArgumentParser) -> None:
    """Arguments of `mamba-slm data mix`."""
    parser.description = "Mix token shards by weight: shares, rows, epochs, any sample; and the file for training."
    parser.epilog = EPILOG
    parser.add_argument(
        "source", nargs="*", metavar="SOURCE", help="NAME=FOLDER:WEIGHT of token shards, or the file of a mixture"
    )
    parser.add_argument(
        "--published",
        metavar="FOLDER",
        help="the published mixture; FOLDER has token shards in folders named as in `mamba-slm data sources mixture`",
    )
    parser.add_argument("--without", metavar="NAMES", help="published: sources that you do not have, with commas")
    parser.add_argument("--sources", metavar="FILE", help="published: YAML with further sources")
    parser.add_argument(
        "--temperature", type=float, metavar="T", help="without weights: shares are rows ** (1 / T) (default 1)"
    )
    parser.add_argument(
        "--change",
        action="append",
        metavar="TOKENS:WEIGHTS",
        help="new weights after so many training tokens, such as 5B:web=1,code=2; once per change",
    )
    parser.add_argument("--tokens", type=parse_count, metavar="N", help="training tokens: shows epochs, and warns")
    parser.add_argument("--context-tokens", type=parse_count, metavar="N", default=2048, help="row (default 2048)")
    parser.add_argument("--seed", type=int, metavar="N", default=0, help="order of the rows (default 0)")
    parser.add_argument("--sample", type=parse_count, metavar="I", help="show where sample I comes from")
    parser.add_argument("--out", metavar="FILE", help="write the mixture for `mamba-slm train --data FILE`")
    parser.add_argument("--json", action="store_true", help="print as JSON")


def run_mix(args: argparse.Namespace) -> int:
    """Open the shards, print the mixture, write the file."""
    from mamba_slm.data.mixture_file import write_mixture_file

    plan = plan_of(args)
    mixture = open_mixture(plan, context_tokens=args.context_tokens, seed=args.seed)
    samples = None if args.tokens is None else -(-args.tokens // args.context_tokens)
    for warning in mixture.warnings(samples or 0):
        console.say(console.coloured(f"careful: {warning}", "yellow"))
    if args.out is not None:
        if Path(args.out).suffix not in (".yaml", ".yml"):
            raise ConfigError(f"--out {args.out} must end in .yaml", hint=f"--out {Path(args.out).stem}.yaml")
        write_mixture_file(args.out, plan)
    if args.json:
        console.print_json(mixture_json(mixture, samples, args))
    else:
        print(mixture.table(samples))
        if args.sample is not None:
            print(f"sample {args.sample:,}: {described(mixture, args.sample)}")
    if args.out is not None:
        console.say(f"next: mamba-slm train --data {shlex.quote(str(args.out))} --context-tokens {args.context_tokens}")
    return 0


def plan_of(args: argparse.Namespace) -> MixturePlan:
    """What the arguments ask for.

    Raises:
        UsageError: none, or two, of sources, a file and --published.
    """
    from dataclasses import replace

    from mamba_slm.data.mixture_file import MixturePlan, MixtureSource
    from mamba_slm.training.data_arguments import mixture_plan, parse_sources

    if (args.published is None) == (not args.source):
        raise UsageError(
            "mix what?" if args.published is None else "--published names the sources itself",
            hint="mamba-slm data mix web=web-tokens:0.7 code=code-tokens:0.3",
        )
    if args.published is not None:
        plan = published_plan(Path(args.published), args)
    else:
        plan = mixture_plan(args.source)
        if not plan.sources:
            found = parse_sources(args.source)
            sources = {source.name: MixtureSource(path=str(source.path), weight=source.weight) for source in found}
            plan = MixturePlan(sources=sources)
    if args.temperature is not None:
        plan = replace(plan, temperature=args.temperature)
    if args.change:
        plan = replace(plan, changes=tuple(map(parse_change, args.change)))
    return plan


def parse_change(text: str) -> MixtureChange:
    """Read TOKENS:NAME=WEIGHT,NAME=WEIGHT.

    Raises:
        ConfigError: not of that form.
    """
    from mamba_slm.core.config import parse_value
    from mamba_slm.data.mixture_file import MixtureChange

    tokens, _, pairs = text.partition(":")
    weights = {}
    for pair in pairs.split(","):
        name, equals, weight = pair.partition("=")
        if not equals:
            raise ConfigError(f"--change {text!r} is not TOKENS:NAME=WEIGHT,…", hint="--change 5B:web=1,code=2")
        weights[name.strip()] = parse_value(float, weight)
    return MixtureChange(from_tokens=parse_count(tokens), weights=weights)


def published_plan(folder: Path, args: argparse.Namespace) -> MixturePlan:
    """The published weights for the folders that are there; what was changed about them is said.

    Raises:
        DataError: a source of the mixture has no folder.
    """
    from mamba_slm.cli.data_sources import names
    from mamba_slm.data.mixture_file import MixturePlan, MixtureSource
    from mamba_slm.data.sources.published_mixture import published_mixture
    from mamba_slm.data.sources.source import load_sources

    sources = load_sources(*filter(None, [args.sources]))
    withdrawn = [name for name, source in sources.items() if source.access == "withdrawn"]
    have = [name for name in withdrawn if (folder / name).is_dir()]
    mixture = published_mixture(sources, have=have, without=names(args.without))
    for remark in mixture.remarks:
        console.say(console.coloured(f"changed: {remark}", "yellow"))
    missing = [name for name in mixture.weights if not (folder / name).is_dir()]
    if missing:
        raise DataError(
            f"{folder} has no token shards of {', '.join(missing)}",
            hint=f"tokenize them into {folder / missing[0]}, or: --without {','.join(missing)}",
        )
    return MixturePlan(
        sources={
            name: MixtureSource(path=str(folder / name), weight=weight) for name, weight in mixture.weights.items()
        }
    )


def open_mixture(plan: MixturePlan, *, context_tokens: int, seed: int) -> Mixture:
    """The mixture of a plan.

    Raises:
        DataError: a source is text.
    """
    from mamba_slm.data.mixture import Mixture
    from mamba_slm.data.shards import TokenShards
    from mamba_slm.training.prepare import is_shards, shard_folder

    opened: list[tuple[str, Any, float | None]] = []
    for name, source in plan.sources.items():
        if not is_shards(Path(source.path)):
            raise DataError(
                f"{source.path} holds no token shards: a mixture counts tokens",
                hint=f"mamba-slm data tokenize {shlex.quote(str(source.path))} --tokenizer PATH --out {name}-tokens",
            )
        shards = TokenShards.open(shard_folder(Path(source.path), "train"), verify=False)
        opened.append((name, shards, source.weight))
    changes = [(change.from_tokens // context_tokens, change.weights) for change in plan.changes]
    return Mixture(opened, context_tokens=context_tokens, seed=seed, temperature=plan.temperature, changes=changes)


def described(mixture: Mixture, number: int) -> str:
    """Where a sample comes from, in one line."""
    sample = mixture.sample(number)
    parts = [f"document {piece.document} from token {piece.start}, {piece.length}" for piece in sample.pieces]
    more = f" and {len(parts) - 3} more" if len(parts) > 3 else ""
    return f"{sample.source}, epoch {sample.epoch}, row {sample.row}: {'; '.join(parts[:3])}{more}"


def mixture_json(mixture: Mixture, samples: int | None, args: argparse.Namespace) -> dict[str, Any]:
    """The mixture for programs."""
    from dataclasses import asdict

    shares, epochs = mixture.shares(), {} if samples is None else mixture.epochs(samples)
    return {
        "fingerprint": mixture.fingerprint,
        "context_tokens": mixture.context_tokens,
        "seed": mixture.seed,
        "samples": samples,
        "sources": [
            {
                "name": name,
                "folder": str(source.shards.folder),
                "share": shares[name],
                "documents": source.shards.num_documents,
                "tokens": source.shards.num_tokens,
                "rows": source.plan.num_rows,
                "empty_share": source.plan.waste,
                "epochs": epochs.get(name),
            }
            for name, source in mixture.sources.items()
        ],
        "phases": [
            {"from_sample": phase.first_sample, "shares": mixture.shares(phase.first_sample)}
            for phase in mixture.phases
        ],
        "warnings": mixture.warnings(samples or 0),
        "sample": None if args.sample is None else {"number": args.sample, **asdict(mixture.sample(args.sample))},
    }
