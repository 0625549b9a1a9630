"""Batches of packed rows: an endless one for training with exact resume, a fixed one for validation."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mamba_slm.core.errors import ConfigError, DataError
from mamba_slm.data.loader_state import restore, state_of
from mamba_slm.data.mixture import Mixture
from mamba_slm.data.packing import NO_TARGET, Row, rows_end_to_end
from mamba_slm.data.permutation import Permutation
from mamba_slm.data.shards import TokenShards


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Rows of equal length with parts of documents in them."""

    inputs: np.ndarray
    """[b t] int64 token ids."""

    targets: np.ndarray
    """[b t] int64: the token after each input, or -100 where that belongs to another document."""

    document_ids: np.ndarray
    """[b t] int32: 0 for the first document of a row, increasing by one at each border."""

    @functools.cached_property
    def num_targets(self) -> int:
        """Targets that count: those that are not -100."""
        return int((self.targets != NO_TARGET).sum())


def stack_rows(rows: Sequence[Row]) -> Batch:
    """Put rows of equal length on top of each other."""
    return Batch(
        inputs=np.stack([row.inputs for row in rows]),
        targets=np.stack([row.targets for row in rows]),
        document_ids=np.stack([row.document_ids for row in rows]),
    )


class BatchLoader(Iterator[Batch]):
    """An endless iterator of training batches; its whole state is the number of samples that are done.

    Of each batch over all processes, `batch_rows` × `world_size` rows, this process gets rows rank × batch_rows and
    following, and reads no others. The state is the same in every process, and a run may be resumed with another number
    of processes or rows.

    Args:
        mixture: gives the rows.
        batch_rows: rows per batch of this process.
        rank, world_size: which of how many processes this is.
        say: takes lines for people.

    Raises:
        ConfigError: a size below one, or a rank outside the world.
        DataError: the whole corpus is shorter than one row.
    """

    def __init__(
        self,
        mixture: Mixture,
        *,
        batch_rows: int,
        rank: int = 0,
        world_size: int = 1,
        say: Callable[[str], None] = lambda line: None,
    ):
        if batch_rows < 1:
            raise ConfigError(f"batch_rows must be at least 1, got {batch_rows}")
        if not 0 <= rank < world_size:
            raise ConfigError(f"rank must lie in [0, {world_size - 1}], got {rank}")
        check_fits_a_row(mixture.num_tokens, mixture.context_tokens)
        self.mixture = mixture
        self.batch_rows = batch_rows
        self.rank = rank
        self.world_size = world_size
        self.say = say
        self.sample = 0

    @property
    def samples_per_batch(self) -> int:
        """Samples of a batch over all processes."""
        return self.batch_rows * self.world_size

    def __next__(self) -> Batch:
        batch = self.batch_at(self.sample)
        self.sample += self.samples_per_batch
        return batch

    def batch_at(self, sample: int) -> Batch:
        """This process's share of the batch before which so many samples came; changes nothing here."""
        first = sample + self.rank * self.batch_rows
        return stack_rows([self.mixture.row(number) for number in range(first, first + self.batch_rows)])

    def close(self) -> None:
        """Nothing is open; see `prefetch.PrefetchingLoader`."""

    def state_dict(self) -> dict[str, Any]:
        """The place after the last batch, JSON-able: the same whatever `batch_rows`, rank and number of processes."""
        return state_of(self.mixture, self.sample)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue with the batch that would have followed when the state was taken.

        Weights of the mixture that differ from those of the state hold from here on. With another length of rows, or
        after a version that read documents otherwise, the run goes on after as many tokens of each source, and says so.

        Raises:
            DataError: the state belongs to other data, another seed or a newer version.
        """
        self.sample, remark = restore(self.mixture, state)
        if remark is not None:
            self.say(remark)


def validation_batches(
    shards: TokenShards, *, context_tokens: int, batch_rows: int, max_tokens: int | None = None
) -> Iterator[Batch]:
    """Yield the same batches on every call, each document at most once, in a fixed shuffled order.

    The order is shuffled so that `max_tokens` picks from everywhere, not only from the first files. The last row may be
    filled up (without targets) and the last batch may have fewer rows.

    Args:
        shards: held-out documents.
        context_tokens: length of a row.
        batch_rows: rows per batch.
        max_tokens: at most this many input tokens, rounded up to a whole row; None means all.

    Raises:
        ConfigError: a size below one.
        DataError: there are no documents.
    """
    if batch_rows < 1:
        raise ConfigError(f"batch_rows must be at least 1, got {batch_rows}")
    if max_tokens is not None and max_tokens < 1:
        raise ConfigError(f"max_tokens must be at least 1, got {max_tokens}")
    if shards.num_documents == 0:
        raise DataError(f"{shards.folder} holds no documents to validate on")
    order = Permutation(size=shards.num_documents, seed=0, label="validation")
    documents = (shards.document(order[position]) for position in range(shards.num_documents))
    rows = rows_end_to_end(documents, context_tokens=context_tokens)
    if max_tokens is not None:
        rows = itertools.islice(rows, -(-max_tokens // context_tokens))
    while batch := list(itertools.islice(rows, batch_rows)):
        yield stack_rows(batch)


def check_fits_a_row(num_tokens: int, context_tokens: int) -> None:
    """Refuse a corpus that is shorter than one row.

    Raises:
        DataError: too few tokens; says how many are needed.
    """
    if num_tokens < context_tokens + 1:
        raise DataError(
            f"the corpus is too small: {num_tokens} tokens, but one row of {context_tokens} needs {context_tokens + 1}",
            hint=f"add text, or use --context-tokens {max(1, num_tokens - 1)} or less",
        )
