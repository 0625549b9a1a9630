"""The flags of `mamba-slm serve` that say who guesses tokens ahead."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from mamba_slm.cli.reuse_flags import add_guess_flags, speculative_of
from mamba_slm.core.errors import UsageError

if TYPE_CHECKING:
    from mamba_slm.generation.speculative.proposals import Source


def add_flags(parser: argparse.ArgumentParser) -> None:
    """All flags of this file."""
    add_guess_flags(parser.add_argument_group("guessing ahead (answers stay the same)"))


def source(args: argparse.Namespace) -> Source | None:
    """Who guesses, where the flags want somebody.

    Raises:
        UsageError: two who would guess.
        ConfigError: a number out of range.
        DataError, CheckpointError: there is no such draft model.
    """
    if args.prompt_lookup is not None and args.draft is not None:
        raise UsageError("--prompt-lookup and --draft both guess what comes next", hint="give one of them")
    speculative = speculative_of(args)
    return None if speculative is None else speculative.source
