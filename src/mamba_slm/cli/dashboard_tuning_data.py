"""The first examples of a fine-tuning or an alignment, read by the code of the commands. No torch."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mamba_slm.dashboard.reading.base_model import BaseModel
    from mamba_slm.finetuning.alignment.config import AlignConfig
    from mamba_slm.finetuning.config import FinetuneConfig
    from mamba_slm.finetuning.prepared import PreparedExamples

LOOKED_AT = 200
"""Examples of each source that are read while somebody types; the command reads all."""
MOST_JSON_BYTES = 64 * 2**20
"""Of a .json file, which cannot be read in part."""
MOST_FILES = 500
"""Of a folder, by which a change is noticed."""
MOST_COUNTED_BYTES = 2**30
"""Of JSON lines that are counted to say how many steps there will be."""


@dataclass(frozen=True, kw_only=True)
class LookedAt:
    """The first examples of the data, as they are learned."""

    prepared: PreparedExamples
    said: tuple[str, ...]
    """What the command would say about them."""
    total: int | None
    """Examples in all; None where nobody knows before all is read."""
    read: int
    """Of these, so many were read."""


def base_of(config: FinetuneConfig | AlignConfig) -> Any:
    """The settings that decide how data are read, with all others at their defaults: a key of what was read."""
    kept = ("objective", "data", "form", "split", "template", "too_long", "train_on", "context_tokens", "validation",
            "validation_share", "packing")  # fmt: skip
    names = {field.name for field in fields(config)}
    limit = min(config.limit or LOOKED_AT, LOOKED_AT)
    return type(config)(**{name: getattr(config, name) for name in kept if name in names}, limit=limit)


def looked_at(config: FinetuneConfig, base: BaseModel) -> LookedAt:
    """The first examples, encoded by the code of the command; read once for each version of the files."""
    tokenizer = [str(base.tokenizer_folder / name) for name in ("tokenizer.json", "chat_template.jinja")]
    validation = [config.validation] if config.validation else []
    version = versions((*config.data, *validation, *tokenizer))
    return encoded_once(base_of(config), base.tokenizer_folder, base.config.max_context_tokens, config.limit, version)


@functools.lru_cache(maxsize=8)
def encoded_once(
    config: FinetuneConfig, folder: Path, max_context_tokens: int, limit: int | None, version: tuple[Any, ...]
) -> LookedAt:
    """`looked_at` for files of these versions."""
    from mamba_slm.finetuning.prepared import prepare_examples

    said: list[str] = []
    prepared = prepare_examples(config, folder, max_context_tokens=max_context_tokens, say=said.append)
    read = sum(len(found) for _, found in prepared.sources)
    total = total_of(config, [len(found) for _, found in prepared.sources], limit)
    return LookedAt(prepared=prepared, said=tuple(said), total=total, read=read)


@functools.lru_cache(maxsize=8)
def read_alignment(
    config: AlignConfig, version: tuple[Any, ...]
) -> tuple[tuple[str, ...], tuple[Any, ...], int | None]:
    """What was said, the first examples, and how many there are in all where that is known."""
    from mamba_slm.data.conversations import read

    readers = {"grpo": read.read_prompts, "kto": read.read_labelled}
    reader = readers.get(config.objective, read.read_preferences)
    said: list[str] = []
    found = [
        reader(source, form=config.form, split=config.split, limit=config.limit, say=said.append)
        for source in config.data
    ]
    items = tuple(item for each in found for item in each.items)
    return tuple(said), items, total_of(config, [len(each) for each in found], None)


def total_of(config: FinetuneConfig | AlignConfig, read: Sequence[int], limit: int | None) -> int | None:
    """How many examples the command will read: counted where a source has more than were looked at."""
    total = 0
    for source, count in zip(config.data, read, strict=True):
        if count >= LOOKED_AT:
            lines = lines_of(Path(source))
            if lines is None:
                return None
            count = max(count, lines)
        total += count if limit is None else min(count, limit)
    return total


def lines_of(file: Path) -> int | None:
    """Lines of a file with one record in each; None for any other."""
    if file.suffix != ".jsonl" or not file.is_file() or file.stat().st_size > MOST_COUNTED_BYTES:
        return None
    with file.open("rb") as opened:
        return sum(block.count(b"\n") for block in iter(lambda: opened.read(1 << 20), b""))


def versions(sources: Sequence[str]) -> tuple[Any, ...]:
    """What changes when a source changes.

    Raises:
        DataError: a source is neither file nor folder, or too long to be looked at.
    """
    from mamba_slm.core.errors import DataError
    from mamba_slm.data.conversations.collected import PREFIX, is_collected, named_set

    found: list[Any] = []
    for source in sources:
        path = named_set(source.removeprefix(PREFIX)).path if is_collected(source) else Path(source)
        if path.exists() and not path.is_file() and not path.is_dir():
            raise DataError(f"{path} is neither a file nor a folder")
        below = (entry for entry in path.rglob("*") if entry.is_file()) if path.is_dir() else iter(())
        for file in [path] if path.is_file() else itertools.islice(below, MOST_FILES):
            status = file.stat()
            if file.suffix == ".json" and status.st_size > MOST_JSON_BYTES:
                raise DataError(f"{file} is too long to look at here", hint="JSON lines can be read in part: .jsonl")
            found.append((str(file), status.st_mtime_ns, status.st_size))
    return tuple(found)
