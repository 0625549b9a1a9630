"""What we do, stage by stage, for `benchmarks/data.py`: each prepares on a corpus, and returns what is timed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from _data_peers import Way, texts_of

BATCH = 2000


def batches(texts: list[str]) -> Iterator[list[str]]:
    """As the chain cuts them."""
    return (texts[start : start + BATCH] for start in range(0, len(texts), BATCH))


def reading(name: str) -> Way:
    """`read_documents`."""

    def prepare(corpus: Path) -> Callable[[], Any]:
        from mamba_slm.data.readers import read_documents

        next(read_documents(corpus / name))
        return lambda: sum(len(document.text) for document in read_documents(corpus / name))

    return prepare


def quality(corpus: Path) -> Callable[[], Any]:
    """All signals with 2- to 10-grams, the rules for web pages, score, and texts without what they repeat."""
    from mamba_slm.data.curation.signals.assess import QualityConfig, assess

    config, texts = QualityConfig.of("web"), texts_of(corpus)
    assess(texts[:10], config)
    return lambda: [assess(batch, config).removed for batch in batches(texts)]


def language(corpus: Path) -> Callable[[], Any]:
    """The gate, on web pages."""
    from mamba_slm.data.curation.language.gate import LanguageConfig, LanguageGate

    gate, texts = LanguageGate(LanguageConfig(), "web"), texts_of(corpus)
    gate.removed(texts[:10])
    return lambda: [gate.removed(batch) for batch in batches(texts)]


def personal(corpus: Path) -> Callable[[], Any]:
    """All kinds of personal data, masked."""
    from mamba_slm.data.curation.personal.clean import PersonalConfig, PersonalData

    stage, texts = PersonalData(PersonalConfig()), texts_of(corpus)
    stage.clean(texts[:10])
    return lambda: [stage.clean(batch) for batch in batches(texts)]


def tokens(corpus: Path) -> Callable[[], Any]:
    """Ids and shards, with the comparison with `tokenizers` that guards them."""
    from mamba_slm.data.document import Document
    from mamba_slm.data.encode import encode_documents
    from mamba_slm.text.tokenizer import Tokenizer

    tokenizer = Tokenizer.load(corpus / "tokenizer.json")
    documents = [Document(text=text, id=str(number)) for number, text in enumerate(texts_of(corpus))]
    return lambda: encode_documents(documents, tokenizer, corpus / "shards")


def chain(corpus: Path) -> Callable[[], Any]:
    """`mamba-slm data curate` from .jsonl.zst to .jsonl.zst: every stage, both searches for duplicates."""
    from mamba_slm.data.curation.curate import curate

    return lambda: curate([f"web={corpus / 'docs.jsonl.zst'}"], out=corpus / "curated", workers=1)


WAYS: dict[str, Way] = {
    "read .jsonl": reading("docs.jsonl"),
    "read .jsonl.zst": reading("docs.jsonl.zst"),
    "read .jsonl.gz": reading("docs.jsonl.gz"),
    "read .parquet": reading("docs.parquet"),
    "quality": quality,
    "language": language,
    "personal data": personal,
    "tokens": tokens,
    "whole chain": chain,
}
