"""GPT-2's two files: `encoder.json` (ids) and `vocab.bpe` (merges), also called `vocab.json` and `merges.txt`."""

from __future__ import annotations

import json
from pathlib import Path

import tokenizers
from tokenizers import decoders, models, pre_tokenizers

from mamba_slm.core.errors import DataError
from mamba_slm.text.vocabularies.special import with_special_tokens

PAIRS = {"encoder.json": "vocab.bpe", "vocab.json": "merges.txt"}
"""Name of the merges' file by the name of the ids' file."""
END_OF_TEXT = "<|endoftext|>"


def pair_of(file: Path) -> tuple[Path, Path] | None:
    """The files of ids and merges that one of the two belongs to, or None."""
    for ids, merges in PAIRS.items():
        if file.name in (ids, merges):
            pair = file.with_name(ids), file.with_name(merges)
            return pair if all(path.is_file() for path in pair) else None
    return None


def read_gpt2(ids_file: Path, merges_file: Path) -> tokenizers.Tokenizer:
    """The tokenizer of the two files: text is cut by GPT-2's pattern.

    Raises:
        DataError: a damaged file, or no end of text among the ids.
    """
    try:
        vocab: dict[str, int] = json.loads(ids_file.read_text("utf-8"))
        lines = merges_file.read_text("utf-8").splitlines()
        pairs = (line.split(" ") for line in lines if line and not line.startswith("#version"))
        merges = [(left, right) for left, right in pairs]
        end = vocab[END_OF_TEXT]
        backend = tokenizers.Tokenizer(models.BPE(vocab=vocab, merges=merges))
    except Exception as error:  # the library raises bare Exception
        raise DataError(
            f"{ids_file} and {merges_file.name} are not GPT-2's files: {error}", hint="copy both again"
        ) from error
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    return with_special_tokens(backend, {END_OF_TEXT: end}, begin=END_OF_TEXT)
