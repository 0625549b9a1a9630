"""A path to a tokenizer, whatever the form of the vocabulary there.

tokenizer.json                          `tokenizers`
NAME.tiktoken                           tiktoken's ranks
tokenizer.model                         sentencepiece
encoder.json + vocab.bpe                GPT-2's pair, also as vocab.json + merges.txt
"""

from __future__ import annotations

from pathlib import Path

import tokenizers

from mamba_slm.core.errors import DataError
from mamba_slm.text.vocabularies.gpt2_files import PAIRS, pair_of, read_gpt2
from mamba_slm.text.vocabularies.sentencepiece_model import is_sentencepiece, read_sentencepiece
from mamba_slm.text.vocabularies.tiktoken_ranks import is_tiktoken, read_tiktoken

FILE_NAME = "tokenizer.json"
OTHER_FORMS = ("*.tiktoken", "tokenizer.model*", "*.model", *PAIRS)
"""What is looked for in a folder without a tokenizer.json, in this order."""
FIRST_LOOK_BYTES = 1024


def find_vocabulary(path: Path | str) -> Path:
    """The file of a vocabulary: the path itself, or what is in the folder.

    Raises:
        DataError: there is none, or there are several and none is called tokenizer.json.
    """
    path = Path(path)
    if path.is_file():
        return path
    if (path / FILE_NAME).is_file():
        return path / FILE_NAME
    for pattern in OTHER_FORMS if path.is_dir() else ():
        found = sorted(file for file in path.glob(pattern) if file.is_file() and is_whole(file))
        if len(found) > 1:
            names = ", ".join(file.name for file in found)
            raise DataError(f"{path} holds more than one vocabulary: {names}", hint="name the file")
        if found:
            return found[0]
    raise DataError(
        f"no tokenizer at {path / FILE_NAME if path.is_dir() else path}",
        hint="give a tokenizer.json, .tiktoken file, sentencepiece .model, or a folder with one; or train one: "
        "mamba-slm data train-tokenizer",
    )


def is_whole(file: Path) -> bool:
    """Whether a file of a pair has its partner beside it; other files are whole alone."""
    return file.name not in PAIRS or pair_of(file) is not None


def read_vocabulary(file: Path) -> tokenizers.Tokenizer:
    """The tokenizer that a file describes. The form is told by the content, for names vary.

    Raises:
        DataError: a form that is not known, a damaged file, or a vocabulary that loses text.
    """
    pair = pair_of(file)
    if pair is not None:
        return read_gpt2(*pair)
    with file.open("rb") as opened:
        start = opened.read(FIRST_LOOK_BYTES)
    if is_tiktoken(start):
        return read_tiktoken(file)
    if file.suffix != ".json" and is_sentencepiece(start):
        return read_sentencepiece(file)
    try:
        return tokenizers.Tokenizer.from_str(file.read_text("utf-8"))
    except Exception as error:  # the library raises bare Exception for every broken description
        raise DataError(
            f"{file} is not a tokenizer.json: {error}", hint="copy it again, or train a tokenizer"
        ) from error
