"""Numbers about generated texts: BLEU, chrF and ROUGE beside references, and how varied the texts are.

BLEU and chrF are sacrebleu's (13a tokens, with its signature, so that they can be compared), ROUGE is that of
rouge-score with stemming off. They say how many of a reference's words a text has, not whether it is good.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from mamba_slm.core.errors import DataError
from mamba_slm.core.optional import require

DISTINCT_SIZES = (1, 2, 3, 4)
ROUGE_KINDS = ("rouge1", "rouge2", "rougeL")


@dataclass(frozen=True)
class ReferenceScores:
    """Texts beside their references. Several references of a text: BLEU and chrF use all, ROUGE the best one."""

    bleu: float
    """Of the corpus, 0 to 100."""
    bleu_signature: str
    """How sacrebleu computed it."""
    chrf: float
    """chrF2 of the corpus, 0 to 100."""
    rouge: dict[str, float]
    """Mean F1 of the texts, 0 to 1, by kind."""


@dataclass(frozen=True)
class Variety:
    """How much texts repeat; words are what stands between white space."""

    distinct: dict[int, float]
    """Different n-grams / n-grams over all texts, by n (Li et al., arXiv:1510.03055); low: the texts are alike."""
    repetition: dict[int, float]
    """Mean over texts of 1 - different n-grams / n-grams, by n (seq-rep-n of Welleck et al., arXiv:1908.04319); high: a
    text repeats itself. Texts shorter than n are left out."""
    mean_words: float
    """Length of a text."""


def reference_scores(texts: Sequence[str], references: Sequence[Sequence[str]]) -> ReferenceScores:
    """Compare every text with its references.

    Raises:
        DataError: no texts, another number of references, or a text without one.
        MissingDependencyError: sacrebleu or rouge-score is not installed.
    """
    if not texts or len(texts) != len(references):
        raise DataError(f"{len(texts)} texts cannot be compared with the references of {len(references)}")
    if not all(references):
        raise DataError(f"text {1 + [bool(mine) for mine in references].index(False)} has no reference")
    metrics: Any = require("sacrebleu.metrics", extra="scores", purpose="BLEU")
    rouge: Any = require("rouge_score.rouge_scorer", extra="scores", purpose="ROUGE")
    streams = [list(column) for column in itertools.zip_longest(*references)]  # None where a text has fewer
    bleu = metrics.BLEU()
    bleu_score = bleu.corpus_score(list(texts), streams)
    scorer = rouge.RougeScorer(ROUGE_KINDS, use_stemmer=False)
    found = [scorer.score_multi(list(mine), text) for text, mine in zip(texts, references, strict=True)]
    return ReferenceScores(
        bleu=bleu_score.score,
        bleu_signature=str(bleu.get_signature()),
        chrf=metrics.CHRF().corpus_score(list(texts), streams).score,
        rouge={kind: sum(one[kind].fmeasure for one in found) / len(found) for kind in ROUGE_KINDS},
    )


def variety(texts: Sequence[str]) -> Variety:
    """How much the texts repeat themselves and each other.

    >>> variety(["a b a b", "a b c"]).distinct[2]
    0.6

    Raises:
        DataError: no texts.
    """
    if not texts:
        raise DataError("there are no texts")
    words = [text.split() for text in texts]
    distinct: dict[int, float] = {}
    repetition: dict[int, float] = {}
    for size in DISTINCT_SIZES:
        grams = [ngrams(mine, size) for mine in words]
        distinct[size] = share_of_different(itertools.chain.from_iterable(grams))
        shares = [1 - share_of_different(mine) for mine in grams if mine]
        repetition[size] = sum(shares) / len(shares) if shares else 0.0
    return Variety(distinct, repetition, sum(map(len, words)) / len(words))


def ngrams(words: Sequence[str], size: int) -> list[tuple[str, ...]]:
    """Every run of `size` words, in order."""
    return [tuple(words[start : start + size]) for start in range(len(words) - size + 1)]


def share_of_different(items: Iterable[Any]) -> float:
    """Different items / items; 0 without any."""
    every = list(items)
    return len(set(every)) / len(every) if every else 0.0
