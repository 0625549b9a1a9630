"""The text of the quick start: what it trains on, what it validates on, and what stays unseen until the end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mamba_slm.data.document import Document
    from mamba_slm.data.reading.options import ReadOptions
    from mamba_slm.data.shards import TokenShards
    from mamba_slm.runs.layout import RunDirectory
    from mamba_slm.training.prepare import PreparedData

    Documents = Callable[[], Iterator[Document]]

VALIDATION_SHARE = 0.01
SMALLEST_VOCABULARY = 512
BYTES_PER_VOCABULARY_ENTRY = 500


def prepare_corpus(
    run: RunDirectory,
    data: str | None,
    *,
    reading: ReadOptions | None = None,
    largest_vocabulary: int,
    say: Callable[[str], None],
) -> PreparedData:
    """Hold files out, train the tokenizer on the others, write token shards of each part into the run directory.

    Of the other files a few are kept for validation while training, so that the held-out ones stay unseen until the
    evaluation. What an earlier, interrupted call wrote is used again.

    Args:
        data: a file or folder; None means Python's standard library.
        reading: how a user's text is read.
        largest_vocabulary: of the tokenizer; little text gets a smaller one.
        say: takes lines for people.

    Raises:
        DataError: the text is empty, broken, or too little.
    """
    from mamba_slm.core.files import write_json_atomic
    from mamba_slm.data.encode import encode_documents
    from mamba_slm.data.shards import TokenShards, is_shard_folder
    from mamba_slm.data.splits import is_held_out
    from mamba_slm.training.holdout import Split
    from mamba_slm.training.prepare import PreparedData, choose_tokenizer

    name, path, training, held_out = default_corpus() if data is None else own_corpus(data, reading, say)

    def validates(document: Document) -> bool:
        return is_held_out(document.id, VALIDATION_SHARE, salt="validation")

    has_validation = any(map(validates, training())) and not all(map(validates, training()))
    parts: dict[str, Documents] = {"held-out": held_out, "train": training}
    if has_validation:
        parts["train"] = lambda: (document for document in training() if not validates(document))
        parts["validation"] = lambda: filter(validates, training())
    vocab_size = fitting_vocabulary(sum(document.num_bytes for document in parts["train"]()), largest_vocabulary)
    tokenizer = choose_tokenizer(
        [], {name: Split(train=parts["train"], validation=None)}, run, wanted=None, vocab_size=vocab_size, say=say
    )
    shards: dict[str, TokenShards] = {}
    for part, documents in parts.items():
        folder = run.path / "data" / part
        if not is_shard_folder(folder):
            say(str(replace(encode_documents(documents, tokenizer, folder), folder=part)))
        shards[part] = TokenShards.open(folder)
    prepared = PreparedData(
        sources=((name, shards["train"], None),),
        tokenizer=tokenizer,
        tokenizer_file=run.tokenizer_file,
        validation=shards.get("validation"),
        paths=(path,),
    )
    unseen = shards["held-out"]
    amounts = {"documents": unseen.num_documents, "bytes": unseen.text_bytes, "tokens": unseen.num_tokens}
    write_json_atomic(run.data_file, prepared.record() | {"held_out": amounts})
    return prepared


def default_corpus() -> tuple[str, str, Documents, Documents]:
    """Name, path, training and held-out documents of Python's standard library."""
    from mamba_slm.data import python_library

    documents = python_library.python_library_documents
    return (
        python_library.NAME,
        str(python_library.python_library_folder()),
        lambda: (document for document in documents() if not python_library.held_out(document)),
        lambda: filter(python_library.held_out, documents()),
    )


def own_corpus(
    data: str, reading: ReadOptions | None, say: Callable[[str], None]
) -> tuple[str, str, Documents, Documents]:
    """Name, path, training and held-out documents of a user's text; a single file gives up its end."""
    from mamba_slm.data.python_library import HELD_OUT_SHARE
    from mamba_slm.training.data_arguments import parse_source
    from mamba_slm.training.holdout import split_documents

    source = parse_source(data)
    split = split_documents(source.path, HELD_OUT_SHARE, reading, say=say)
    assert split.validation is not None, "a positive share always holds something out"
    return source.name, str(source.path), split.train, split.validation


def fitting_vocabulary(num_bytes: int, largest: int) -> int:
    """A vocabulary that so much text can fill and use, as a power of two.

    >>> fitting_vocabulary(12_000_000, 4096), fitting_vocabulary(600_000, 4096), fitting_vocabulary(2_000, 4096)
    (4096, 1024, 512)
    """
    size = SMALLEST_VOCABULARY
    while size < largest and 2 * size * BYTES_PER_VOCABULARY_ENTRY <= num_bytes:
        size *= 2
    return size


def held_out_documents(run: RunDirectory, *, limit: int | None = None) -> list[Document]:
    """The held-out documents, decoded from their shards: byte-level tokens give back the exact text."""
    from mamba_slm.data.document import Document
    from mamba_slm.data.shards import TokenShards
    from mamba_slm.text.tokenizer import Tokenizer

    tokenizer = Tokenizer.load(run.tokenizer_file)
    shards = TokenShards.open(run.path / "data" / "held-out")
    numbers = range(shards.num_documents if limit is None else min(limit, shards.num_documents))
    texts = (tokenizer.decode(shards.document(number)[1:-1].tolist(), skip_special=False) for number in numbers)
    return [Document(text=text, id=str(number), source="held-out") for number, text in zip(numbers, texts, strict=True)]


def training_shards(run: RunDirectory) -> TokenShards:
    """What the model of the run was trained on."""
    from mamba_slm.data.shards import TokenShards

    return TokenShards.open(run.path / "data" / "train")
