"""The flags that save work: guesses that are read several at a time, and prompts that were read before."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from mamba_slm.core.units import parse_count

if TYPE_CHECKING:
    from mamba_slm.generation.loading import LoadedModel
    from mamba_slm.generation.request import Strategy
    from mamba_slm.generation.speculative.decode import Speculative
    from mamba_slm.generation.states.prompt_cache import PromptCache

GUESSES = {"draft": "--draft", "prompt_lookup": "--prompt-lookup"}
"""Of which one may be given, and no search."""


def add_reuse_flags(parser: argparse.ArgumentParser) -> None:
    """All flags of this file."""
    group = parser.add_argument_group("saving work (the text stays the same)")
    add_guess_flags(group)
    group.add_argument(
        "--prompt-cache", metavar="DIR", help="keep what reading prompts left there, and do not read them again"
    )
    group.add_argument(
        "--prompt-cache-bytes", type=parse_count, default=2**30, metavar="N", help="at most so many bytes, default 1Gi"
    )


def add_guess_flags(group: argparse._ArgumentGroup) -> None:
    """Who guesses."""
    group.add_argument(
        "--prompt-lookup",
        type=parse_count,
        metavar="N",
        help="guess up to N tokens from what followed earlier in the text, and read them at once; for text that "
        "repeats itself",
    )
    group.add_argument(
        "--draft",
        metavar="MODEL",
        help="let a smaller model with the same tokenizer guess, and read its guesses at once",
    )
    group.add_argument(
        "--draft-tokens",
        type=parse_count,
        default=4,
        metavar="N",
        help="guesses of the draft model at a time, default 4",
    )


def speculative_of(args: argparse.Namespace) -> Speculative | None:
    """The guessing that the flags describe, or None.

    Raises:
        ConfigError: a number out of range.
        DataError, CheckpointError: there is no such draft model.
    """
    from mamba_slm.generation.speculative.decode import Speculative
    from mamba_slm.generation.speculative.proposals import DraftModel, PromptLookup

    if args.prompt_lookup is not None:
        return Speculative(source=PromptLookup(most=args.prompt_lookup))
    if args.draft is None:
        return None
    from mamba_slm.cli.runtime_flags import runtime_settings
    from mamba_slm.generation.loading import load

    draft = load(args.draft, settings=replace(runtime_settings(args), adapters=()))
    return Speculative(source=DraftModel(runtime=draft.runtime, most=args.draft_tokens))


def prompt_cache_for(args: argparse.Namespace, loaded: LoadedModel) -> PromptCache | None:
    """The prompt cache that the flags ask for, in use by the runtime from now on; or None."""
    if args.prompt_cache is None:
        return None
    from mamba_slm.cli import console
    from mamba_slm.generation.states.fingerprint import fingerprint_of
    from mamba_slm.generation.states.prompt_cache import PromptCache, PromptCacheSettings

    settings = PromptCacheSettings(folder=Path(args.prompt_cache), max_bytes=args.prompt_cache_bytes)
    fingerprint = fingerprint_of(loaded.runtime, tokenizer=loaded.tokenizer, folder=loaded.weights_folder)
    cache = PromptCache(settings, fingerprint, say=console.say)
    loaded.runtime.prompt_reader = cache
    return cache


def what_was_saved(strategy: Strategy | None, cache: PromptCache | None) -> list[str]:
    """Lines about guesses and the prompt cache, where there were any."""
    from mamba_slm.generation.speculative.decode import Speculative

    lines = [f"guesses: {strategy.counts}"] if isinstance(strategy, Speculative) else []
    return lines + ([] if cache is None else [f"prompt cache: {cache.counts}"])
