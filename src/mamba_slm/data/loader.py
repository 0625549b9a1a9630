"""Batches of packed rows: an endless one for training with exact resume, a fixed one for validation."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mamba_slm.core.errors import ConfigError, DataError
from mamba_slm.data.mixture import DrawnDocument, Mixture
from mamba_slm.data.packing import NO_TARGET, Packer, Row
from mamba_slm.data.permutation import Permutation
from mamba_slm.data.shards import TokenShards

FORMAT_VERSION = 2  # 1 knew no blocks: its rows came in the order of the stream
SHUFFLE_TOKENS = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Rows of equal length, cut from a stream of documents."""

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
    """An endless iterator of training batches; the stream goes on into the next epoch by itself.

    The stream of packed rows is cut into blocks of about `shuffle_tokens`, and the rows of each block come in shuffled
    order: neighbouring rows are often of one document, and batches of one document teach much less.

    Of each batch over all processes, `batch_rows` × `world_size` rows, this process gets rows rank × batch_rows and
    following. Every process walks through the whole stream (a copy per row, no model work), so that the state is the
    same everywhere and a run may be resumed with another number of processes.

    Args:
        mixture: the stream; the loader advances it, up to one block ahead of the batches, and owns it from here on.
        context_tokens: length of a row.
        batch_rows: rows per batch of this process.
        rank, world_size: which of how many processes this is.
        shuffle_tokens: tokens per block, at most one epoch; a block is held in memory at 20 bytes a token.

    Raises:
        ConfigError: a size below one, or a rank outside the world.
        DataError: the whole corpus is shorter than one row.
    """

    def __init__(
        self,
        mixture: Mixture,
        *,
        context_tokens: int,
        batch_rows: int,
        rank: int = 0,
        world_size: int = 1,
        shuffle_tokens: int = SHUFFLE_TOKENS,
    ):
        for name, value in (("batch_rows", batch_rows), ("shuffle_tokens", shuffle_tokens)):
            if value < 1:
                raise ConfigError(f"{name} must be at least 1, got {value}")
        if not 0 <= rank < world_size:
            raise ConfigError(f"rank must lie in [0, {world_size - 1}], got {rank}")
        check_fits_a_row(mixture.num_tokens, context_tokens)
        self.mixture = mixture
        self.context_tokens = context_tokens
        self.batch_rows = batch_rows
        self.rank = rank
        self.world_size = world_size
        self.packer = Packer(mixture.next_document, context_tokens=context_tokens)
        self.block_rows = max(1, min(shuffle_tokens, mixture.num_tokens) // context_tokens)
        self.block: list[Row] = []
        self.block_number = -1
        self.block_start = self.place_in_stream()
        self.rows_taken = 0

    def __next__(self) -> Batch:
        rows = [self.next_row() for _ in range(self.batch_rows * self.world_size)]
        first = self.rank * self.batch_rows
        return stack_rows(rows[first : first + self.batch_rows])

    def next_row(self) -> Row:
        """The next row of the shuffled block; after its last one a new block is read."""
        if self.rows_taken == len(self.block):
            self.read_block(self.block_number + 1)
        self.rows_taken += 1
        return self.block[self.rows_taken - 1]

    def read_block(self, number: int) -> None:
        """Read the following rows of the stream and shuffle them."""
        self.block_number, self.block_start, self.rows_taken = number, self.place_in_stream(), 0
        rows = [row for _ in range(self.block_rows) if (row := self.packer.next_row()) is not None]
        order = Permutation(size=len(rows), seed=self.mixture.seed, label=f"rows of block {number}")
        self.block = [rows[order[position]] for position in range(len(rows))]

    def place_in_stream(self) -> dict[str, Any]:
        """Where the packer stands, JSON-able."""
        document = self.packer.document
        return {
            "mixture": self.mixture.state_dict(),
            "document": None if document is None else {"source": document.source, "index": document.index},
            "offset": self.packer.offset,
        }

    def state_dict(self) -> dict[str, Any]:
        """The place after the last batch, JSON-able: where its block begins, and how many of its rows are taken.

        It does not depend on `batch_rows`, rank or the number of processes.
        """
        return {
            "format_version": FORMAT_VERSION,
            **self.block_start,
            "block": self.block_number,
            "block_rows": self.block_rows,
            "rows_taken": self.rows_taken,
            "context_tokens": self.context_tokens,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue with the batch that would have followed when the state was taken.

        With another length of rows the block is cut anew, and as many of its tokens are passed over as were taken: some
        of one block's rows then come twice and others wait for the next epoch.

        Raises:
            DataError: the state belongs to other data, another seed or a newer version.
        """
        if state["format_version"] > FORMAT_VERSION:
            raise DataError(
                f"the loader state has format_version {state['format_version']}; "
                f"this program reads up to {FORMAT_VERSION}",
                hint="update mamba-slm: pip install -U mamba-slm",
            )
        self.mixture.load_state_dict(state["mixture"])
        place = state["document"]
        if place is None:
            self.packer.document = None
        else:
            source, index = place["source"], place["index"]
            tokens = self.mixture.document(source, index)
            self.packer.document = DrawnDocument(tokens=tokens, source=source, index=index)
        self.packer.offset = state["offset"]
        if state.get("block", -1) < 0:  # taken before the first block, or by version 1
            self.block, self.block_number, self.block_start, self.rows_taken = [], -1, self.place_in_stream(), 0
            return
        if state["context_tokens"] == self.context_tokens:
            self.block_rows = state["block_rows"]
        self.read_block(state["block"])
        self.rows_taken = min(state["rows_taken"] * state["context_tokens"] // self.context_tokens, len(self.block))


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
    indices = (order[position] for position in range(shards.num_documents))
    documents = (DrawnDocument(tokens=shards.document(index), source="validation", index=index) for index in indices)
    packer = Packer(lambda: next(documents, None), context_tokens=context_tokens)
    rows = iter(packer.next_row, None)
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
