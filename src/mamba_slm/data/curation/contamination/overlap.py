"""How many questions of each benchmark stand in a training set: what its scores are worth."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mamba_slm.data.curation.contamination.index import BenchmarkIndex
from mamba_slm.data.curation.phrases.find import find_phrases
from mamba_slm.data.document import Document
from mamba_slm.data.encode import BATCH_CHARACTERS, batches
from mamba_slm.data.inspect import check_same_tokenizer
from mamba_slm.data.shards import TokenShards
from mamba_slm.text.tokenizer import Tokenizer

FORMAT_VERSION = 1
NOWHERE = np.iinfo(np.int64).max
MOSTLY = 0.8
"""Share of a question's runs from which on a model may know the whole of it."""


@dataclass(frozen=True, kw_only=True)
class SeenQuestion:
    """A question that stands in the training set, or a part of it."""

    file: str
    """Of the benchmark, with the number of its record: gsm8k/test.jsonl:17."""

    share: float
    """Of its runs of words that stand anywhere in the training set."""

    document: str
    """The first document that holds one of them."""


@dataclass(frozen=True, kw_only=True)
class BenchmarkOverlap:
    """One benchmark."""

    benchmark: str
    questions: int
    looked_for: int
    """Those long enough to be told from ordinary text, each once."""

    seen: int
    """Those of which one run of words at least stands in the training set."""

    mostly_seen: int
    """Those of which `MOSTLY` of the runs do."""

    documents: int
    """Of the training set that hold any of its runs."""

    examples: tuple[SeenQuestion, ...]
    """The questions seen, those with the largest shares first."""

    @property
    def share(self) -> float:
        """Of the questions looked for, those seen."""
        return self.seen / self.looked_for if self.looked_for else 0.0


@dataclass(frozen=True, kw_only=True)
class Overlap:
    """A training set beside all benchmarks."""

    documents: int
    words: int
    ngram_words: int
    benchmarks: tuple[BenchmarkOverlap, ...]
    """By share, the largest first."""

    def to_dict(self, *, examples: int | None = None) -> dict[str, Any]:
        """As JSON.

        Args:
            examples: questions named for each benchmark; None: all.
        """
        fields: dict[str, Any] = asdict(self)
        for one, of_it in zip(self.benchmarks, fields["benchmarks"], strict=True):
            of_it["share"] = one.share
            of_it["examples"] = of_it["examples"][:examples]
        return {**fields, "format_version": FORMAT_VERSION}


def measure_overlap(documents: Iterable[Document], index: BenchmarkIndex) -> Overlap:
    """Read a training set once and count.

    Memory: a few bytes for each run of words in the index, and the name of each document that holds one.
    """
    arrays = index.arrays
    names = list(dict.fromkeys(file.benchmark for file in index.files))
    benchmark_of_file = np.array([names.index(file.benchmark) for file in index.files])
    run_of_owner = np.repeat(np.arange(len(arrays["hashes"])), np.diff(arrays["owner_starts"]))
    first = np.full(len(arrays["hashes"]), NOWHERE)  # place in `ids` of the first document that has the run
    ids: list[str] = []
    holding = np.zeros(len(names), np.int64)
    num_documents = num_words = 0
    for batch in batches(documents, BATCH_CHARACTERS):
        found = find_phrases([document.text for document in batch], index.phrases, overlapping=True)
        num_documents += len(batch)
        num_words += int(found.num_words.sum())
        for text in np.unique(found.texts).tolist():
            runs = np.unique(found.phrases[found.texts == text])
            first[runs] = np.minimum(first[runs], len(ids))
            ids.append(batch[text].id)
            owners = [owner for run in runs.tolist() for owner in index.owners_of(run)]
            holding[np.unique(benchmark_of_file[arrays["question_files"][owners]])] += 1
    totals = arrays["question_runs"].astype(np.int64)
    every_owner = arrays["owners"].astype(np.int64)
    known = np.bincount(every_owner, weights=first[run_of_owner] < NOWHERE, minlength=len(totals))
    shares = known / np.maximum(totals, 1)
    first_of_question = np.full(len(totals), NOWHERE)
    np.minimum.at(first_of_question, every_owner, first[run_of_owner])

    def described(question: int) -> SeenQuestion:
        file = index.files[int(arrays["question_files"][question])]
        number = int(arrays["question_numbers"][question])
        document = ids[int(first_of_question[question])]
        return SeenQuestion(file=f"{file.name}:{number}", share=float(shares[question]), document=document)

    overlaps: list[BenchmarkOverlap] = []
    for place, name in enumerate(names):
        mine = np.flatnonzero((benchmark_of_file[arrays["question_files"]] == place) & (totals > 0))
        seen = mine[shares[mine] > 0]
        seen = seen[np.argsort(-shares[seen], kind="stable")]
        overlaps.append(
            BenchmarkOverlap(
                benchmark=name,
                questions=sum(file.questions for file in index.files if file.benchmark == name),
                looked_for=len(mine),
                seen=len(seen),
                mostly_seen=int((shares[seen] >= MOSTLY).sum()),
                documents=int(holding[place]),
                examples=tuple(map(described, seen.tolist())),
            )
        )
    ranked = tuple(sorted(overlaps, key=lambda one: (-one.share, one.benchmark)))
    return Overlap(
        documents=num_documents, words=num_words, ngram_words=index.config.ngram_words, benchmarks=ranked
    )  # fmt: skip


def shard_documents(folder: Path | str, tokenizer: Tokenizer) -> Iterator[Document]:
    """The texts that a shard folder was made of.

    Raises:
        DataError: the folder is damaged, or was made with another tokenizer.
    """
    shards = TokenShards.open(folder)
    check_same_tokenizer(shards, tokenizer)
    for number in range(shards.num_documents):
        yield Document(id=f"{folder}:{number}", text=tokenizer.decode(shards.document(number).tolist()))
