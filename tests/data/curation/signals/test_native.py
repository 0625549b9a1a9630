"""The compiled signals equal the definition to the last bit, on hostile text and on real text."""

import logging
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mamba_slm.core.errors import SetupError
from mamba_slm.data.curation.signals import native
from mamba_slm.data.curation.signals.definition import COLUMN, NAMES, measure
from mamba_slm.data.curation.signals.native import measure_bytes, measure_texts, native_library, to_matrix, to_signals

SHARED = Path(__file__).parents[4].parent / "shared" / "data"
needs_data = pytest.mark.skipif(not SHARED.is_dir(), reason="needs ../shared/data, which is not here")

PIECES = (
    *(
        " ",
        "  ",
        "\n",
        "\n\n",
        "\r\n",
        "\t",
        "\v\f",
        "\x1c\x1f",
        "\x85",
        "\xa0",
        "\u2003",
        "\u2028",
        "\u3000",
        "\u200b",
    ),
    *(
        "a",
        "b",
        "ab",
        "The",
        "of",
        "with",
        "don't",
        "é",
        "é",
        "ß",
        "中文",
        "ΑΒ",
        "𝔘",
        "🙂",
        "\ud800",
        "\0",
        "\x7f",
        "\ufeff",
    ),
    *(
        ".",
        "...",
        "....",
        "…",
        "?",
        "!”",
        ")",
        "“",
        "'",
        "*",
        "#",
        "##",
        "{",
        "}",
        "-",
        "—",
        "•",
        "1",
        "٣",
        "=====",
        "aaaa",
    ),
    *(
        "http://a.b",
        "www.x",
        "(WWW.y)",
        "://",
        ":/",
        "javascript",
        "Lorem",
        "ipsum",
        "terms",
        "use",
        "cookies",
        "policy",
    ),
    *(
        "privacy",
        "cookie",
        "uses",
        "antidisestablishment",
        "1234567",
        "12345678",
        "123456789012345x",
        "1234567890123456",
    ),
    *("x" * 63, "y" * 64, "z" * 65, "é" * 40, "ab" * 40),
)
pieces = st.lists(st.sampled_from(PIECES), max_size=60).map("".join)
repeating = st.builds(lambda few, times, rest: (few * times) + rest, pieces, st.integers(0, 6), pieces)
hostile = st.one_of(pieces, repeating, st.text(st.characters(), max_size=200))


def assert_equal_to_definition(texts):
    assert native_library() is not None, "no compiler"
    measured, expected = measure_texts(texts), to_matrix([measure(text) for text in texts])
    for text, one, other in zip(texts, measured, expected, strict=True):
        unlike = [(name, int(a), int(b)) for name, a, b in zip(NAMES, one, other, strict=True) if a != b]
        assert not unlike, f"(signal, measured, defined) {unlike} of {text[:2000]!r}"


@settings(max_examples=300, deadline=None)
@given(st.lists(hostile, max_size=4))
def test_any_text_has_the_signals_of_the_definition(texts):
    assert_equal_to_definition(texts)


@pytest.mark.parametrize("width", range(1, 140))
def test_words_and_spaces_may_lie_across_any_border_of_a_block(width):
    lines = ["x" * width + "\u3000y", "é" * width + "\u2003.", " " * width + "word...\n\n", "a\n" * width]
    assert_equal_to_definition(lines)


def test_code_points_of_all_planes_are_classed_alike():
    starts = [0, 0x1000, 0x2000, 0x3000, 0xA000, 0xD800, 0xF800, 0x10000, 0x1D000, 0x1F000, 0x2F800, 0xE0000, 0x10F800]
    texts = ["".join(f" a{chr(code)} {chr(code)}b\n" for code in range(start, start + 0x400)) for start in starts]
    assert_equal_to_definition(texts)


def test_a_text_that_is_one_repetition_has_every_ngram_covered():
    assert_equal_to_definition(["again " * 3000, "a\n" * 3000, "x" * 20_000, "\n" * 20_000, "a b " * 2000 + "c"])


def test_many_distinct_words_outgrow_the_table():
    assert_equal_to_definition([" ".join(map(str, range(20_000))), " ".join(chr(0x4E00 + i) for i in range(5000)) * 2])


def test_a_batch_measures_each_text_alone():
    texts = ["the cat", "", "the cat\n\nthe cat", " ", "\u3000", "é"]
    together = measure_texts(texts)
    assert np.array_equal(together, np.concatenate([measure_texts([text]) for text in texts]))
    assert measure_texts([]).shape == (0, len(NAMES))


def test_bytes_may_begin_anywhere_in_a_buffer():
    content = b"skipped the cat sat" + b"\xff"
    matrix = measure_bytes(content, np.array([8, 15, 19], np.int32))
    assert np.array_equal(matrix, measure_texts(["the cat", " sat"]))
    assert to_signals(matrix[0]) == measure("the cat")


def test_bytes_that_are_no_utf8_are_measured_as_something():
    generator = np.random.default_rng(1)
    for size in (1, 3, 63, 64, 65, 5000):
        matrix = measure_bytes(generator.integers(0, 256, size, np.uint8), np.array([0, size]))
        assert (matrix >= 0).all() and (matrix <= size).all()
    assert measure_bytes(b"\xe3\x80", np.array([0, 2]))[0, COLUMN["words"]] == 1


def test_without_a_compiler_the_definition_is_used_and_says_so(monkeypatch, caplog):
    def no_compiler(source):
        raise SetupError("no native kernels: there is no g++")

    texts = ["the cat\ud800", "", "le chat.\n\nle chat."]
    expected = measure_texts(texts)
    native_library.cache_clear()
    monkeypatch.setattr(native, "load_library", no_compiler)
    try:
        with caplog.at_level(logging.WARNING):
            assert np.array_equal(measure_texts(texts), expected)
            measure_texts(texts)
        assert [record.getMessage() for record in caplog.records] == [
            "quality signals=python (no native kernels: there is no g++); compiled ones are 200 times faster"
        ]
    finally:
        native_library.cache_clear()


def real_texts():
    """Texts of 2,000 characters from all kinds of real files, those that are no UTF-8 included."""
    for path in sorted((SHARED / "corpora").rglob("*")) + sorted((SHARED / "curation").rglob("*")):
        if path.is_file() and path.suffix in {
            ".txt",
            ".jsonl",
            ".json",
            ".tsv",
            ".csv",
            ".md",
            ".raw",
            ".tokens",
            ".xml",
        }:
            text = path.read_bytes().decode(errors="replace")
            yield from (text[start : start + 2000] for start in range(0, len(text), 2000))


@needs_data
def test_real_text_has_the_signals_of_the_definition():
    assert_equal_to_definition([text for text in real_texts() if zlib.crc32(text.encode()) % 20 == 0][:150])


@needs_data
@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_thousands_of_real_texts_have_the_signals_of_the_definition():
    texts = [text for text in real_texts() if zlib.crc32(text.encode()) % 5 == 1]
    assert len(texts) > 4000
    assert_equal_to_definition(texts)
