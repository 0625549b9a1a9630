"""An index of benchmarks: built once from their files, kept in one file, asked about every document."""

from __future__ import annotations

import functools
import hashlib
import io
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mamba_slm.core.errors import DataError
from mamba_slm.core.files import write_bytes_atomic
from mamba_slm.data.curation.contamination.config import ContaminationConfig
from mamba_slm.data.curation.contamination.questions import BenchmarkFile, find_benchmark_files
from mamba_slm.data.curation.contamination.runs import RunCollector, pieces_of
from mamba_slm.data.curation.phrases.find import Words, find_phrases
from mamba_slm.data.curation.phrases.phrase_set import PhraseSet
from mamba_slm.data.curation.verdict import Removed

FORMAT_VERSION = 1
ARRAYS = {
    "hashes": np.uint64,
    "anchors": np.uint64,
    "anchor_lengths": np.uint32,
    "owner_starts": np.int64,
    "owners": np.uint32,
    "question_files": np.uint32,
    "question_numbers": np.uint32,
    "question_runs": np.uint32,
}


@dataclass(frozen=True, kw_only=True)
class IndexedFile:
    """What became of a file of questions."""

    name: str
    benchmark: str
    questions: int
    """Records with text."""

    too_short: int
    """Questions that nothing can be looked for of: fewer than `min_words`, or nothing but numbers."""

    repeated: int
    """Questions that an earlier file has word for word."""


@dataclass(frozen=True, kw_only=True, eq=False)
class BenchmarkIndex:
    """Which runs of words stand in which questions."""

    config: ContaminationConfig
    files: tuple[IndexedFile, ...]
    lengths: tuple[int, ...]
    """Of runs in words, longest first."""

    arrays: dict[str, NDArray]
    """`ARRAYS`. Run i has the hash `hashes[i]` and stands in questions `owners[owner_starts[i] : owner_starts[i + 1]]`;
    question q is record `question_numbers[q]` of `files[question_files[q]]` and has `question_runs[q]` runs."""

    @classmethod
    def build(cls, paths: Sequence[str | Path], config: ContaminationConfig | None = None) -> BenchmarkIndex:
        """Read benchmarks from files and folders; the order of paths does not matter.

        Raises:
            DataError: nothing there, nothing in it can be looked for, or a file cannot be read.
            MissingDependencyError: a format needs a package that is not installed.
        """
        config = config or ContaminationConfig()
        found = [file for path in paths for file in find_benchmark_files(Path(path))]
        return build_index(sorted(found, key=lambda file: (file.benchmark, file.name, str(file.path))), config)

    @functools.cached_property
    def phrases(self) -> PhraseSet:
        """The runs as phrases to look for."""
        return PhraseSet(
            hashes=self.arrays["hashes"],
            anchors=self.arrays["anchors"],
            anchor_lengths=self.arrays["anchor_lengths"],
            anchor_words=self.config.min_words,
            lengths=self.lengths,
        )

    @functools.cached_property
    def fingerprint(self) -> str:
        """Names the index by what it finds: 16 hexadecimal digits, the same wherever the files lay."""
        return hashlib.sha256(self.to_bytes()).hexdigest()[:16]

    def removed(self, texts: Sequence[str] | Words) -> list[Removed | None]:
        """Why each text, or text of these words, is removed: the question of which most runs stand in it, or None.

        Raises:
            OutOfMemoryError: as `find_phrases`.
        """
        found = find_phrases(texts, self.phrases, overlapping=True)
        verdicts: list[Removed | None] = [None] * len(texts)
        for text in np.unique(found.texts).tolist():
            first, end = np.searchsorted(found.texts, [text, text + 1])
            verdicts[text] = self.verdict(found.phrases[first:end], found.places[first:end])
        return verdicts

    def verdict(self, runs: NDArray[np.int64], places: NDArray[np.int64]) -> Removed | None:
        """What follows from the runs found in one text."""
        first_place = dict(zip(reversed(runs.tolist()), reversed(places.tolist()), strict=True))
        shared = Counter(question for run in first_place for question in self.owners_of(run))
        shares = {question: count / int(self.arrays["question_runs"][question]) for question, count in shared.items()}
        enough = [question for question, share in shares.items() if share >= self.config.min_share]
        if not enough:
            return None
        question = max(enough, key=lambda question: (shared[question], -question))
        place = min(place for run, place in first_place.items() if question in self.owners_of(run))
        file = self.files[int(self.arrays["question_files"][question])]
        name = f"{file.name}:{self.arrays['question_numbers'][question]}"
        return Removed(
            rule=f"contamination.{file.benchmark}", detail=f"{shares[question]:.0%} of {name}, from word {place + 1} on"
        )

    def owners_of(self, run: int) -> list[int]:
        """The questions that a run stands in."""
        starts = self.arrays["owner_starts"]
        return self.arrays["owners"][starts[run] : starts[run + 1]].tolist()

    def to_bytes(self) -> bytes:
        """The file: a line of JSON, then the arrays as .npy one after another."""
        about = {
            "format_version": FORMAT_VERSION,
            "config": asdict(self.config),
            "lengths": self.lengths,
            "files": [asdict(file) for file in self.files],
        }
        content = io.BytesIO()
        content.write(json.dumps(about, sort_keys=True).encode() + b"\n")
        for name, kind in ARRAYS.items():
            np.save(content, self.arrays[name].astype(kind), allow_pickle=False)
        return content.getvalue()

    def save(self, path: Path) -> None:
        """Write the index to a file, whole or not at all.

        Raises:
            DiskFullError: no room.
        """
        write_bytes_atomic(path, self.to_bytes())

    @classmethod
    def load(cls, path: Path) -> BenchmarkIndex:
        """Read what `save` wrote.

        Raises:
            DataError: no such file, damaged, or written by a newer version.
        """
        again = "build it again from the benchmarks"
        try:
            content = io.BytesIO(path.read_bytes())
            about = json.loads(content.readline())
            version = about["format_version"]
            if version > FORMAT_VERSION:
                raise DataError(
                    f"{path} has format {version}, and this version reads up to {FORMAT_VERSION}",
                    hint=f"{again}, or update mamba-slm",
                )
            config = {**about["config"], "background_fields": tuple(about["config"]["background_fields"])}
            return cls(
                config=ContaminationConfig(**config),
                files=tuple(IndexedFile(**file) for file in about["files"]),
                lengths=tuple(about["lengths"]),
                arrays={name: np.load(content, allow_pickle=False) for name in ARRAYS},
            )
        except OSError as error:
            raise DataError(f"cannot read {path}: {error.strerror or error}", hint=again) from error
        except (ValueError, KeyError, TypeError, EOFError) as error:
            raise DataError(f"{path} is no index of benchmarks: {error}", hint=again) from error


