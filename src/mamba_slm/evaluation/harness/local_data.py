"""Finding a benchmark's local copy below the folder of `--data-dir`.

Looked for are the files of `SOURCES`, in this order, and then any dataset by its name: saved with the `datasets`
library or as JSON Lines or Parquet, `NAME/CONFIG/SPLIT/*.arrow`, `NAME/CONFIG/SPLIT.jsonl`, `NAME/SPLIT.parquet` and so
on, also below `hf-arrow`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mamba_slm.core.errors import DataError
from mamba_slm.core.optional import require
from mamba_slm.evaluation.harness import local_forms as forms

SPLIT_NAMES = ("train", "validation", "test", "dev")
ENDINGS = ("arrow", "parquet", "jsonl", "json")


@dataclass(frozen=True)
class Source:
    """One form of one dataset."""

    folder: str
    """Below the data directory."""
    read: Callable[[Path, str], forms.Splits]
    files: str
    """What must lie there, for a reader of an error."""
    note: str = ""
    """What a reader of the score must know."""


@dataclass(frozen=True)
class LocalDataset:
    """Splits of a dataset, as `datasets.Dataset` by name."""

    splits: dict[str, Any]
    folder: Path
    note: str = ""


JOINED = "local copy without the border of ctx_a and ctx_b: the unfinished last sentence is taken as ctx_b"

SOURCES: dict[str, tuple[Source, ...]] = {
    "cais/mmlu": (Source("mmlu", forms.mmlu_csv, "dev/SUBJECT_dev.csv and test/SUBJECT_test.csv"),),
    "Rowan/hellaswag": (
        Source("hellaswag", forms.hellaswag_original, "hellaswag_val.jsonl"),
        Source("hellaswag", forms.hellaswag_joined, "derived_hellaswag_val.jsonl", JOINED),
        Source("hellaswag", forms.hellaswag_text, "hellaswag_val_full.txt.bz2", JOINED),
    ),
    "allenai/ai2_arc": (Source("mosaic", forms.arc_queries, "arc_easy.jsonl and arc_challenge.jsonl"),),
    "truthfulqa/truthful_qa": (Source("truthfulqa", forms.truthfulqa_files, "mc_task.json and TruthfulQA.csv"),),
    "baber/piqa": (Source("piqa", forms.piqa_pairs, "valid.jsonl and valid-labels.lst"),),
    "openai/gsm8k": (Source("gsm8k", forms.gsm8k_files, "train.jsonl and test.jsonl"),),
    "EleutherAI/lambada_openai": (Source("lambada", forms.lambada_file, "lambada_test.jsonl"),),
    "nyu-mll/blimp": (Source("blimp", forms.blimp_file, "SET.jsonl of the 67 sets"),),
}
LATER_SOURCES: dict[str, tuple[Source, ...]] = {
    "allenai/winogrande": (Source("mosaic", forms.winogrande_queries, "winogrande.jsonl"),),
    "aps/super_glue": (Source("mosaic", forms.boolq_queries, "boolq.jsonl"),),
}
"""Taken where the dataset itself is not there."""

OTHER_NAMES: dict[str, tuple[str, ...]] = {
    "cais/mmlu": ("hails/mmlu_no_train",),
    "aps/super_glue": ("super_glue",),
    "aps/super_glue/boolq": ("boolq", "google/boolq"),
}
"""Under which names the same questions are also published."""

CONFIGS = ("none", "default", "plain_text", "main", "")


def local_dataset(folder: Path, dataset: str, name: str | None) -> LocalDataset:
    """The local copy of `dataset`, in its configuration `name`.

    Raises:
        DataError: it is not there, which names the places that were looked at; or it is damaged.
    """
    if not folder.is_dir():
        raise DataError(f"there is no folder {folder}", hint="give the folder with the benchmarks to --data-dir")
    found = from_sources(SOURCES, folder, dataset, name) or saved_dataset(folder, dataset, name)
    found = found or from_sources(LATER_SOURCES, folder, dataset, name)
    if found is None:
        places = [f"{folder / source.folder}/ with {source.files}" for source in sources_of(dataset)]
        places.append(f"{folder / dataset.rpartition('/')[2] / (name or '')}/ with SPLIT.jsonl or SPLIT/*.arrow")
        what = f"{dataset} ({name})" if name else dataset
        raise DataError(f"there is no local copy of {what} in {folder}", hint="put one of: " + "; ".join(places))
    return found


def sources_of(dataset: str) -> tuple[Source, ...]:
    """All forms of a dataset that are known."""
    return SOURCES.get(dataset, ()) + LATER_SOURCES.get(dataset, ())


def from_sources(
    table: dict[str, tuple[Source, ...]], folder: Path, dataset: str, name: str | None
) -> LocalDataset | None:
    """The first form that is there; None without any."""
    for source in table.get(dataset, ()):
        rows = source.read(folder / source.folder, name or "")
        if rows:
            library: Any = require("datasets", extra="eval", purpose="evaluating on local files")
            splits = {split: library.Dataset.from_list(found) for split, found in rows.items()}
            return LocalDataset(splits, folder / source.folder, source.note)
    return None


def saved_dataset(folder: Path, dataset: str, name: str | None) -> LocalDataset | None:
    """A dataset found by its name; None where there is none."""
    names = [*OTHER_NAMES.get(f"{dataset}/{name}", ()), dataset, dataset.rpartition("/")[2]]
    names += OTHER_NAMES.get(dataset, ())
    configs = ([name] if name else []) + [config for config in CONFIGS if config != name]
    for base in (folder, folder / "hf-arrow"):
        for place in (base / one / config for one in names for config in configs):
            splits = {split: files for split in SPLIT_NAMES if (files := files_of(place, split))}
            if splits:
                read = {split: read_files(files) for split, files in splits.items()}
                if (dataset, name) == ("aps/super_glue", "boolq"):
                    library: Any = require("datasets", extra="eval", purpose="evaluating on local files")
                    read = {
                        split: library.Dataset.from_list(forms.boolq_labels(rows.to_list()))
                        for split, rows in read.items()
                    }
                return LocalDataset(read, place)
    return None


def files_of(place: Path, split: str) -> list[Path]:
    """The files of a split: in a folder of its name, or with names that begin with its name."""
    for ending in ENDINGS:
        for pattern in (f"{split}/*.{ending}", f"{split}.{ending}", f"{split}-*.{ending}"):
            found = sorted(file for file in place.glob(pattern) if file.name != "dataset_info.json")
            found = [file for file in found if file.name != "state.json"]
            if found:
                return found
    return []


def read_files(files: list[Path]) -> Any:
    """One `datasets.Dataset` in memory, so that nothing is written beside the files.

    Raises:
        DataError: a file cannot be read.
    """
    library: Any = require("datasets", extra="eval", purpose="evaluating on local files")
    parts: list[Any] = []
    for file in files:
        try:
            if file.suffix == ".arrow":
                parts.append(library.Dataset.from_file(str(file), in_memory=True))
            elif file.suffix == ".parquet":
                parquet: Any = require("pyarrow.parquet", extra="eval", purpose="reading Parquet files")
                parts.append(library.Dataset(parquet.read_table(file)))
            else:
                parts.append(library.Dataset.from_list(forms.json_lines(file)))
        except (OSError, ValueError) as error:  # pyarrow's errors are ValueErrors
            raise DataError(f"{file} cannot be read: {error}", hint="copy the file again from its source") from error
    return library.concatenate_datasets(parts)
