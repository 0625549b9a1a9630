"""Lines that stand in many documents go from all of them, whatever the parts, the workers and the kernels are."""

import json
import logging
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mamba_slm.core.errors import ConfigError, DataError, SetupError
from mamba_slm.data.curation.duplicates.batches import Texts
from mamba_slm.data.curation.duplicates.parts import MemoryPart
from mamba_slm.data.curation.lines import hashing
from mamba_slm.data.curation.lines.config import LinesConfig
from mamba_slm.data.curation.lines.definition import boilerplate_of, hash_of, without
from mamba_slm.data.curation.lines.find import find_boilerplate
from mamba_slm.data.curation.lines.hashing import hash_native, hash_portable, lines_of, native_library
from mamba_slm.data.curation.phrases.definition import words_of
from mamba_slm.data.document import Document

BANNER = "We use cookies on this site."
SMALL = LinesConfig(max_documents=2, min_words=2)
LINES = (
    "a menu",
    "A  Menu!",
    "two words",
    "one",
    "",
    " ",
    "\t",
    "é è",
    "漢字",
    "a b c d e f g",
    "\x85",
    "x" * 80 + " y",
    "\r",
)
texts_strategy = st.lists(st.sampled_from(LINES), max_size=8).map("\n".join)


def part_of(texts, name="part"):
    return MemoryPart(name=name, documents=[Document(text=text, id=f"{name}-{i}") for i, text in enumerate(texts)])


def run_here(tasks):
    for task in tasks:
        task.run()


def find(parts, folder, config, **settings):
    return find_boilerplate(parts, folder, config, run_tasks=run_here, **settings).read()


def test_a_banner_of_many_pages_goes_and_what_few_say_stays(tmp_path):
    texts = [f"{BANNER}\n\nPage {i} says something of its own here.\nThe end of page {i}.\n" for i in range(6)]
    texts += ["We all know this.\n", "We all know this.\n"]
    found = find([part_of(texts)], tmp_path, LinesConfig())
    cleaned = found.without([*texts, f"New:\n{BANNER.upper()}\nmore"])
    assert [one.text for one in cleaned[:6]] == [text.removeprefix(f"{BANNER}\n\n") for text in texts[:6]]
    assert [one.lines for one in cleaned] == [1] * 6 + [0, 0, 1]
    assert cleaned[0].characters == len(BANNER) + 2
    assert cleaned[6].text is texts[6]
    assert cleaned[8].text == "New:\nmore"


def test_a_line_counts_once_per_document_and_short_lines_never(tmp_path):
    texts = ["again and again and again\n" * 10] * 5 + ["Chapter 1\n"] * 20
    assert not len(find([part_of(texts)], tmp_path, LinesConfig()).hashes)


@settings(max_examples=20, deadline=None)  # each writes files
@given(texts=st.lists(texts_strategy, max_size=8), parts=st.integers(1, 3))
def test_what_is_found_and_taken_out_is_what_the_definition_says(texts, parts, tmp_path_factory):
    folder = tmp_path_factory.mktemp("lines")
    found = find([part_of(texts[number::parts], f"part-{number}") for number in range(parts)], folder, SMALL)
    expected = boilerplate_of(texts, SMALL)
    assert found.hashes.tolist() == sorted(map(hash_of, expected))
    assert [one.text for one in found.without(texts)] == [without(text, expected, SMALL) for text in texts]


@settings(max_examples=150, deadline=None)
@given(st.lists(st.one_of(texts_strategy, st.text(st.characters(exclude_categories=("Cs",)), max_size=40)), max_size=5))
def test_lines_and_their_hashes_are_those_of_the_definition(texts):
    assert native_library() is not None, "no compiler"
    block = Texts.of([text.encode() for text in texts])
    expected = [words_of(line) for text in texts for line in text.split("\n")]
    lines = lines_of(block)
    assert lines.hashes.tolist() == [hash_of(words) for words in expected]
    assert lines.num_words.tolist() == [len(words) for words in expected]
    assert np.diff(lines.starts).tolist() == [text.count("\n") + 1 for text in texts]
    offsets, _ = hashing.line_offsets(block)
    every_line = Texts(data=block.data, offsets=offsets)
    for one, other in zip(hash_native(every_line), hash_portable(every_line), strict=True):
        assert np.array_equal(one, other)


def corpus():
    chance = random.Random(4)
    banners = [f"banner number {i} of the site" for i in range(60)]
    texts = []
    for i in range(400):
        lines = [f"document {i} line {j} is unique" for j in range(8)] + chance.choices(banners, k=4)
        chance.shuffle(lines)
        texts.append("\n".join(lines))
    return texts


def test_the_division_into_parts_and_the_memory_change_nothing(tmp_path):
    texts = corpus()
    expected = find([part_of(texts)], tmp_path / "one", LinesConfig())
    assert len(expected.hashes) == 60
    small = LinesConfig(memory_bytes=1 << 16)
    parts = [part_of(texts[number::3][::-1], f"p{number}") for number in range(3)]
    found = find(parts, tmp_path / "three", small)
    assert np.array_equal(found.hashes, expected.hashes)
    assert len(list((tmp_path / "three" / "merged").iterdir())) > 1


def test_workers_find_the_same_and_a_stopped_search_goes_on(tmp_path):
    texts = corpus()
    parts = [part_of(texts[number::4], f"p{number}") for number in range(4)]
    expected = find(parts, tmp_path / "here", LinesConfig())

    def stops_after_two(tasks):
        run_here(tasks[:2])
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        find_boilerplate(parts, tmp_path / "workers", LinesConfig(), run_tasks=stops_after_two)
    done = sorted((tmp_path / "workers" / "counted").iterdir())
    times = [path.stat().st_mtime_ns for path in done]
    found = find_boilerplate(parts, tmp_path / "workers", LinesConfig(), workers=2).read()
    assert np.array_equal(found.hashes, expected.hashes)
    assert [path.stat().st_mtime_ns for path in done] == times
    with pytest.raises(DataError, match="other documents"):
        find(parts[:3], tmp_path / "workers", LinesConfig())
    assert json.loads((tmp_path / "workers" / "plan.json").read_text())["config"]["max_documents"] == 5


def test_without_documents_there_is_nothing_to_take_out(tmp_path):
    found = find([], tmp_path, LinesConfig())
    assert found.without([]) == [] and found.without(["", "some text\n"])[1].text == "some text\n"


def test_without_a_compiler_numpy_hashes_the_same_and_says_so(monkeypatch, caplog):
    def no_compiler(source):
        raise SetupError("no native kernels: there is no g++")

    block = Texts.of([b"The cat\nsat there", b"", b"\n"])
    expected = lines_of(block)
    native_library.cache_clear()
    monkeypatch.setattr(hashing, "load_library", no_compiler)
    try:
        with caplog.at_level(logging.WARNING):
            assert np.array_equal(lines_of(block).hashes, expected.hashes)
        assert [record.getMessage() for record in caplog.records] == [
            "lines=numpy (no native kernels: there is no g++); compiled ones are 20 times faster"
        ]
    finally:
        native_library.cache_clear()


@pytest.mark.parametrize("wrong", [{"max_documents": 0}, {"min_words": 0}, {"memory_bytes": 1000}])
def test_settings_that_cannot_work_are_refused(wrong):
    with pytest.raises(ConfigError):
        LinesConfig(**wrong)
