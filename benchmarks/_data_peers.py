"""What others do, stage by stage, for `benchmarks/data.py`; runs in their own Python and imports nothing of ours.

A way is a function of the corpus that prepares, and returns what is timed. Settings are those of the projects' own
examples for speed. Filters see every text, also those that an earlier filter would remove.
"""

# pyright: reportMissingImports=false

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

Way = Callable[[Path], Callable[[], Any]]


def texts_of(corpus: Path, share: float = 1.0) -> list[str]:
    """The texts of a corpus, or the first share of them."""
    lines = (corpus / "docs.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["text"] for line in lines[: max(1, int(len(lines) * share))]]


def datasets_streaming(name: str) -> Way:
    """`datasets` with streaming=True."""

    def prepare(corpus: Path) -> Callable[[], Any]:
        from datasets import load_dataset

        kind = "parquet" if name.endswith("parquet") else "json"
        file = str(corpus / name)
        next(iter(load_dataset(kind, data_files=file, split="train", streaming=True)))
        return lambda: sum(
            len(row["text"]) for row in load_dataset(kind, data_files=file, split="train", streaming=True)
        )

    return prepare


def datatrove_reader(name: str) -> Way:
    """datatrove's reader."""

    def prepare(corpus: Path) -> Callable[[], Any]:
        from datatrove.pipeline.readers import JsonlReader, ParquetReader

        kind = ParquetReader if name.endswith("parquet") else JsonlReader
        next(iter(kind(str(corpus), glob_pattern=name).run()))
        return lambda: sum(len(found.text) for found in kind(str(corpus), glob_pattern=name).run())

    return prepare


def datatrove_quality(corpus: Path) -> Callable[[], Any]:
    """The filters of FineWeb's pipeline, as in its examples/fineweb.py."""
    from datatrove.data import Document
    from datatrove.pipeline.filters import (
        C4QualityFilter,
        FineWebQualityFilter,
        GopherQualityFilter,
        GopherRepetitionFilter,
    )

    filters = [
        GopherRepetitionFilter(),
        GopherQualityFilter(),
        C4QualityFilter(filter_no_terminal_punct=False),
        FineWebQualityFilter(),
    ]
    documents = [Document(text=text, id="0") for text in texts_of(corpus)]
    for one in filters:
        one.filter(documents[0])
    return lambda: [one.filter(Document(text=d.text, id=d.id)) for one in filters for d in documents]


def dolma_tagger(name: str) -> Way:
    """One of dolma's taggers."""

    def prepare(corpus: Path) -> Callable[[], Any]:
        from dolma.core.data_types import Document
        from dolma.core.registry import TaggerRegistry

        tagger = TaggerRegistry.get(name)()
        documents = [Document(source="", id="0", text=text) for text in texts_of(corpus)]
        tagger.predict(documents[0])
        return lambda: [tagger.predict(document) for document in documents]

    return prepare


def datatrove_personal(corpus: Path) -> Callable[[], Any]:
    """Its formatter for e-mail and IP addresses."""
    from datatrove.pipeline.formatters import PIIFormatter

    formatter, texts = PIIFormatter(), texts_of(corpus)
    formatter.format(texts[0])
    return lambda: [formatter.format(text) for text in texts]


def datatrove_signatures(corpus: Path) -> Callable[[], Any]:
    """Its MinHash signatures, 14 bands of 8: the first of its four stages, alone."""
    from datatrove.data import Document
    from datatrove.pipeline.dedup import MinhashDedupSignature
    from datatrove.pipeline.dedup.minhash import MinhashConfig

    texts = texts_of(corpus)
    step = MinhashDedupSignature(output_folder=str(corpus / "signatures"), config=MinhashConfig())
    documents = [Document(text=text, id=str(number)) for number, text in enumerate(texts)]
    return lambda: [step.get_signature(step.get_shingles(document.text)) for document in documents]


def pycld2_language(characters: int) -> Way:
    """CLD2 on the beginning of each text."""

    def prepare(corpus: Path) -> Callable[[], Any]:
        import pycld2

        texts = [text[:characters] for text in texts_of(corpus)]

        def run() -> int:
            english = 0
            for text in texts:
                with contextlib.suppress(pycld2.error):
                    english += pycld2.detect(text.encode())[2][0][1] == "en"
            return english

        return run

    return prepare


def tokenizers_batch(corpus: Path) -> Callable[[], Any]:
    """`encode_batch_fast` on one thread."""
    from tokenizers import Tokenizer

    tokenizer, texts = Tokenizer.from_file(str(corpus / "tokenizer.json")), texts_of(corpus)
    tokenizer.encode_batch_fast(texts[:10], add_special_tokens=False)
    return lambda: [
        [found.ids for found in tokenizer.encode_batch_fast(texts[i : i + 1000], add_special_tokens=False)]
        for i in range(0, len(texts), 1000)
    ]


WAYS: dict[str, Way] = {
    "datasets streaming, .jsonl": datasets_streaming("docs.jsonl"),
    "datasets streaming, .jsonl.zst": datasets_streaming("docs.jsonl.zst"),
    "datasets streaming, .jsonl.gz": datasets_streaming("docs.jsonl.gz"),
    "datasets streaming, .parquet": datasets_streaming("docs.parquet"),
    "datatrove, .jsonl.zst": datatrove_reader("docs.jsonl.zst"),
    "datatrove, .parquet": datatrove_reader("docs.parquet"),
    "datatrove Gopher + C4 + FineWeb": datatrove_quality,
    "dolma gopher_v1": dolma_tagger("gopher_v1"),
    "dolma c4_v2": dolma_tagger("c4_v2"),
    "datatrove PIIFormatter (e-mail, IP)": datatrove_personal,
    "dolma pii_regex_with_counts_fast_v2": dolma_tagger("pii_regex_with_counts_fast_v2"),
    "datatrove MinHash signatures alone": datatrove_signatures,
    "pycld2, 1,000 characters": pycld2_language(1000),
    "pycld2, whole text": pycld2_language(1 << 30),
    "tokenizers": tokenizers_batch,
}
