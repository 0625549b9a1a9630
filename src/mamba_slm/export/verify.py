"""Whether two models, in whatever formats, compute the same: logits, perplexity, and the tokens of a text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mamba_slm.core.errors import CheckFailedError
from mamba_slm.export.compare import LOGIT_TOLERANCE, Comparison, compare, difference_in_words
from mamba_slm.export.probes import TEXT, random_sequences, text_sequences
from mamba_slm.export.trace import Runner, open_runner

DEFAULT_TOKENS = 64
MAX_TEXT_PIECES = 16


@dataclass(frozen=True, kw_only=True)
class TokenizerComparison:
    """What both tokenizers make of a text."""

    characters: int
    equal: bool
    first_difference: int | None
    """Place of the first token that differs."""
    tokens_a: tuple[int, ...]
    """Up to five tokens from there on; empty where all are equal."""
    tokens_b: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Verification:
    """All that was compared."""

    tolerance: float
    random: Comparison
    """On random tokens."""
    text: Comparison | None
    """On a text; None where neither side has a tokenizer, or the two differ."""
    tokenizers: TokenizerComparison | None
    """None unless both sides have one."""

    @property
    def parts(self) -> dict[str, Comparison]:
        """What the logits were compared on."""
        return {"random tokens": self.random} | ({"text": self.text} if self.text is not None else {})

    @property
    def problems(self) -> list[str]:
        """What is not equal, in words."""
        worst = max(self.parts.values(), key=lambda part: part.max_logit_error)
        off = worst.max_logit_error > self.tolerance
        found = [difference_in_words(worst, tolerance=self.tolerance)] if off else []
        if self.tokenizers is not None and not self.tokenizers.equal:
            found.append(f"the tokenizers differ from token {self.tokenizers.first_difference} of a text on")
        return found


def verify(
    a: str | Path,
    b: str | Path,
    *,
    num_tokens: int = DEFAULT_TOKENS,
    text: str = TEXT,
    tolerance: float = LOGIT_TOLERANCE,
) -> Verification:
    """Open two models and compare them; a difference is a result here, see `require_verified`.

    Args:
        a, b: anything that `open_runner` opens; `a` is the reference.
        num_tokens: length of a sequence, cut to the shorter context of the two.
        text: what both tokenizers encode, and the logits are compared on as well.
        tolerance: difference of a logit from which layers are compared.

    Raises:
        DataError, CheckpointError: one of them cannot be opened.
        MissingDependencyError: a package that runs one of them is absent.
    """
    return verify_runners(open_runner(a), open_runner(b), num_tokens=num_tokens, text=text, tolerance=tolerance)


def verify_runners(
    a: Runner, b: Runner, *, num_tokens: int = DEFAULT_TOKENS, text: str = TEXT, tolerance: float = LOGIT_TOLERANCE
) -> Verification:
    """As `verify`, for models that are open already."""
    length = min(num_tokens, a.max_tokens, b.max_tokens)
    shared = min(a.vocab_size, b.vocab_size)
    tokenizers = compare_tokenizers(a, b, text)
    pieces: list[list[int]] = []
    if tokenizers is None or tokenizers.equal:
        encode = a.encode if a.encode("a") is not None else b.encode
        found = text_sequences(encode, length, text=text, count=MAX_TEXT_PIECES)
        pieces = [piece for piece in found if max(piece) < shared]
    return Verification(
        tolerance=tolerance,
        random=compare(a, b, random_sequences(shared, length), tolerance=tolerance),
        text=compare(a, b, pieces, tolerance=tolerance) if pieces else None,
        tokenizers=tokenizers,
    )


def compare_tokenizers(a: Runner, b: Runner, text: str) -> TokenizerComparison | None:
    """Encode a text on both sides; None unless both have a tokenizer."""
    ids_a, ids_b = a.encode(text), b.encode(text)
    if ids_a is None or ids_b is None:
        return None
    place = first_difference(ids_a, ids_b)
    return TokenizerComparison(
        characters=len(text),
        equal=place is None,
        first_difference=place,
        tokens_a=() if place is None else tuple(ids_a[place : place + 5]),
        tokens_b=() if place is None else tuple(ids_b[place : place + 5]),
    )


def first_difference(a: Sequence[object], b: Sequence[object]) -> int | None:
    """The first place where two sequences part; None where they are equal."""
    if len(a) == len(b) and all(x == y for x, y in zip(a, b, strict=True)):
        return None
    return next((place for place, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def require_verified(verification: Verification) -> None:
    """Raise CheckFailedError with every problem, the first layer that drifts among them."""
    if verification.problems:
        raise CheckFailedError(
            "; ".join(verification.problems),
            hint="--tolerance X allows more: 16-bit and quantized weights differ by what they round away",
        )
