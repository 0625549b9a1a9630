"""From `--data` to token shards: opens shards that exist, tokenizes text into the run directory."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mamba_slm.core.errors import DataError
from mamba_slm.core.files import write_json_atomic
from mamba_slm.core.units import format_count
from mamba_slm.data.encode import encode_documents
from mamba_slm.data.reading.options import ReadOptions
from mamba_slm.data.shards import TokenShards, is_shard_folder
from mamba_slm.runs.layout import RunDirectory
from mamba_slm.text.tokenizer import Tokenizer
from mamba_slm.text.train_tokenizer import train_tokenizer
from mamba_slm.text.vocabularies.gpt2_files import pair_of
from mamba_slm.text.vocabularies.opening import find_vocabulary
from mamba_slm.training.data_arguments import DataSource, mixture_plan, parse_source, parse_sources
from mamba_slm.training.holdout import Documents, Split, split_documents


@dataclass(frozen=True, kw_only=True)
class PreparedData:
    """What the trainer reads."""

    sources: tuple[tuple[str, TokenShards, float | None], ...]
    """Name, shards and weight of each source."""
    tokenizer: Tokenizer
    tokenizer_file: Path
    validation: TokenShards | None = None
    """Held-out documents; None trains without validation."""
    validation_by_source: Mapping[str, TokenShards] = field(default_factory=dict)
    """Held-out documents of each of several sources by itself, where it has any."""
    paths: tuple[str, ...] = ()
    """Where each source came from, for data.json."""
    temperature: float = 1.0
    """Makes weights from sizes where none are given."""
    changes: tuple[tuple[int, Mapping[str, float]], ...] = ()
    """Weights that hold from so many training tokens on."""

    @property
    def num_tokens(self) -> int:
        """Training tokens, each counted once."""
        return sum(shards.num_tokens for _, shards, _ in self.sources)

    def record(self) -> dict[str, Any]:
        """What data.json says."""

        def amounts(shards: TokenShards) -> dict[str, Any]:
            return {"documents": shards.num_documents, "bytes": shards.text_bytes, "tokens": shards.num_tokens}

        paths = self.paths or ("",) * len(self.sources)
        text_bytes = sum(shards.text_bytes for _, shards, _ in self.sources)
        return {
            "format_version": 1,
            "sources": [
                {"name": name, "path": path or str(shards.folder), "weight": weight, **amounts(shards)}
                for (name, shards, weight), path in zip(self.sources, paths, strict=True)
            ],
            "held_out": {} if self.validation is None else amounts(self.validation),
            "tokenizer": {
                "vocab_size": self.tokenizer.vocab_size,
                "bytes_per_token": text_bytes / max(1, self.num_tokens),
                "fingerprint": self.tokenizer.fingerprint,
            },
        }


def prepare_data(
    data: Sequence[str],
    run: RunDirectory,
    *,
    vocab_size: int,
    tokenizer: str | None = None,
    validation: str | None = None,
    validation_share: float = 0.02,
    reading: ReadOptions | None = None,
    say: Callable[[str], None] = print,
) -> PreparedData:
    """Open or make the token shards of every source, and the tokenizer.

    What was made in an earlier call for the same run is used again.

    Args:
        data: `--data` arguments.
        run: text is tokenized into `data/` of this directory; the tokenizer is copied to its `tokenizer.json`.
        vocab_size: of a tokenizer trained on the text, where none is given.
        tokenizer: file or folder of a tokenizer.
        validation: text or shards to validate on; None holds documents out by `validation_share`.
        reading: how text is read.
        say: takes lines for people.

    Raises:
        DataError: empty, broken or missing data, or shards made with another tokenizer.
        ConfigError: an argument that does not fit.
    """
    sources, plan = parse_sources(data), mixture_plan(data)
    reading = ReadOptions() if reading is None else reading
    texts = [source for source in sources if not is_shards(source.path)]
    share = 0.0 if validation is not None else validation_share
    splits = {source.name: split_documents(source.path, share, reading, say=say) for source in texts}
    chosen = choose_tokenizer(sources, splits, run, wanted=tokenizer, vocab_size=vocab_size, say=say)

    def encoded(documents: Documents, folder: Path) -> TokenShards:
        if is_shard_folder(folder):
            return TokenShards.open(folder)
        say(str(encode_documents(documents, chosen, folder)))
        return TokenShards.open(folder, verify=False)

    folder = run.path / "data"
    opened = []
    for source in sources:
        if source.name in splits:
            shards = encoded(splits[source.name].train, folder / f"{source.name}-{origin(source.path, share, reading)}")
        else:
            shards = TokenShards.open(shard_folder(source.path, "train"))
        if shards.tokenizer_fingerprint != chosen.fingerprint:
            raise DataError(
                f"{shards.folder} was tokenized with another tokenizer",
                hint="give its own with --tokenizer, or tokenize the text again: mamba-slm data tokenize",
            )
        opened.append((source.name, shards, source.weight))

    held_out = [split.validation for split in splits.values() if split.validation is not None]
    validation_shards = None
    if validation is not None and is_shards(Path(validation)):
        validation_shards = TokenShards.open(shard_folder(Path(validation), "validation"))
    elif validation is not None:
        validation_source = parse_source(validation)
        documents = split_documents(validation_source.path, 0.0, reading, say=say).train
        validation_shards = encoded(documents, folder / f"held-out-{origin(validation_source.path, 0.0, reading)}")
    elif held_out:
        origins = " ".join(origin(source.path, share, reading) for source in texts)
        name = f"held-out-{hashlib.sha256(origins.encode()).hexdigest()[:8]}"
        validation_shards = encoded(lambda: (doc for part in held_out for doc in part()), folder / name)
    elif share > 0:
        found = [path for source in sources if (path := validation_beside(source.path)) is not None]
        validation_shards = TokenShards.open(found[0]) if found else None
        if not found:
            say("no validation: the shards have no held-out documents beside them; --validation PATH gives some")
    if validation_shards is not None and validation_shards.tokenizer_fingerprint != chosen.fingerprint:
        raise DataError(f"{validation_shards.folder} was tokenized with another tokenizer")

    own: dict[str, TokenShards] = {}
    if len(sources) > 1 and validation is None and share > 0:
        for source in sources:
            if source.name not in splits:
                beside = validation_beside(source.path)
                found_own = None if beside is None else TokenShards.open(beside)
                if found_own is not None and found_own.tokenizer_fingerprint == chosen.fingerprint:
                    own[source.name] = found_own
            elif (part := splits[source.name].validation) is not None:
                name = f"held-out-{source.name}-{origin(source.path, share, reading)}"
                own[source.name] = encoded(part, folder / name)

    prepared = PreparedData(
        sources=tuple(opened),
        tokenizer=chosen,
        tokenizer_file=run.tokenizer_file,
        validation=validation_shards,
        validation_by_source=own,
        paths=tuple(str(source.path) for source in sources),
        temperature=plan.temperature,
        changes=tuple((change.from_tokens, change.weights) for change in plan.changes),
    )
    write_json_atomic(run.data_file, prepared.record())
    return prepared


def origin(path: Path, share: float, reading: ReadOptions) -> str:
    """A short name for where tokens came from: shards of another text must not be taken for these."""
    chosen = "" if reading == ReadOptions() else f"\0{reading}"
    return hashlib.sha256(f"{path.resolve()}\0{share}{chosen}".encode()).hexdigest()[:8]


def choose_tokenizer(
    sources: Sequence[DataSource],
    splits: dict[str, Split],
    run: RunDirectory,
    *,
    wanted: str | None,
    vocab_size: int,
    say: Callable[[str], None],
) -> Tokenizer:
    """The tokenizer of the run: made earlier, given, that of the shards, or trained on the training text."""
    if run.tokenizer_file.is_file():
        return Tokenizer.load(run.tokenizer_file)
    if wanted is None:
        beside = [path for source in sources if (path := tokenizer_beside(source.path)) is not None]
        wanted = str(beside[0]) if beside else None
    if wanted is not None:
        tokenizer = Tokenizer.load(wanted)
        file = find_vocabulary(wanted)
        if file.suffix == ".json" and pair_of(file) is None:
            shutil.copyfile(file, run.tokenizer_file)
        else:  # another form of vocabulary; a run holds a tokenizer.json
            tokenizer.save(run.path)
        say(f"tokenizer: {wanted}, {tokenizer.vocab_size:,} tokens")
        return Tokenizer.load(run.tokenizer_file)
    if not splits:
        raise DataError(
            f"there is no tokenizer.json beside the shards in {sources[0].path}", hint="give it with --tokenizer PATH"
        )
    say(f"tokenizer: training one with {vocab_size:,} tokens on the text (automatic: none was given)")
    tokenizer = train_tokenizer(
        (document.text for split in splits.values() for document in split.train()), vocab_size=vocab_size
    )
    tokenizer.save(run.path)
    return tokenizer


def is_shards(path: Path) -> bool:
    """Whether the path is a shard folder, or one with `train/` shards in it."""
    return is_shard_folder(path) or is_shard_folder(path / "train")


def shard_folder(path: Path, part: str) -> Path:
    """The shards of a part under a path: the path itself, or its subfolder of that name."""
    return path / part if is_shard_folder(path / part) else path


def validation_beside(path: Path) -> Path | None:
    """Held-out shards that belong to training shards, or None."""
    for folder in (path / "validation", path.parent / "validation"):
        if is_shard_folder(folder) and is_shards(path) and folder != path:
            return folder
    return None


def tokenizer_beside(path: Path) -> Path | None:
    """The tokenizer.json in a shard folder or beside it, or None."""
    if not is_shards(path):
        return None
    return next((file for folder in (path, path.parent) if (file := folder / "tokenizer.json").is_file()), None)


def describe_sources(prepared: PreparedData) -> str:
    """One line about the data."""
    parts = [f"{name} {format_count(shards.num_tokens)} tokens" for name, shards, _ in prepared.sources]
    held_out = "none" if prepared.validation is None else f"{format_count(prepared.validation.num_tokens)} tokens"
    return f"data: {', '.join(parts)}; held out: {held_out}"
