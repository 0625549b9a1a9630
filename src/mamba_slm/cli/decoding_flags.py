"""The flags that say how text is made, shared by `generate` and `chat`, and what they describe."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from mamba_slm.cli import console
from mamba_slm.cli.reuse_flags import GUESSES, add_reuse_flags, speculative_of
from mamba_slm.cli.runtime_flags import add_runtime_flags
from mamba_slm.core.units import parse_count

if TYPE_CHECKING:
    from mamba_slm.generation.request import Strategy
    from mamba_slm.generation.sampling import Sampler
    from mamba_slm.generation.strategies.penalties import Processor
    from mamba_slm.text.tokenizer import Tokenizer

SEARCHES = {"beams": "--beams", "contrastive_k": "--contrastive-k", "best_of": "--best-of", **GUESSES}
"""Of which one may be given."""

CONSTRAINTS = {"json_schema": "--json-schema", "regex": "--regex", "choice": "--choice"}
"""Of which one may be given."""


def add_sampling_flags(parser: argparse.ArgumentParser, *, max_new_tokens: int) -> None:
    """All flags of this file."""
    group = parser.add_argument_group("sampling")
    group.add_argument(
        "--max-new-tokens", type=parse_count, default=max_new_tokens, metavar="N", help=f"default {max_new_tokens}"
    )
    group.add_argument(
        "--temperature", type=float, default=0.8, metavar="T", help="0 is greedy, 1 neutral, default 0.8"
    )
    group.add_argument("--top-k", type=parse_count, metavar="K", help="draw among the K most likely tokens")
    group.add_argument(
        "--top-p", type=float, default=0.95, metavar="P", help="draw among the fewest tokens of mass P, default 0.95"
    )
    group.add_argument("--min-p", type=float, metavar="P", help="leave out tokens below P times the most likely one")
    group.add_argument(
        "--typical-p", type=float, metavar="P", help="draw among the fewest tokens of mass P of nearly usual surprise"
    )
    group.add_argument("--repetition-penalty", type=float, metavar="R", help="above 1: seen tokens become less likely")
    group.add_argument(
        "--frequency-penalty", type=float, metavar="R", help="taken off a logit each time that its token was made"
    )
    group.add_argument(
        "--presence-penalty", type=float, metavar="R", help="taken off the logit of every token that was made"
    )
    group.add_argument("--no-repeat-ngram-size", type=parse_count, metavar="N", help="make no N tokens in a row twice")
    group.add_argument(
        "--logit-bias",
        action="append",
        default=[],
        metavar="TOKEN=NUMBER",
        help="added to the logit of the token with this number; -inf forbids it; may be given several times",
    )
    group.add_argument(
        "--sampler",
        action="append",
        default=[],
        metavar="NAME[:SETTING=VALUE,...]",
        help="a sampler of a plugin, behind the others; may be given several times",
    )
    group.add_argument("--seed", type=parse_count, metavar="N", help="of the draws; default: a new one, printed")
    group.add_argument(
        "--stop", action="append", default=[], metavar="TEXT", help="end at this text; may be given several times"
    )
    add_search_flags(parser)
    add_constraint_flags(parser)
    add_reuse_flags(parser)
    add_runtime_flags(parser)


def add_search_flags(parser: argparse.ArgumentParser) -> None:
    """Strategies other than one draw after the other."""
    group = parser.add_argument_group("search")
    group.add_argument("--beams", type=parse_count, metavar="N", help="beam search with N beams; nothing is drawn")
    group.add_argument(
        "--length-penalty", type=float, default=1.0, metavar="X", help="above 0 favours long beams, default 1"
    )
    group.add_argument(
        "--early-stopping",
        choices=("likely", "full", "never"),
        default="likely",
        help="end beam search when no open beam is likely to win (default), when N are complete, or when none can win",
    )
    group.add_argument(
        "--contrastive-k",
        type=parse_count,
        metavar="K",
        help="contrastive search: of the K most likely tokens the one least like what came before; nothing is drawn",
    )
    group.add_argument(
        "--contrastive-alpha", type=float, default=0.6, metavar="A", help="weight of that likeness, default 0.6"
    )
    group.add_argument(
        "--best-of", type=parse_count, metavar="N", help="draw N texts and keep the one of the most likely tokens"
    )
    group.add_argument(
        "--batch-invariant",
        action="store_true",
        help="compute every text by itself, so that its neighbours do not change its rounding; slower",
    )


def add_constraint_flags(parser: argparse.ArgumentParser) -> None:
    """What the text must look like."""
    group = parser.add_argument_group("constraint (needs the extra grammar)")
    group.add_argument("--json-schema", metavar="FILE", help="write JSON that follows the JSON schema in FILE")
    group.add_argument("--regex", metavar="REGEX", help="write what matches the regular expression, all of it")
    group.add_argument(
        "--choice", action="append", default=[], metavar="TEXT", help="write one of the texts given in this way"
    )


def sampler_of(args: argparse.Namespace, constraint: Processor | None = None) -> Sampler:
    """The sampler that the flags describe, with a constraint of `constraint_of`.

    Raises:
        ConfigError: a value is out of range, or there is no such sampler of a plugin.
    """
    from mamba_slm.generation.sampling import Sampler

    sampler = Sampler.from_settings(
        temperature=args.temperature,
        top_k=args.top_k,
        top_p=args.top_p,
        min_p=args.min_p,
        typical_p=args.typical_p,
        repetition_penalty=args.repetition_penalty,
        frequency_penalty=args.frequency_penalty,
        presence_penalty=args.presence_penalty,
        no_repeat_ngram_size=args.no_repeat_ngram_size,
    )
    return adjusted(sampler, args, constraint)


def adjusted(sampler: Sampler, args: argparse.Namespace, constraint: Processor | None = None) -> Sampler:
    """A sampler with the biases and the constraint of the flags, and without draws where they ask for a search."""
    from dataclasses import replace

    from mamba_slm.generation.strategies.filters import Greedy
    from mamba_slm.generation.strategies.penalties import LogitBias

    if args.sampler:
        from mamba_slm.generation.named_samplers import with_named

        sampler = with_named(sampler, args.sampler)
    before = (LogitBias(tuple(map(read_bias, args.logit_bias))),) if args.logit_bias else ()
    after = () if constraint is None else (constraint,)
    return replace(
        sampler,
        processors=(*before, *sampler.processors, *after),
        filters=(Greedy(),) if is_search(args) else sampler.filters,
    )


def is_search(args: argparse.Namespace) -> bool:
    """Whether tokens are searched for, so that nothing is drawn."""
    return args.beams is not None or args.contrastive_k is not None


def read_bias(text: str) -> tuple[int, float]:
    """Token and bias of one --logit-bias.

    Raises:
        ConfigError: not of the form TOKEN=NUMBER.
    """
    from mamba_slm.core.errors import ConfigError

    token, _, number = text.partition("=")
    try:
        return int(token), float(number)
    except ValueError:
        raise ConfigError(
            f"--logit-bias {text!r} is not TOKEN=NUMBER", hint="for example --logit-bias 17=-inf"
        ) from None


def constraint_of(args: argparse.Namespace, tokenizer: Tokenizer, end_ids: Sequence[int] = ()) -> Processor | None:
    """The constraint that the flags describe, or None.

    Args:
        args: parsed by a parser with `add_sampling_flags`.
        tokenizer: of the model.
        end_ids: tokens that may end a constrained text; none: the tokenizer's end token.

    Raises:
        ConfigError: two constraints, or one that cannot be followed.
        DataError: the file of a JSON schema cannot be read.
    """
    given = only_one(args, CONSTRAINTS)
    if given is None:
        return None
    from pathlib import Path

    from mamba_slm.core.errors import DataError
    from mamba_slm.generation.strategies import constraints

    if given == "regex":
        return constraints.matching(args.regex, tokenizer, end_ids=end_ids)
    if given == "choice":
        return constraints.one_of(args.choice, tokenizer, end_ids=end_ids)
    try:
        schema = Path(args.json_schema).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"the JSON schema {args.json_schema} cannot be read: {error}") from error
    return constraints.following_schema(schema, tokenizer, end_ids=end_ids)


def strategy_of(args: argparse.Namespace) -> Strategy | None:
    """The strategy that the flags describe; None draws one token after the other.

    Raises:
        ConfigError: two searches, or a value out of range.
    """
    from mamba_slm.generation.strategies.beam import BeamSearch
    from mamba_slm.generation.strategies.best_of import BestOf
    from mamba_slm.generation.strategies.contrastive import ContrastiveSearch
    from mamba_slm.generation.strategies.separate import Separate

    strategy: Strategy | None = None
    match only_one(args, SEARCHES):
        case "beams":
            strategy = BeamSearch(
                beams=args.beams, length_penalty=args.length_penalty, early_stopping=args.early_stopping
            )
        case "contrastive_k":
            strategy = ContrastiveSearch(k=args.contrastive_k, alpha=args.contrastive_alpha)
        case "best_of":
            strategy = BestOf(draws=args.best_of)
        case "draft" | "prompt_lookup":
            strategy = speculative_of(args)
    if is_search(args):
        console.say("a search draws nothing: temperature, top-k, top-p, min-p, typical-p and seed are not used")
    return Separate(strategy=strategy) if args.batch_invariant else strategy


def refuse_local_flags(args: argparse.Namespace) -> None:
    """Raise ConfigError for what a server cannot be asked to do."""
    from mamba_slm.core.errors import ConfigError

    flags = {**SEARCHES, **CONSTRAINTS, "logit_bias": "--logit-bias", "batch_invariant": "--batch-invariant"}
    flags |= {"sampler": "--sampler"}
    flags |= {"prompt_cache": "--prompt-cache"}
    given = [flag for name, flag in flags.items() if getattr(args, name) not in (None, [], False)]
    if given:
        raise ConfigError(f"{', '.join(given)} cannot be had with --url", hint="they work with a model that runs here")


def only_one(args: argparse.Namespace, flags: dict[str, str]) -> str | None:
    """The name of the one flag that was given, or None.

    Raises:
        ConfigError: there are several.
    """
    from mamba_slm.core.errors import ConfigError

    given = [name for name in flags if getattr(args, name) not in (None, [])]
    if len(given) > 1:
        raise ConfigError(" and ".join(flags[name] for name in given) + " cannot be had together", hint="give one")
    return given[0] if given else None


def seed_of(args: argparse.Namespace) -> int:
    """The seed given, or a new one, small enough to type again."""
    import secrets

    return secrets.randbelow(2**31) if args.seed is None else args.seed
