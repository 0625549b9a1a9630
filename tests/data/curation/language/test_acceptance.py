"""Acceptance on text that nothing was fitted on, calibrated on or tuned on: English stays, other languages go.

The fifth of every source that its hash holds out, books in other languages, and English that is no part of the sources:
this repository's own documentation and the docstrings of Python's standard library. docs/reference/language-table.md
says what was measured on collections of real pages that tests cannot carry.
"""

import ast
import importlib.util
import itertools
import json
import re
import sysconfig
from pathlib import Path

import numpy as np
import pytest

from mamba_slm.data.curation.language.gate import LanguageConfig, LanguageGate

REPOSITORY = Path(__file__).parents[4]
SHARED = REPOSITORY.parent / "shared" / "data"
MIN_KEPT, MAX_LET_THROUGH = 0.99, 0.005
MIN_CHARACTERS = 100
"""The length that documents need anyway."""
DOCS = {"stackexchange": 40, "arxiv": 80, "wikipedia": 200}
needs_data = pytest.mark.skipif(not SHARED.is_dir(), reason="needs ../shared/data, which is not here")
judged_kinds = pytest.mark.parametrize("kind", ["web", "books", "docs", "chat"])


def texts_of_the_table():
    """`benchmarks/_language_texts.py`, which says what is held out."""
    path = REPOSITORY / "benchmarks" / "_language_texts.py"
    spec = importlib.util.spec_from_file_location("_language_texts", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def held_out():
    """Sentences by language, and English texts by source."""
    texts = texts_of_the_table()
    languages, sources = {}, {}
    for language, sentence in texts.sentences(SHARED):
        if texts.part_of(sentence) == texts.HELD_OUT:
            languages.setdefault(language, []).append(sentence)
    for source, text in texts.english(SHARED):
        if texts.part_of(text) == texts.HELD_OUT and len(text) >= MIN_CHARACTERS:
            sources.setdefault(source, []).append(text)
    assert len(languages) == 75
    return languages, sources


def share_kept(kind, texts):
    removed = LanguageGate(LanguageConfig(), kind).removed(texts)
    return np.mean([reason is None for reason in removed])


def let_through(kind, texts_by_language):
    """Mean over languages of the share that passes."""
    return np.mean([share_kept(kind, texts) for texts in texts_by_language.values()])


@needs_data
@judged_kinds
def test_sentences_that_were_held_out(held_out, kind):
    languages = dict(held_out[0])
    english = languages.pop("en")
    assert len(english) > 150
    assert share_kept(kind, english) >= MIN_KEPT
    assert let_through(kind, languages) <= MAX_LET_THROUGH


@needs_data
@pytest.mark.parametrize(
    ("kind", "source", "at_least"),
    [
        *(("web", "c4", 180), ("books", "books", 200), ("books", "stories", 150)),
        *((kind, source, number) for kind in ("docs", "chat") for source, number in DOCS.items()),
    ],
)
def test_english_documents_that_were_held_out(held_out, kind, source, at_least):
    texts = held_out[1][source]
    assert len(texts) >= at_least
    assert share_kept(kind, texts) >= MIN_KEPT


@needs_data
@pytest.mark.parametrize("kind", ["web", "docs"])
def test_prose_of_articles_that_no_part_of_the_table_saw(kind):
    path = SHARED / "corpora" / "wikitext-2-raw" / "wikitext-test.txt"
    paragraphs = [line for line in path.read_text(encoding="utf-8").splitlines() if len(line) >= MIN_CHARACTERS]
    assert len(paragraphs) > 1500
    assert share_kept(kind, paragraphs) >= MIN_KEPT


@needs_data
@judged_kinds
def test_documents_of_held_out_sentences_in_other_languages(held_out, kind):
    documents = {
        language: [" ".join(sentences[start : start + 8]) for start in range(0, len(sentences), 8)]
        for language, sentences in held_out[0].items()
        if language != "en"
    }
    assert let_through(kind, documents) <= MAX_LET_THROUGH


@needs_data
@pytest.mark.parametrize("kind", ["docs", "chat"])
def test_pages_of_commands_in_other_languages(held_out, kind):
    def page(number, lines):
        options = "\n\n".join(f"- {line}\n\n`run --option {{{{value}}}}`" for line in lines)
        return (
            f"# tool-{number}\n\n> Unix tool. See https://example.org/tool\n\n{options}\n\n```sh\nmake the tool\n```\n"
        )

    pages = {
        language: [page(start, sentences[start : start + 2]) for start in range(0, len(sentences), 2)]
        for language, sentences in held_out[0].items()
        if language != "en"
    }
    assert let_through(kind, pages) <= MAX_LET_THROUGH


@needs_data
@pytest.mark.parametrize("kind", ["web", "books"])
def test_books_in_other_languages(kind):
    texts = texts_of_the_table()
    paths = [path for path in (SHARED / "corpora" / "gutenberg").glob("*.txt") if not path.name.startswith("en_")]
    books = {path.stem: [text for text in texts.chunks(texts.book(path)) if len(text) >= 100] for path in paths}
    assert len(books) >= 5 and min(map(len, books.values())) > 40
    assert let_through(kind, books) <= MAX_LET_THROUGH


@needs_data
def test_answers_to_instructions(held_out):
    folder = SHARED / "instructions"
    records = [
        *json.loads((folder / "llamafactory" / "alpaca_en_demo.json").read_text()),
        *json.loads((folder / "raschka-instructions" / "instruction-data.json").read_text()),
    ]
    answers = [record["output"] for record in records if len(record["output"]) >= MIN_CHARACTERS]
    answers += held_out[1]["chat"]
    assert len(answers) > 500
    assert share_kept("chat", answers) >= MIN_KEPT


def sections(path):
    """The parts of a page under its headings."""
    return [text for text in re.split(r"^#+ ", path.read_text(encoding="utf-8"), flags=re.MULTILINE) if text.strip()]


def test_this_repositorys_documentation_and_its_sections():
    paths = [*REPOSITORY.glob("*.md"), *(REPOSITORY / "docs").rglob("*.md")]
    pages = [path.read_text(encoding="utf-8") for path in paths]
    short = [text for path in paths for text in sections(path) if len(text) >= MIN_CHARACTERS]
    assert len(pages) >= 10 and len(short) >= 100
    for kind in ("web", "docs"):
        assert share_kept(kind, pages) == 1
    assert share_kept("docs", short) >= 0.98, "some are tables of numbers with few words"


def standard_library():
    """Sources of Python's standard library, without its tests and what is no text."""
    folder = Path(sysconfig.get_paths()["stdlib"])
    for path in sorted([*folder.glob("*.py"), *folder.glob("*/*.py")]):
        if not {"site-packages", "test", "idlelib", "turtledemo"} & set(path.relative_to(folder).parts):
            yield path.read_text(encoding="utf-8", errors="replace")


def docstrings(source):
    """What its module, classes and functions say of themselves."""
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef)
    return [ast.get_docstring(node) or "" for node in ast.walk(ast.parse(source)) if isinstance(node, kinds)]


def test_docstrings_are_short_pages():
    sources = itertools.islice(standard_library(), 0, None, 3)
    short = [text for source in sources for text in docstrings(source) if len(text) >= MIN_CHARACTERS]
    assert len(short) > 500
    for kind in ("web", "docs"):
        assert share_kept(kind, short) >= MIN_KEPT


def test_code_is_untouched():
    sources = list(standard_library())
    assert len(sources) > 300
    assert share_kept("code", sources) == 1
    long = [source for source in sources if len(source) >= MIN_CHARACTERS]
    assert share_kept("docs", long) >= MIN_KEPT, "nor where a page is nothing but code"
