"""Many texts to ids at once: through `fastokens`, many times faster than `tokenizers`, as long as the ids are the same.

`tokenizers` is what says which ids are right. `fastokens` must agree with it on hostile texts before it is used at all,
and then on the first texts of each part and on one in 10,000; one difference, and it is used no more.
"""

from __future__ import annotations

import functools
import itertools
import os
from collections.abc import Sequence
from typing import Any, Literal, Protocol

import numpy as np

from mamba_slm.core.errors import MambaSlmError, MissingDependencyError
from mamba_slm.core.optional import require
from mamba_slm.text.hostile import hostile_texts
from mamba_slm.text.tokenizer import Tokenizer

Speed = Literal["auto", "exact"]
CHECKED_FIRST = 16
CHECKED_EVERY = 10_000
CHECKED_CHARACTERS = 1 << 15  # of a longer text only so many are compared, or the comparison would take the time


class DifferentIdsError(MambaSlmError):
    """`fastokens` gave other ids than `tokenizers`, or failed: what it made must be made anew."""


class BulkEncoder(Protocol):
    """Texts to ids."""

    @property
    def description(self) -> str:
        """Which library, and why: one line for people."""
        ...

    @property
    def is_fast(self) -> bool:
        """Whether it may turn out to be wrong."""
        ...

    def begin(self) -> None:
        """A new part begins: its first texts are compared."""
        ...

    def encode(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Ids of all texts as `Tokenizer.encode` gives them, one after another, uint32 [t]; and how many each has.

        Raises:
            DifferentIdsError: found to be wrong.
        """
        ...


class ExactEncoder:
    """`tokenizers`."""

    is_fast = False

    def __init__(self, tokenizer: Tokenizer, reason: str):
        self.tokenizer = tokenizer
        self.description = f"tokenizers ({reason})"

    def begin(self) -> None:
        """Nothing to compare."""

    def encode(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """As `BulkEncoder.encode`."""
        found = self.tokenizer.encode_batch(texts)
        lengths = np.fromiter(map(len, found), dtype=np.int64, count=len(found))
        return np.fromiter(itertools.chain.from_iterable(found), dtype=np.uint32, count=lengths.sum()), lengths


class FastEncoder:
    """`fastokens`, compared with `tokenizers` now and then.

    Raises:
        MissingDependencyError: it is not installed.
        DifferentIdsError: it cannot read this tokenizer, or gives other ids.
    """

    is_fast = True

    def __init__(self, tokenizer: Tokenizer):
        fastokens = require("fastokens", extra="data", purpose="fast tokenization")
        self.tokenizer = tokenizer
        self.description = "fastokens (compared with tokenizers: the first texts of each part and 1 in 10,000)"
        self.fast: Any = not_failing(fastokens.Tokenizer.from_json_str, tokenizer.backend.to_str())
        self.num_texts = 0
        self.wrong: str | None = None
        """How it was found to be wrong: then it is used no more in this process."""
        texts = hostile_texts()
        ids, offsets = self.encode_unchecked(texts)
        for text, start, end in zip(texts, offsets[:-1], offsets[1:], strict=True):
            self.compare(text, ids[start:end])

    def begin(self) -> None:
        """As `BulkEncoder.begin`."""
        self.num_texts = 0

    def encode(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """As `BulkEncoder.encode`."""
        try:
            return self.encode_checked(texts)
        except DifferentIdsError as error:
            self.wrong = error.message
            raise

    def encode_checked(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """`encode`, which remembers what this raises."""
        ids, offsets = self.encode_unchecked(texts)
        numbers = range(self.num_texts, self.num_texts + len(texts))
        self.num_texts += len(texts)
        chosen = [place for place, number in enumerate(numbers) if is_checked(number)]
        for place in chosen:
            if len(texts[place]) <= CHECKED_CHARACTERS:
                self.compare(texts[place], ids[offsets[place] : offsets[place + 1]])
            else:
                start = texts[place][:CHECKED_CHARACTERS]
                self.compare(start, self.encode_unchecked([start])[0])
        return ids, np.diff(offsets)

    def encode_unchecked(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """What `fastokens` says, and where the ids of each text begin; one more number than texts."""
        data, offsets = not_failing(self.fast.encode_batch_flat, list(texts), split_special_tokens=True)
        return np.frombuffer(data, dtype="<u4"), np.frombuffer(offsets, dtype="<u8").astype(np.int64)

    def compare(self, text: str, ids: np.ndarray) -> None:
        """Raise DifferentIdsError if `tokenizers` gives other ids."""
        expected = self.tokenizer.encode(text)
        if ids.tolist() != expected:
            place = next((i for i, pair in enumerate(zip(ids, expected, strict=False)) if pair[0] != pair[1]), -1)
            near = self.tokenizer.decode(expected[max(0, place - 4) : place + 5]) if place >= 0 else text[-40:]
            raise DifferentIdsError(f"fastokens gives other ids than tokenizers near {near[:80]!r}")


def is_checked(number: int) -> bool:
    """Whether the text of this number, from 0 in its part, is compared.

    >>> [number for number in range(30_000) if is_checked(number)] == [*range(16), 10_000, 20_000]
    True
    """
    return number < CHECKED_FIRST or number % CHECKED_EVERY == 0


def not_failing(call: Any, *args: Any, **settings: Any) -> Any:
    """Call into `fastokens`; whatever it raises, a panic of Rust included, is a DifferentIdsError."""
    try:
        return call(*args, **settings)
    except BaseException as error:  # a panic derives from BaseException
        if isinstance(error, Exception) or type(error).__name__ == "PanicException":
            raise DifferentIdsError(f"fastokens fails: {type(error).__name__}: {str(error)[:200]}") from error
        raise


def bulk_encoder(tokenizer: Tokenizer, *, speed: Speed = "auto", threads: int | None = None) -> BulkEncoder:
    """The fastest encoder that gives the right ids; its `description` has the reason.

    Args:
        tokenizer: says which ids are right.
        speed: "exact" is `tokenizers` whatever else is there.
        threads: how many either library may use; None leaves it to them. Counts before their first use only.
    """
    if threads is not None:
        os.environ.setdefault("RAYON_NUM_THREADS", str(threads))
    if speed == "exact":
        return ExactEncoder(tokenizer, "asked for")
    try:
        encoder = fast_encoder(tokenizer)
        return encoder if encoder.wrong is None else ExactEncoder(tokenizer, encoder.wrong)
    except MissingDependencyError as error:
        return ExactEncoder(tokenizer, f"fastokens is not there: {error.hint}")
    except DifferentIdsError as error:
        return ExactEncoder(tokenizer, error.message)


@functools.lru_cache(maxsize=2)
def fast_encoder(tokenizer: Tokenizer) -> FastEncoder:
    """Made once: reading a large vocabulary takes seconds."""
    return FastEncoder(tokenizer)
