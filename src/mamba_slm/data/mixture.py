"""An exact mixture of sources: sample i is a function of (sources, weights, seed, i), and known at once for any i.

A sample is a row. Which source it comes from is decided by `Interleave`, so that after any number of samples every
source is within one of weight × samples. A source gives its rows in an order that is shuffled anew for every epoch.
Nothing is drawn and nothing remembered; how many processes read, and in batches of what size, changes nothing.

Weights may change at a sample: a new phase begins there, with its own counts. What came before stays as it was.
"""

from __future__ import annotations

import bisect
import functools
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mamba_slm.core.errors import ConfigError
from mamba_slm.core.units import format_count
from mamba_slm.data.interleave import Interleave, whole_units
from mamba_slm.data.mixture_weights import ordered, require_fitting, tempered
from mamba_slm.data.packing import Row, row_of_parts
from mamba_slm.data.packing_plan import PACKING_VERSION, PackingPlan, Piece
from mamba_slm.data.permutation import Permutation
from mamba_slm.data.shards import TokenShards

MOST_EPOCHS = 4
"""Up to four epochs are nearly as good as new text: Muennighoff et al., "Scaling Data-Constrained Language Models",
NeurIPS 2023."""


@dataclass(frozen=True, kw_only=True)
class Phase:
    """Weights that hold from a sample on."""

    first_sample: int
    """The first sample under these weights."""

    units: Mapping[str, int]
    """Samples of each source per period."""

    drawn: Mapping[str, int]
    """Samples of each source before this phase."""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """Where a row comes from."""

    source: str
    """Name of its source."""

    epoch: int
    """How often every row of the source came before."""

    row: int
    """Its number in the source's plan."""

    pieces: tuple[Piece, ...]
    """The parts of documents in it."""


class Source:
    """One source of a mixture."""

    def __init__(self, name: str, shards: TokenShards, *, context_tokens: int, seed: int):
        self.name = name
        self.shards = shards
        self.seed = seed
        self.plan = PackingPlan(shards.document_lengths(), context_tokens=context_tokens, seed=seed, name=name)
        self.order = functools.lru_cache(maxsize=2)(self.order_of_epoch)

    def order_of_epoch(self, epoch: int) -> Permutation:
        """In which order the rows come."""
        return Permutation(size=self.plan.num_rows, seed=self.seed, label=f"{self.name}/{epoch}")

    def sample(self, number: int) -> Sample:
        """The sample of this source before which `number` others came."""
        epoch, place = divmod(number, self.plan.num_rows)
        row = self.order(epoch)[place]
        pieces = tuple(self.plan.pieces(row, epoch=epoch))
        return Sample(source=self.name, epoch=epoch, row=row, pieces=pieces)


