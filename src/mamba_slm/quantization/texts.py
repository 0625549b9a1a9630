"""The tokens that a quantized model is measured on, and those it may learn its rounding from: never the same documents.

Measured on, the first that is there: the text that is given; the part of the calibration text that is kept apart; the
documents that the run held out from its training; what the model itself writes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from mamba_slm.core.errors import DataError
from mamba_slm.data.document import Document
from mamba_slm.data.encode import encode_batch
from mamba_slm.data.readers import read_documents
from mamba_slm.data.shards import TokenShards, is_shard_folder
from mamba_slm.data.splits import is_text_held_out
from mamba_slm.generation.generate import generate
from mamba_slm.generation.sampling import Sampler
from mamba_slm.model.stack import LanguageModel
from mamba_slm.quantization.config import QuantizeConfig
from mamba_slm.text.tokenizer import Tokenizer

APART_SHARE = 0.25
"""Of a calibration text, the expected share that is measured on where no other text is given."""
MOST_CHARACTERS = 32 << 20
"""Read of a text; what follows is left out."""
OWN_ROW_TOKENS = 256
"""At most so many tokens in a text that a model writes itself."""


@dataclass(frozen=True)
class Tokens:
    """Rows to run a model on."""

    rows: tuple[Tensor, ...]
    """[t] int64 each."""
    what: str
    """Where they came from, for the report."""

    @property
    def num_tokens(self) -> int:
        """In all rows."""
        return sum(map(len, self.rows))


def token_documents(path: Path, tokenizer: Tokenizer) -> list[Tensor]:
    """The documents of a text file, a folder of texts, or token shards, each [bos, ..., eos].

    Raises:
        DataError: nothing to read there, or shards made with another tokenizer.
    """
    if is_shard_folder(path):
        shards = TokenShards.open(path)
        if shards.tokenizer_fingerprint != tokenizer.fingerprint:
            raise DataError(
                f"{path} was tokenized with another tokenizer than the model's", hint="give the text itself"
            )
        most = MOST_CHARACTERS // 4
        found, read = [], 0
        for number in range(shards.num_documents):
            found.append(torch.from_numpy(shards.document(number).astype("int64")))
            read += len(found[-1])
            if read > most:
                break
        return found
    documents: list[Document] = []
    characters = 0
    for document in read_documents(path):
        documents.append(document)
        characters += len(document.text)
        if characters > MOST_CHARACTERS:
            break
    return [torch.from_numpy(tokens) for tokens in encode_batch(tokenizer, documents)]


def set_apart(documents: Sequence[Tensor], share: float = APART_SHARE) -> tuple[list[Tensor], list[Tensor]]:
    """(to learn from, to measure on). A single document is cut; otherwise copies of a document are on one side."""
    if len(documents) == 1:
        cut = len(documents[0]) - int(len(documents[0]) * share)
        return [documents[0][:cut]], [documents[0][cut:]]
    parts: tuple[list[Tensor], list[Tensor]] = ([], [])
    for document in documents:
        parts[is_text_held_out(document.numpy().tobytes(), share)].append(document)
    if not parts[0] or not parts[1]:  # of very few documents, all may fall on one side
        return list(documents[:-1]), list(documents[-1:])
    return parts


def rows_of(documents: Iterable[Tensor], *, num_tokens: int, row_tokens: int) -> tuple[Tensor, ...]:
    """Documents cut into rows of at most `row_tokens`, up to `num_tokens` in all, chosen by the hash of their tokens.

    The choice depends on the documents alone, not on their order; at least one row is taken.
    """
    pieces = [piece for document in documents for piece in document.split(row_tokens) if len(piece) > 1]
    pieces.sort(key=lambda piece: hashlib.sha256(piece.numpy().tobytes()).digest())
    rows: list[Tensor] = []
    left = num_tokens
    for piece in pieces:
        if left < 2:
            break
        rows.append(piece[:left].to(torch.int64))
        left -= len(rows[-1])
    return tuple(rows)


def held_out_shards(folder: Path, tokenizer: Tokenizer) -> Path | None:
    """Token shards that the run of a model folder held out from its training, or None."""
    for above in (folder, *folder.absolute().parents[:2]):
        for found in sorted((above / "data").glob("held-out-*")):
            if is_shard_folder(found) and TokenShards.open(found, verify=False).tokenizer_fingerprint == (
                tokenizer.fingerprint
            ):
                return found
    return None


def written_by(model: LanguageModel, tokenizer: Tokenizer, *, num_tokens: int, seed: int) -> Tokens:
    """What a model writes by itself, drawn at temperature 1 from the begin of a document on."""
    longest = min(OWN_ROW_TOKENS, model.config.max_context_tokens - 1)
    count = -(-num_tokens // longest)
    result = generate(
        model, [[tokenizer.bos_id]] * count, max_new_tokens=longest, eos_id=tokenizer.eos_id, seed=seed,
        sampler=Sampler.from_settings(),
    )  # fmt: skip
    rows = [torch.tensor([tokenizer.bos_id, *made.tokens]) for made in result.completions if made.tokens]
    return Tokens(tuple(rows), f"what the model writes by itself, {len(rows)} texts")


def texts_for(
    model: LanguageModel,
    tokenizer: Tokenizer,
    folder: Path,
    config: QuantizeConfig,
    *,
    is_calibrated: bool,
    say: Callable[[str], None] = lambda _: None,
) -> tuple[Tokens, Tokens | None]:
    """What to measure on, and what to calibrate with where that is wanted.

    Raises:
        DataError: a text that cannot be read, or is too short.
    """
    row_tokens = min(config.row_tokens, model.config.max_context_tokens)

    def taken(documents: Sequence[Tensor], what: str, num_tokens: int) -> Tokens:
        rows = rows_of(documents, num_tokens=num_tokens, row_tokens=row_tokens)
        if not rows:
            raise DataError(f"{what} is too short", hint="give a longer text")
        return Tokens(rows, what)

    learn: list[Tensor] = []
    measure: list[Tensor] = []
    if config.calibration is not None:
        learn = token_documents(config.calibration, tokenizer)
        if config.text is None:
            learn, measure = set_apart(learn)
    shards = held_out_shards(folder, tokenizer)
    if config.text is not None:
        measured = taken(token_documents(config.text, tokenizer), str(config.text), config.text_tokens)
    elif measure:
        measured = taken(measure, f"{config.calibration}, documents kept apart", config.text_tokens)
    elif shards is not None:
        measured = taken(token_documents(shards, tokenizer), "text that the run held out", config.text_tokens)
    else:
        say(
            "measuring on what the model writes by itself (automatic: no text is given, and its run held none out); "
            "--text FILE measures on what it is for"
        )
        measured = written_by(model, tokenizer, num_tokens=config.text_tokens, seed=config.seed)
    if not is_calibrated:
        return measured, None
    if learn:
        return measured, taken(learn, str(config.calibration), config.calibration_tokens)
    say("calibrating with what the model writes by itself (automatic: no --calibration TEXT)")
    return measured, written_by(model, tokenizer, num_tokens=config.calibration_tokens, seed=config.seed + 1)
