"""Where a run stands in its data: a sample, and the phases of the mixture up to it; also as older versions wrote it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from mamba_slm.core.errors import DataError
from mamba_slm.data.mixture import Mixture, Phase
from mamba_slm.data.packing_plan import PACKING_VERSION
from mamba_slm.data.shards import TokenShards

FORMAT_VERSION = 3
"""1 knew no blocks of shuffled rows; 2 said how far a stream of documents had been read; 3 says how many samples."""


def state_of(mixture: Mixture, sample: int) -> dict[str, Any]:
    """The state after `sample` samples, JSON-able. It depends on nothing else."""
    return {
        "format_version": FORMAT_VERSION,
        "fingerprint": mixture.fingerprint,
        "seed": mixture.seed,
        "sample": sample,
        "context_tokens": mixture.context_tokens,
        "packing_version": PACKING_VERSION,
        "sources": {name: source.shards.fingerprint for name, source in mixture.sources.items()},
        "phases": [asdict(phase) for phase in mixture.phases if phase.first_sample <= sample],
    }


def restore(mixture: Mixture, state: Mapping[str, Any]) -> tuple[int, str | None]:
    """Give the mixture the phases of a state.

    Returns: the sample that follows, and what a person should know about it.

    Raises:
        DataError: the state belongs to other sources, other data, another seed or a newer version.
    """
    if state["format_version"] > FORMAT_VERSION:
        raise DataError(
            f"the loader state has format_version {state['format_version']}; this program reads up to {FORMAT_VERSION}",
            hint="update mamba-slm: pip install -U mamba-slm",
        )
    if state["format_version"] < 3:
        return restore_stream(mixture, state)
    require_same_data(mixture, state["seed"], state["sources"])
    phases = tuple(Phase(**phase) for phase in state["phases"])
    if (state["context_tokens"], state["packing_version"]) != (mixture.context_tokens, PACKING_VERSION):
        return go_on_elsewhere(mixture, phases, state["sample"], state["context_tokens"])
    mixture.continue_after(phases, state["sample"])
    before, now = phases[-1], mixture.phase_at(state["sample"])
    if now == before:
        return state["sample"], None
    shares = ", ".join(f"{name} {share:.2%}" for name, share in mixture.shares(state["sample"]).items())
    return state["sample"], f"the weights of the sources change at row {state['sample']:,}: {shares}"


def require_same_data(mixture: Mixture, seed: int, sources: Mapping[str, str]) -> None:
    """Refuse to go on with something else.

    Raises:
        DataError: another seed, other sources, or other tokens in one of them.
    """
    if seed != mixture.seed:
        raise DataError(f"the saved data order has seed {seed}, not {mixture.seed}", hint=f"use --seed {seed}")
    if set(sources) != set(mixture.sources):
        raise DataError(
            f"the saved state has the sources {', '.join(sources)}, the mixture has {', '.join(mixture.sources)}",
            hint="resume with the sources that the run began with; changes in a mixture file can leave one out",
        )
    for name, source in mixture.sources.items():
        same = sources[name] == source.shards.fingerprint
        if not same and sources[name] != fingerprint_without_headers(source.shards):
            raise DataError(
                f"the tokens of source {name!r} ({source.shards.folder}) changed since the state was saved",
                hint="restore the shards that the run began with, or start a new run",
            )


def fingerprint_without_headers(shards: TokenShards) -> str:
    """The fingerprint that these tokens had as shards of format version 1; reads them all."""
    arrays = [array for pair in zip(shards.tokens, shards.ends, strict=True) for array in pair]
    checksums = " ".join(hashlib.sha256(array.data).hexdigest() for array in arrays)
    return hashlib.sha256(checksums.encode()).hexdigest()


def go_on_elsewhere(
    mixture: Mixture, phases: tuple[Phase, ...], sample: int, context_tokens: int
) -> tuple[int, str | None]:
    """Continue after as many tokens of each source, in rows that are cut otherwise."""
    last = [phase for phase in phases if phase.first_sample <= sample][-1]
    counts = mixture.interleave(last).counts(sample - last.first_sample)
    drawn = {
        name: (last.drawn[name] + count) * context_tokens // mixture.context_tokens
        for name, count in zip(mixture.names, counts, strict=True)
    }
    return begin_after(mixture, drawn), (
        f"these are other rows of {mixture.context_tokens} tokens than before: the run goes on after as many tokens of "
        "each source; of the epoch under way some text comes twice and other text in the next epoch"
    )


def restore_stream(mixture: Mixture, state: Mapping[str, Any]) -> tuple[int, str | None]:
    """Continue a state of version 1 or 2, which read documents end to end, after as many tokens of each source."""
    stream = state["mixture"]
    saved = {entry["name"]: entry for entry in stream["sources"]}
    require_same_data(mixture, stream["seed"], {name: entry["fingerprint"] for name, entry in saved.items()})
    in_block = state.get("rows_taken", 0) * state.get("context_tokens", 0)
    drawn = {
        name: int(entry["tokens_drawn"] + entry["weight"] * in_block) // mixture.context_tokens
        for name, entry in saved.items()
    }
    return begin_after(mixture, drawn), (
        "an earlier version of mamba-slm read these documents end to end, now they are packed: the run goes on after "
        "as many tokens of each source; of the epoch under way some text comes twice and other text in the next epoch"
    )


def begin_after(mixture: Mixture, drawn: Mapping[str, int]) -> int:
    """Make a mixture go on after so many rows of each source; returns the sample that follows."""
    sample = sum(drawn.values())
    units = mixture.phase_at(sample).units
    mixture.continue_after([Phase(first_sample=sample, units=units, drawn=dict(drawn))], sample)
    return sample