def build_index(files: Sequence[BenchmarkFile], config: ContaminationConfig) -> BenchmarkIndex:
    """The index of these files; of questions that are there several times the first one counts."""
    collector = RunCollector(config)
    indexed: list[IndexedFile] = []
    numbers: list[int] = []
    file_of: list[int] = []
    known: set[bytes] = set()
    for file in files:
        questions = too_short = repeated = 0
        for question in file.questions(config.background_fields):
            questions += 1
            pieces = pieces_of(question.texts, config)
            digest = hashlib.blake2b(repr(pieces).encode(errors="replace"), digest_size=16).digest()
            if not pieces:
                too_short += 1
            elif digest in known:
                repeated += 1
            else:
                known.add(digest)
                collector.add(len(numbers), pieces)
                numbers.append(question.number)
                file_of.append(len(indexed))
        indexed.append(
            IndexedFile(
                name=file.name,
                benchmark=file.benchmark,
                questions=questions,
                too_short=too_short,
                repeated=repeated,
            )
        )
    hashes, anchors, lengths, owners = collector.runs()
    order = np.argsort(hashes, kind="stable")  # so the questions of a run stay in their order
    hashes, anchors, lengths, owners = hashes[order], anchors[order], lengths[order], owners[order]
    new_run = np.ones(len(hashes), bool)
    new_run[1:] = hashes[1:] != hashes[:-1]
    new_owner = new_run.copy()
    new_owner[1:] |= owners[1:] != owners[:-1]
    run_of = np.cumsum(new_run) - 1
    counts = np.bincount(run_of[new_owner], minlength=int(new_run.sum()))
    wanted = counts <= config.max_questions
    kept = wanted[run_of] if len(run_of) else new_run
    hash_of_run, counts = hashes[new_run][wanted], counts[wanted]
    if not len(hash_of_run):
        named = ", ".join(file.name for file in files[:3])
        raise DataError(
            f"there is nothing to look for in {named}: no question has {config.min_words} words",
            hint="name the files with the questions, or lower min_words",
        )
    owner = owners[new_owner & kept]
    begun, begun_lengths = beginnings(anchors[kept], lengths[kept])
    return BenchmarkIndex(
        config=config,
        files=tuple(indexed),
        lengths=tuple(sorted(set(lengths[kept].tolist()), reverse=True)),
        arrays={
            "hashes": hash_of_run,
            "anchors": begun,
            "anchor_lengths": begun_lengths,
            "owner_starts": np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)]),
            "owners": owner.astype(np.uint32),
            "question_files": np.array(file_of, np.uint32),
            "question_numbers": np.array(numbers, np.uint32),
            "question_runs": np.bincount(owner, minlength=len(numbers)).astype(np.uint32),
        },
    )


def beginnings(anchors: NDArray[np.uint64], lengths: NDArray[np.int64]) -> tuple[NDArray, NDArray]:
    """The distinct anchors in ascending order, and which lengths begin so, as `PhraseSet` wants them."""
    order = np.argsort(anchors, kind="stable")
    anchors, bits = anchors[order], np.uint32(1) << lengths[order].astype(np.uint32)
    starts = np.flatnonzero(np.concatenate([[True], anchors[1:] != anchors[:-1]]))
    return anchors[starts], np.bitwise_or.reduceat(bits, starts)