class Mixture:
    """An endless sequence of rows from weighted sources. `print(mixture)` shows the table.

    Args:
        sources: (name, shards, weight) each; their order changes nothing. Weights are shares of the rows, relative to
            their sum; without any, a source has as many shares as it has rows, so that all are read equally often.
        context_tokens: length of a row.
        seed: chooses the order of the rows, and which documents share one.
        temperature: without weights, shares are rows ** (1 / temperature): above 1 small sources count for more.
        changes: (sample, weights by name) each, in order: weights that hold from that sample on. A source may have 0.

    Raises:
        ConfigError: no source, a name twice or unknown, weights for some sources only, or one that cannot be.
        DataError: a source without documents, or sources made with different tokenizers.
    """

    def __init__(
        self,
        sources: Sequence[tuple[str, TokenShards, float | None]],
        *,
        context_tokens: int,
        seed: int = 0,
        temperature: float = 1.0,
        changes: Sequence[tuple[int, Mapping[str, float]]] = (),
    ):
        require_fitting(sources)
        self.context_tokens = context_tokens
        self.seed = seed
        self.sources = {
            name: Source(name, shards, context_tokens=context_tokens, seed=seed)
            for name, shards, _ in sorted(sources, key=lambda source: source[0])
        }
        weights: Mapping[str, float] = {name: weight for name, _, weight in sources if weight is not None}
        if not weights:
            weights = tempered({name: source.plan.num_rows for name, source in self.sources.items()}, temperature)
        elif temperature != 1:
            raise ConfigError("a temperature makes weights from sizes, and weights were given", hint="give only one")
        self.asked = ordered([(0, weights), *changes], self.sources)
        self.names = list(self.sources)
        self.continue_after((), 0)

    @property
    def num_tokens(self) -> int:
        """Tokens of all sources, each counted once."""
        return sum(source.shards.num_tokens for source in self.sources.values())

    @property
    def num_rows(self) -> int:
        """Rows of all sources, each counted once."""
        return sum(source.plan.num_rows for source in self.sources.values())

    @property
    def vocab_size(self) -> int:
        """Every id is below this."""
        return max(source.shards.vocab_size for source in self.sources.values())

    @functools.cached_property
    def fingerprint(self) -> str:
        """Changes when sample i would be another one under the same phases: with tokens, names, context or seed."""
        tokens = [f"{name} {source.shards.fingerprint}" for name, source in self.sources.items()]
        facts = [f"packing {PACKING_VERSION}", f"context {self.context_tokens}", f"seed {self.seed}", *tokens]
        return hashlib.sha256("\n".join(facts).encode()).hexdigest()

    # samples ----------------------------------------------------------------------------------------------------------

    def sample(self, number: int) -> Sample:
        """Where sample `number` ≥ 0 comes from; some 30 µs, however large the number."""
        phase = self.phase_at(number)
        source, before = self.interleave(phase)[number - phase.first_sample]
        name = self.names[source]
        return self.sources[name].sample(phase.drawn[name] + before)

    def row(self, number: int) -> Row:
        """The tokens of sample `number`."""
        sample = self.sample(number)
        document = self.sources[sample.source].shards.document
        parts = (document(piece.document)[piece.start : piece.start + piece.length + 1] for piece in sample.pieces)
        return row_of_parts(parts, self.context_tokens)

    def drawn(self, samples: int) -> dict[str, int]:
        """How many of the first `samples` come from each source."""
        phase = self.phase_at(samples)
        counts = self.interleave(phase).counts(samples - phase.first_sample)
        return {name: phase.drawn[name] + count for name, count in zip(self.sources, counts, strict=True)}

    def epochs(self, samples: int) -> dict[str, float]:
        """How often each source is read in the first `samples`: 1.5 means once and a half."""
        return {name: count / self.sources[name].plan.num_rows for name, count in self.drawn(samples).items()}

    # phases -----------------------------------------------------------------------------------------------------------

    def phase_at(self, sample: int) -> Phase:
        """The phase of a sample."""
        return self.phases[bisect.bisect_right(self.phases, sample, key=lambda phase: phase.first_sample) - 1]

    def interleave(self, phase: Phase) -> Interleave:
        """The order of the sources in a phase."""
        return Interleave(tuple(phase.units[name] for name in self.names))

    def shares(self, sample: int = 0) -> dict[str, float]:
        """The share of each source in the phase of a sample."""
        units = self.phase_at(sample).units
        return {name: unit / sum(units.values()) for name, unit in units.items()}

    def continue_after(self, recorded: Sequence[Phase], sample: int) -> None:
        """Keep the phases that a run had up to a sample; from there on the weights that were asked for hold."""
        self.phases = tuple(phase for phase in recorded if phase.first_sample <= sample)
        present = [weights for first, weights in self.asked if first <= sample][-1]
        for first, weights in [(sample, present), *((at, after) for at, after in self.asked if at > sample)]:
            units = dict(zip(self.names, whole_units([weights.get(name, 0) for name in self.names]), strict=True))
            if self.phases and self.phases[-1].units == units:
                continue
            drawn = self.drawn(first) if self.phases else dict.fromkeys(self.names, 0)
            earlier = tuple(phase for phase in self.phases if phase.first_sample < first)
            self.phases = (*earlier, Phase(first_sample=first, units=units, drawn=drawn))

    # what it looks like -----------------------------------------------------------------------------------------------

    def table(self, samples: int | None = None) -> str:
        """One line per source, and per change of the weights; with the epochs that so many samples are."""
        width = max(len("source"), *map(len, self.sources))
        header = f"{'source':<{width}}   share  documents  tokens       rows  empty"
        epochs = {} if samples is None else self.epochs(samples)
        shares = self.shares()
        lines = [header + ("" if samples is None else "  epochs")]
        for name, source in self.sources.items():
            line = (
                f"{name:<{width}}  {shares[name]:6.2%}  {source.shards.num_documents:9,}  "
                f"{format_count(source.shards.num_tokens):>6}  {source.plan.num_rows:9,}  {source.plan.waste:5.2%}"
            )
            lines.append(line + (f"  {epochs[name]:6.2f}" if epochs else ""))
        for phase in self.phases[1:]:
            new = ", ".join(f"{name} {share:.2%}" for name, share in self.shares(phase.first_sample).items())
            tokens = format_count(phase.first_sample * self.context_tokens)
            lines.append(f"from row {phase.first_sample:,} ({tokens} tokens) on: {new}")
        return "\n".join(lines)

    def __str__(self) -> str:
        return self.table()

    def warnings(self, samples: int) -> list[str]:
        """What speaks against reading so many samples of this mixture."""
        found = [
            f"{name} is read {epochs:.1f} times; text read more than {MOST_EPOCHS} times teaches little: "
            "give it more text or a smaller weight"
            for name, epochs in self.epochs(samples).items()
            if epochs > MOST_EPOCHS
        ]
        for first, weights in self.asked:
            total = sum(weights.values())
            for name, share in self.shares(first).items():
                wanted = weights.get(name, 0) / total
                if abs(share - wanted) > 0.01 * wanted:
                    found.append(f"{name} has a share of {share:.3g}, not {wanted:.3g}: shares come in steps of 4e-6")
        return found
