"""What we do, stage by stage, for `benchmarks/data.py`: each prepares on a corpus, and returns what is timed."""

from __future__ import annotations

import json
import random
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


def profanity(corpus: Path) -> Callable[[], Any]:
    """The words of 25 languages, on web pages."""
    from mamba_slm.data.curation.profanity.judge import Profanity

    stage, texts = Profanity(), texts_of(corpus)
    stage.removed(texts[:10])
    return lambda: [stage.removed(batch) for batch in batches(texts)]


def spam(corpus: Path) -> Callable[[], Any]:
    """Topics, offers and links, on web pages."""
    from mamba_slm.data.curation.spam.judge import Spam

    stage, texts = Spam(), texts_of(corpus)
    stage.removed(texts[:10])
    return lambda: [stage.removed(batch) for batch in batches(texts)]


def benchmark_questions(corpus: Path) -> Callable[[], Any]:
    """100,000 questions of 40 words of the corpus at random: 2.8M runs, as many as real benchmarks have."""
    from mamba_slm.data.curation.contamination.index import BenchmarkIndex

    texts, chance = texts_of(corpus), random.Random(0)
    words = sorted({word for text in texts[:2000] for word in text.split()})
    questions = [json.dumps({"question": " ".join(chance.choices(words, k=40))}) for _ in range(100_000)]
    (corpus / "questions.jsonl").write_text("\n".join(questions), encoding="utf-8")
    index = BenchmarkIndex.build([corpus / "questions.jsonl"])
    index.removed(texts[:10])
    return lambda: [index.removed(batch) for batch in batches(texts)]


def lines_of_many_pages(corpus: Path) -> Callable[[], Any]:
    """Count every line once per document, without writing the counts."""
    from mamba_slm.data.curation.duplicates.batches import Texts
    from mamba_slm.data.curation.lines.config import LinesConfig
    from mamba_slm.data.curation.lines.find import once_per_text

    config, texts = LinesConfig(), [text.encode() for text in texts_of(corpus)]
    once_per_text(Texts.of(texts[:10]), config)
    starts = range(0, len(texts), BATCH)
    return lambda: [once_per_text(Texts.of(texts[start : start + BATCH]), config) for start in starts]


def tokens(corpus: Path) -> Callable[[], Any]:
    """Begin, ids, end of every document, with the comparison that guards them; the vocabulary is open."""
    from mamba_slm.data.document import Document
    from mamba_slm.data.encode import DocumentEncoder
    from mamba_slm.text.bulk import bulk_encoder
    from mamba_slm.text.tokenizer import Tokenizer

    tokenizer = Tokenizer.load(corpus / "tokenizer.json")
    bulk = bulk_encoder(tokenizer)
    encoder = DocumentEncoder(tokenizer, bulk)
    documents = [Document(text=text, id=str(number)) for number, text in enumerate(texts_of(corpus))]

    def run() -> None:
        bulk.begin()
        for start in range(0, len(documents), 1000):
            encoder.encode(documents[start : start + 1000])

    return run


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
    "profanity": profanity,
    "spam": spam,
    "benchmark questions": benchmark_questions,
    "lines of many pages": lines_of_many_pages,
    "tokens": tokens,
    "whole chain": chain,
}
