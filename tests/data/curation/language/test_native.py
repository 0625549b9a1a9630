"""The compiled evidence equals the definition to the last bit, on hostile text and on real text."""

import logging
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mamba_slm.core.errors import SetupError
from mamba_slm.data.curation.language import native
from mamba_slm.data.curation.language.definition import weigh
from mamba_slm.data.curation.language.native import native_library, scorer, to_matrix, weigh_texts

SHARED = Path(__file__).parents[4].parent / "shared" / "data"
PIECES = (
    *("`", "``", "```", "````", "\n", "\r\n", "\n```\n", "\n  ```sh\n", " ", "\t", "\x00", "\x1c", "\x7f", "\x85"),
    *("a", "the", "The", "É", "don't", "’", "'", "-", "--", "_", "(", ")", "[", "*", ".", ",", "1", "/", '"', "#", "{"),
    *("Ж", "ЖЖ", "中文字", "α", "🙂", "×", "\u200b", "\ud800", "\uffff", "\ufeff", "İ", "ß", "ṭ", "e\u0301", "𝐁", "𠀀"),
    *("Zürich", "well-known", "x" * 29, "y" * 30, "z" * 31, "é" * 33, "w" * 300),
)
hostile = st.one_of(st.lists(st.sampled_from(PIECES), max_size=60).map("".join), st.text(st.characters(), max_size=200))


def assert_equal_to_definition(texts):
    assert native_library() is not None, "no compiler"
    measured, expected = weigh_texts(texts), to_matrix([weigh(text, scorer()) for text in texts])
    for text, one, other in zip(texts, measured.tolist(), expected.tolist(), strict=True):
        assert one == other, f"compiled {one}, defined {other}, of {text[:2000]!r}"


@settings(max_examples=500, deadline=None)
@given(st.lists(hostile, max_size=4))
def test_any_text_has_the_evidence_of_the_definition(texts):
    assert_equal_to_definition(texts)


def test_characters_of_all_planes_are_folded_alike():
    starts = [0, 0x1000, 0x2000, 0x3000, 0xA000, 0xD800, 0xF800, 0x10000, 0x1D000, 0x1F000, 0x2F800, 0xE0000, 0x10F800]
    texts = ["".join(f" a{chr(code)} {chr(code)}b\n" for code in range(start, start + 0x400)) for start in starts]
    assert_equal_to_definition(texts)


def test_long_texts_of_one_kind_are_weighed_alike():
    assert_equal_to_definition(
        ["a" * 1_000_000, "Ж" * 100_000, "the " * 50_000, "`" * 100_000, "` " * 50_000, "```\n" * 20_000, "-" * 100_000]
    )


def test_a_batch_weighs_each_text_alone():
    texts = ["the cat", "", "le chat ```", "```\n", "привет", "\u3000"]
    together = weigh_texts(texts)
    assert np.array_equal(together, np.concatenate([weigh_texts([text]) for text in texts]))
    assert weigh_texts([]).shape == (0, 3)


def test_without_a_compiler_the_definition_is_used_and_says_so(monkeypatch, caplog):
    def no_compiler(source):
        raise SetupError("no native kernels: there is no g++")

    texts = ["the cat\ud800", "", "le chat `x` n’est pas", "Привет, мир"]
    expected = weigh_texts(texts)
    native_library.cache_clear()
    monkeypatch.setattr(native, "load_library", no_compiler)
    try:
        with caplog.at_level(logging.WARNING):
            assert np.array_equal(weigh_texts(texts), expected)
            weigh_texts(texts)
        assert [record.getMessage() for record in caplog.records] == [
            "language gate=python (no native kernels: there is no g++); the compiled one is 25 times faster"
        ]
    finally:
        native_library.cache_clear()


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs ../shared/data, which is not here")
def test_real_text_of_75_languages_has_the_evidence_of_the_definition():
    paths = sorted((SHARED / "curation" / "langid").glob("*.txt")) + sorted((SHARED / "corpora").rglob("*.json*"))
    assert len(paths) > 75
    assert_equal_to_definition([path.read_bytes()[:5_000].decode(errors="replace") for path in paths])
