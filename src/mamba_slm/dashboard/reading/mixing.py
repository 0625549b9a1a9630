"""What a mixture of token shards comes to, and the rows that it shows first: by the code that trains on it."""

from __future__ import annotations

import copy
import functools
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mamba_slm.core.errors import DataError, MambaSlmError, UsageError
from mamba_slm.dashboard.forms_data import MixForm
from mamba_slm.dashboard.reading.documents import require_shown_shards
from mamba_slm.dashboard.reading.facts import version_of
from mamba_slm.dashboard.reading.places import SHARDS, Places
from mamba_slm.dashboard.reading.tokens import tokenizer_at
from mamba_slm.training.data_arguments import DataSource, parse_sources

if TYPE_CHECKING:
    from mamba_slm.data.mixture import Mixture
    from mamba_slm.text.tokenizer import Tokenizer

MOST_SOURCES = 100
MOST_ROWS = 20
MOST_PIECES = 40
MOST_CHARACTERS = 1500
MOST_CONTEXT = 1 << 20
Keys = tuple[tuple[str, Path, str], ...]
"""Name, folder with the shards and its version, of each source."""


def mixed(places: Places, form: MixForm) -> dict[str, Any]:
    """Shares, tokens and epochs of each source, what speaks against it, and the first rows.

    Raises:
        MambaSlmError: the sources are no mixture, or may not be shown.
    """
    sources = parse_sources(form.lines)
    if len(sources) > MOST_SOURCES:
        raise UsageError(f"{len(sources)} sources are more than {MOST_SOURCES}", hint="mix fewer, or in a terminal")
    if not 2 <= form.context <= MOST_CONTEXT:
        raise UsageError(f"rows have 2 to {MOST_CONTEXT:,} tokens, not {form.context:,}")
    found = {source.name: shards_of(places, source) for source in sources}
    keys = tuple((name, folder, version_of(folder / SHARDS)) for name, folder in found.items())
    weights = {source.name: source.weight for source in sources if source.weight is not None}
    mixture = weighted(opened(keys, form.context, form.seed_number), weights)
    samples = -(-form.budget // form.context)
    shares, epochs, drawn = mixture.shares(), mixture.epochs(samples), mixture.drawn(samples)
    tokenizer, remark = tokenizer_for(places, form, found)
    return {
        "sources": [
            {
                "name": name,
                "share": shares[name],
                "documents": source.shards.num_documents,
                "tokens": source.shards.num_tokens,
                "rows": source.plan.num_rows,
                "takes": drawn[name] * form.context,
                "epochs": epochs[name],
            }
            for name, source in mixture.sources.items()
        ],
        "warnings": mixture.warnings(samples),
        "tokens": samples * form.context,
        "context": form.context,
        "fingerprint": mixture.fingerprint,
        "first": [row_of(mixture, number, tokenizer) for number in range(min(MOST_ROWS, samples))],
        "remark": remark,
    }


def shards_of(places: Places, source: DataSource) -> Path:
    """The folder that training would read.

    Raises:
        DataError: there are no token shards; UsageError: it may not be shown.
    """
    path = places.find(str(source.path))
    folder = next((each for each in (path / "train", path) if (each / SHARDS).is_file()), None)
    if folder is None:
        raise DataError(
            f"{source.path} holds no token shards: a mixture counts tokens",
            hint=f"mamba-slm data tokenize {shlex.quote(str(source.path))} --tokenizer PATH --out {source.name}-tokens",
        )
    require_shown_shards(folder, places.shows)
    return folder


@functools.lru_cache(maxsize=4)
def opened(keys: Keys, context_tokens: int, seed: int) -> Mixture:
    """The sources with their rows planned, which takes time; weights come later."""
    from mamba_slm.data.mixture import Mixture
    from mamba_slm.data.shards import TokenShards

    shards = [(name, TokenShards.open(folder, verify=False), None) for name, folder, _ in keys]
    return Mixture(shards, context_tokens=context_tokens, seed=seed)


def weighted(mixture: Mixture, weights: Mapping[str, float]) -> Mixture:
    """The same sources under these weights; without any as they are."""
    if not weights:
        return mixture
    from mamba_slm.data.mixture_weights import ordered

    other = copy.copy(mixture)
    other.asked = ordered([(0, weights)], other.sources)
    other.continue_after((), 0)
    return other


def tokenizer_for(places: Places, form: MixForm, found: Mapping[str, Path]) -> tuple[Tokenizer | None, str | None]:
    """The tokenizer that turns rows into text, or why there is none: the one that was named, else one beside shards.

    Raises:
        MambaSlmError: the one that was named cannot be read.
    """
    from mamba_slm.data.inspect import check_same_tokenizer
    from mamba_slm.data.shards import TokenShards

    folders = list(found.values())
    beside = [file for folder in folders for at in (folder, folder.parent) if (file := at / "tokenizer.json").is_file()]
    choices = (
        [places.find(form.tokenizer)] if form.tokenizer else [file for file in beside if places.shows(file.resolve())]
    )
    remark = "name a tokenizer, and the text of the rows is shown"
    for path in choices:
        try:
            tokenizer = tokenizer_at(path)
            check_same_tokenizer(TokenShards.open(folders[0], verify=False), tokenizer)
        except MambaSlmError as error:
            if form.tokenizer:
                raise
            remark = error.message
        else:
            return tokenizer, None
    return None, remark


def row_of(mixture: Mixture, number: int, tokenizer: Tokenizer | None) -> dict[str, Any]:
    """Where a row comes from, and how each document in it begins."""
    sample = mixture.sample(number)
    document = mixture.sources[sample.source].shards.document
    pieces = []
    for piece in sample.pieces[:MOST_PIECES]:
        text = None
        if tokenizer is not None:
            ids = document(piece.document)[piece.start : piece.start + piece.length + 1]
            text = tokenizer.decode(ids.tolist())[:MOST_CHARACTERS]
        pieces.append({"document": piece.document, "start": piece.start, "length": piece.length, "text": text})
    return {
        "number": number,
        "source": sample.source,
        "epoch": sample.epoch,
        "row": sample.row,
        "pieces": pieces,
        "more": max(0, len(sample.pieces) - MOST_PIECES),
    }
