"""`mamba-slm prefs`: compare answers blindly, look at what was said, bring it in and out. No torch but for `rate`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from mamba_slm.cli import console
from mamba_slm.core.errors import ConfigError, DataError
from mamba_slm.core.units import parse_count
from mamba_slm.runs.preferences.verdicts import DEFAULT_MIN_AGREEMENT, FORMATS

if TYPE_CHECKING:
    from mamba_slm.runs.preferences.statistics import Statistics
    from mamba_slm.runs.preferences.store import PreferenceSet

EPILOG = """\
A set lies in HOME/preferences/NAME: pairs.jsonl and ratings.jsonl, which only grow. `align` reads it as prefs:NAME.

examples:
  mamba-slm prefs rate talk --model runs/quickstart --prompts prompts.txt
  mamba-slm prefs rate talk --model runs/a --model runs/b --prompts prompts.jsonl --limit 100
  mamba-slm prefs rate talk --rater ada
  mamba-slm prefs list
  mamba-slm prefs stats talk --json
  mamba-slm prefs import pairs.jsonl --name talk
  mamba-slm prefs export talk --format kto --min-agreement 0.8 --out talk.jsonl
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the subcommands of `mamba-slm prefs`."""
    parser.description = "Preferences of people: two answers to a prompt side by side, which one is better?"
    parser.epilog = EPILOG
    commands = parser.add_subparsers()
    about = {
        "rate": "compare answers in the terminal, without knowing which model made which",
        "list": "the sets in a home, one line each",
        "stats": "who won, with intervals; how steady the raters are, and what else swayed them",
        "import": "add pairs of a file in any form that align reads; what it says better counts as a rating",
        "export": "write what was preferred for other programs: dpo, kto or csv",
    }
    for name, help_line in about.items():
        command = commands.add_parser(name, help=help_line, description=f"{help_line[0].upper()}{help_line[1:]}.")
        if name == "import":
            command.add_argument("file", metavar="FILE", help="preferences: a file, a folder or a data set of the hub")
            command.add_argument("--name", metavar="NAME", help="of the set; default: of the file")
            command.add_argument("--form", metavar="FORM", help="of the file; default: told by its records")
            command.add_argument("--limit", type=parse_count, metavar="N", help="read at most N pairs")
            command.add_argument(
                "--unrated", action="store_true", help="take the pairs alone, to be rated here without bias"
            )
        elif name != "list":
            command.add_argument("name", metavar="NAME", help="of the set")
        command.add_argument("--home", metavar="DIR", help="home of runs (default: $MAMBA_SLM_HOME, else ./runs)")
        if name in ("list", "stats"):
            command.add_argument("--json", action="store_true", help="one JSON document on stdout")
        if name == "export":
            command.add_argument("--format", choices=FORMATS, default="dpo", help="default dpo; csv: every rating")
            command.add_argument(
                "--min-agreement",
                type=float,
                default=DEFAULT_MIN_AGREEMENT,
                metavar="SHARE",
                help="leave out pairs about which fewer of the ratings agree, default "
                f"{DEFAULT_MIN_AGREEMENT}; a pair without a majority never counts",
            )
            command.add_argument("--out", metavar="FILE", help="write there instead of to stdout")
        if name == "rate":
            from mamba_slm.cli.prefs_rate import add_rate_flags

            add_rate_flags(command)


def run(args: argparse.Namespace) -> int:
    """Run the subcommand."""
    if args.subcommand == "rate":
        from mamba_slm.cli.prefs_rate import rate

        return rate(args)
    return {"list": list_command, "stats": stats, "import": import_command, "export": export}[args.subcommand](args)


def list_command(args: argparse.Namespace) -> int:
    """`prefs list`."""
    from mamba_slm.runs.layout import default_home
    from mamba_slm.runs.preferences.store import list_sets

    found = [(each, measured(each)) for each in list_sets(args.home)]
    if args.json:
        console.print_json([{"name": each.name, "path": str(each.path), **said.as_json()} for each, said in found])
        return 0
    if not found:
        console.say(f"no preferences in {args.home or default_home()}; begin: mamba-slm prefs rate NAME --model MODEL")
        return 0
    header = ["set", "pairs", "ratings", "self-agreement"]
    rows = [[each.name, f"{said.pairs:,}", f"{said.ratings:,}", said.self_agreement] for each, said in found]
    print(console.table(header, rows, right=header[1:3]))
    return 0


def measured(preferences: PreferenceSet) -> Statistics:
    """The statistics of a set."""
    from mamba_slm.runs.preferences.statistics import measure

    return measure(preferences.pairs(), preferences.ratings())


def stats(args: argparse.Namespace) -> int:
    """`prefs stats`."""
    from mamba_slm.runs.preferences.store import PreferenceSet

    preferences = PreferenceSet.open(args.name, args.home)
    found = measured(preferences)
    if args.json:
        console.print_json({"name": preferences.name, **found.as_json()})
        return 0
    print(statistics_table(preferences.name, found))
    from mamba_slm.runs.preferences.statistics import remarks

    for remark in remarks(found):
        console.say(remark)
    return 0


def statistics_table(name: str, found: Statistics) -> str:
    """What a set says, with 95% intervals of Wilson."""
    from mamba_slm.runs.preferences.choices import CHOICES

    said = ", ".join(f"{choice.label} {found.choices.get(key, 0):,}" for key, choice in CHOICES.items())
    rows = [["pairs", f"{found.pairs:,}"], ["ratings", f"{found.ratings:,}"], ["choices", said]]
    for duel in found.duels:
        first, second = (model or "unknown" for model in duel.models)
        rows.append([f"{first} beats {second}", f"{duel.wins}; {duel.ties} ties, {duel.both_bad} both bad"])
    rows += [
        ["same again, sides exchanged", str(found.self_agreement)],
        ["two raters say the same", str(found.rater_agreement)],
        ["left side chosen", str(found.left)],
        ["longer answer chosen", str(found.longer)],
        ["median time", "–" if found.seconds is None else f"{found.seconds:.1f} s"],
    ]
    return console.table([name, ""], [row for row in rows if not row[1].endswith("n=0")])


def import_command(args: argparse.Namespace) -> int:
    """`prefs import`."""
    from mamba_slm.data.conversations.read import read_preferences
    from mamba_slm.runs.preferences.rows import Answer, Pair, Rating
    from mamba_slm.runs.preferences.store import PreferenceSet, new_id, now

    examples = read_preferences(args.file, form=args.form, limit=args.limit, say=console.say)
    name = args.name or Path(args.file).name.split(".")[0]
    preferences = PreferenceSet.open_or_create(name, args.home)
    single = [item for item in examples.items if len(item.chosen) == len(item.rejected) == 1]
    pairs = [
        Pair(item.prompt, (Answer(item.chosen[0]["content"], ""), Answer(item.rejected[0]["content"], "")), item.origin)
        for item in single
    ]
    if len(single) < len(examples.items):
        console.say(f"left out {len(examples.items) - len(single):,}: answers of several messages")
    if not pairs:
        raise DataError(f"{args.file} holds no pair of single answers")
    before = {rating.pair for rating in preferences.ratings() if rating.rater == IMPORTED}
    added = preferences.add_pairs(pairs)
    if not args.unrated:
        kept = {pair.id: pair for pair in preferences.pairs()}
        preferences.add_ratings(
            Rating(
                id=new_id(), pair=pair.id, rater=IMPORTED, swapped=False, time=now(),
                choice="left" if kept[pair.id].answers == pair.answers else "right",
            )
            for pair in {pair.id: pair for pair in pairs}.values()
            if pair.id not in before
        )  # fmt: skip
    console.say(f"{added:,} new pairs of {len(pairs):,} in {preferences.path}")
    print(preferences.path)
    return 0


IMPORTED = "imported"
"""The rater of what a file said."""


def export(args: argparse.Namespace) -> int:
    """`prefs export`."""
    from mamba_slm.core.files import write_text_atomic
    from mamba_slm.runs.preferences.export import exported
    from mamba_slm.runs.preferences.store import PreferenceSet

    preferences = PreferenceSet.open(args.name, args.home)
    found = exported(preferences.pairs(), preferences.ratings(), format=args.format, min_agreement=args.min_agreement)
    for reason, count in found.left_out.items():
        console.say(f"left out {count:,} pairs: {reason}")
    if not found.rows:
        raise DataError(
            f"nothing to export from {preferences.path}", hint=f"rate some pairs: mamba-slm prefs rate {args.name}"
        )
    if args.out:
        try:
            write_text_atomic(Path(args.out), found.text)
        except OSError as error:
            raise ConfigError(f"{args.out} cannot be written: {error.strerror}") from error
        print(args.out)
    else:
        sys.stdout.write(found.text)
    console.say(f"{found.rows:,} rows")
    return 0
