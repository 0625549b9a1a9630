"""A deterministic stream of documents from weighted sources, resumed exactly from a few numbers.

The next document comes from the source that is furthest behind its share of the tokens so far, so that after any number
of tokens every source is within one document of weight × tokens. Inside a source the documents come in an order that
is shuffled anew for every epoch. Nothing is drawn at random: the stream is a function of (sources, weights, seed).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mamba_slm.core.errors import ConfigError, DataError
from mamba_slm.core.units import format_count
from mamba_slm.data.permutation import Permutation
from mamba_slm.data.shards import TokenShards

FORMAT_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class DrawnDocument:
    """One document of the stream."""

    tokens: np.ndarray
    """[t] ids, [bos] + text + [eos], read-only, in the stored dtype."""

    source: str
    """Name of its source."""

    index: int
    """Its number in the source's `TokenShards`."""


class Source:
    """One source of a mixture with its place in the stream."""

    def __init__(self, name: str, shards: TokenShards, weight: float, seed: int):
        self.name = name
        self.shards = shards
        self.weight = weight
        self.seed = seed
        self.tokens_drawn = 0
        self.tokens_before_weights = 0  # drawn before the present weights were set: they owe nothing to the past
        self.move_to(epoch=0, position=0)

    def move_to(self, *, epoch: int, position: int) -> None:
        """Continue with the document at `position` of `epoch`."""
        self.epoch = epoch
        self.position = position
        self.order = Permutation(size=self.shards.num_documents, seed=self.seed, label=f"{self.name}/{epoch}")

    def draw(self) -> DrawnDocument:
        """The next document; after the last one the next epoch begins in a new order."""
        if self.position == self.shards.num_documents:
            self.move_to(epoch=self.epoch + 1, position=0)
        index = self.order[self.position]
        self.position += 1
        tokens = self.shards.document(index)
        self.tokens_drawn += len(tokens)
        return DrawnDocument(tokens=tokens, source=self.name, index=index)

    @property
    def progress(self) -> float:
        """Tokens drawn under the present weights, in units of the weight: the lowest is furthest behind."""
        return (self.tokens_drawn - self.tokens_before_weights) / self.weight

    @property
    def epochs(self) -> float:
        """How often the source was read so far, in tokens: 1.5 means once and a half."""
        return self.tokens_drawn / self.shards.num_tokens


class Mixture:
    """An endless stream of documents from weighted sources. `print(mixture)` shows the table.

    Args:
        sources: (name, shards, weight) each. Weights are shares of the tokens, relative to their sum; None means the
            source's own number of tokens, so that a mixture without weights reads every source equally often.
        seed: chooses the order of the documents.

    Raises:
        ConfigError: no source, a name twice, or a weight that is not positive.
        DataError: a source without documents, or sources made with different tokenizers.
    """

    def __init__(self, sources: Sequence[tuple[str, TokenShards, float | None]], *, seed: int = 0):
        if not sources:
            raise ConfigError("a mixture needs at least one source")
        names = [name for name, _, _ in sources]
        if len(set(names)) < len(names):
            raise ConfigError(f"two sources of the mixture have the same name: {', '.join(names)}")
        for name, shards, weight in sources:
            if weight is not None and not (weight > 0 and weight < float("inf")):
                raise ConfigError(f"the weight of source {name!r} must be positive, got {weight}")
            if shards.num_documents == 0:
                raise DataError(f"source {name!r} ({shards.folder}) holds no documents")
            if shards.tokenizer_fingerprint != sources[0][1].tokenizer_fingerprint:
                raise DataError(
                    f"sources {names[0]!r} and {name!r} were tokenized with different tokenizers",
                    hint="tokenize both with the same one: mamba-slm data tokenize --tokenizer …",
                )
        self.seed = seed
        weights = [float(shards.num_tokens) if weight is None else float(weight) for _, shards, weight in sources]
        total = sum(weights)
        self.sources = [
            Source(name, shards, weight / total, seed)
            for (name, shards, _), weight in zip(sources, weights, strict=True)
        ]

    @property
    def num_tokens(self) -> int:
        """Tokens of all sources, each counted once."""
        return sum(source.shards.num_tokens for source in self.sources)

    @property
    def tokens_drawn(self) -> int:
        """Tokens of all documents drawn so far."""
        return sum(source.tokens_drawn for source in self.sources)

    @property
    def vocab_size(self) -> int:
        """Every id is below this."""
        return self.sources[0].shards.vocab_size

    def next_document(self) -> DrawnDocument:
        """Draw the next document; the stream never ends."""
        return min(self.sources, key=lambda source: source.progress).draw()

    def document(self, source: str, index: int) -> np.ndarray:
        """Tokens of one stored document, for resuming in the middle of it."""
        return next(entry for entry in self.sources if entry.name == source).shards.document(index)

    def epochs(self) -> dict[str, float]:
        """How often each source was read so far."""
        return {source.name: source.epochs for source in self.sources}

    def state_dict(self) -> dict[str, Any]:
        """The place in the stream, JSON-able: a few numbers per source."""
        return {
            "format_version": FORMAT_VERSION,
            "seed": self.seed,
            "sources": [
                {
                    "name": source.name,
                    "fingerprint": source.shards.fingerprint,
                    "epoch": source.epoch,
                    "position": source.position,
                    "tokens_drawn": source.tokens_drawn,
                    "tokens_before_weights": source.tokens_before_weights,
                    "weight": source.weight,
                }
                for source in self.sources
            ],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where `state_dict` was taken. Weights that changed since hold from here on, without catching up.

        Raises:
            DataError: the state belongs to other sources, other data, another seed or a newer version.
        """
        if state["format_version"] > FORMAT_VERSION:
            raise DataError(
                f"the data state has format_version {state['format_version']}; "
                f"this program reads up to {FORMAT_VERSION}",
                hint="update mamba-slm: pip install -U mamba-slm",
            )
        if state["seed"] != self.seed:
            raise DataError(
                f"the saved data order has seed {state['seed']}, not {self.seed}", hint=f"use --seed {state['seed']}"
            )
        saved = {entry["name"]: entry for entry in state["sources"]}
        if set(saved) != {source.name for source in self.sources}:
            raise DataError(
                f"the saved state has the sources {', '.join(saved)}, "
                f"the mixture has {', '.join(source.name for source in self.sources)}",
                hint="resume with the sources that the run began with",
            )
        for source in self.sources:
            if saved[source.name]["fingerprint"] != source.shards.fingerprint:
                raise DataError(
                    f"the tokens of source {source.name!r} ({source.shards.folder}) changed since the state was saved",
                    hint="restore the shards that the run began with, or start a new run",
                )
        reweighted = any(saved[source.name]["weight"] != source.weight for source in self.sources)
        for source in self.sources:
            entry = saved[source.name]
            source.move_to(epoch=entry["epoch"], position=entry["position"])
            source.tokens_drawn = entry["tokens_drawn"]
            source.tokens_before_weights = source.tokens_drawn if reweighted else entry["tokens_before_weights"]

    def __str__(self) -> str:
        width = max(len("source"), *(len(source.name) for source in self.sources))
        lines = [f"{'source':<{width}}  share  documents  tokens   drawn  epochs"]
        lines += [
            f"{source.name:<{width}}  {source.weight:5.1%}  {source.shards.num_documents:9,}  "
            f"{format_count(source.shards.num_tokens):>6}  {format_count(source.tokens_drawn):>6}  {source.epochs:6.2f}"
            for source in self.sources
        ]
        return "\n".join(lines)
