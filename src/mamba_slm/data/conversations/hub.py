"""Records of a data set on the hub, through the `datasets` library and its cache."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from mamba_slm.core.errors import ConfigError, SetupError
from mamba_slm.core.optional import require

HUB_ID = re.compile(r"[\w.-]+/[\w.-]+(:[\w.-]+)?")
"""Owner and name, and behind a colon the configuration."""


def is_hub_id(source: str) -> bool:
    """Whether a source that is no file can only be a data set on the hub."""
    return not Path(source).exists() and HUB_ID.fullmatch(source) is not None and Path(source).suffix not in ENDINGS


ENDINGS = (".json", ".jsonl", ".gz", ".zst", ".parquet", ".txt", ".csv")
"""A mistyped path to a file is no data set."""


def hub_records(
    source: str, split: str | None, preferred: Sequence[str], limit: int | None
) -> Iterator[tuple[str, Any]]:
    """Origin and record of each row.

    Args:
        source: OWNER/NAME, or OWNER/NAME:CONFIGURATION.
        split: one that it has; None: the first of `preferred`.
        limit: with one, rows are streamed and the data set is not downloaded as a whole.

    Raises:
        SetupError: no network and not in the cache, no access, no such data set.
        ConfigError: no such split.
        MissingDependencyError: `datasets` is not installed.
    """
    datasets = require("datasets", extra="finetune", purpose=f"reading {source} from the hub")
    name, _, configuration = source.partition(":")
    arguments: dict[str, Any] = {"path": name, "name": configuration or None}
    try:
        if split is None:
            splits = datasets.get_dataset_split_names(name, configuration or None)
            split = next((one for one in preferred if one in splits), splits[0] if len(splits) == 1 else None)
            if split is None:
                raise ConfigError(f"{source} has the splits {', '.join(splits)}", hint="choose one with --split")
        rows = datasets.load_dataset(**arguments, split=split, streaming=limit is not None and not is_offline())
        for number, row in enumerate(rows, start=1):
            yield f"{source}, {split}, row {number}", row
    except (OSError, ValueError, SetupError) as error:  # theirs derive from these
        if isinstance(error, ConfigError):
            raise
        raise explained(source, error) from error


def is_offline() -> bool:
    """Whether `--offline` or the variable of the hub's own libraries is set."""
    return any(os.environ.get(name, "0") not in ("", "0") for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE"))


def explained(source: str, error: Exception) -> SetupError:
    """Their error in words that say what to do."""
    reason = " ".join(str(error).split()) or type(error).__name__
    hint = (
        "leave out --offline; or download it where there is a network, and give the folder: "
        f"huggingface-cli download --repo-type dataset {source.partition(':')[0]} --local-dir FOLDER"
    )
    if not is_offline():
        hint = "check the name and the network; a gated data set needs HF_TOKEN; or give a file or folder that is here"
    return SetupError(f"the data set {source} cannot be read from the hub: {reason}", hint=hint)
