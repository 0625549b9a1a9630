"""What must not stop a run: each of these is an error with its place, or a counted reject, and the rest goes on."""

import gzip
import io
import json
import sys
import tracemalloc

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mamba_slm.core.errors import DataError
from mamba_slm.data import compressed
from mamba_slm.data.reading.options import ReadOptions
from mamba_slm.data.reading.report import ReadReport
from mamba_slm.data.reading.source_file import SourceFile

GOOD = b'{"text": "good"}\n'


def test_a_folder_of_binary_files_is_counted_file_by_file(read, tmp_path):
    for number in range(5):
        (tmp_path / f"{number}.bin").write_bytes(bytes(range(256)) * 1000)
    (tmp_path / "readme.txt").write_text("text")
    (tmp_path / "photo.txt").write_bytes(b"\xff\xd8\xff\xe0\x00\x10JFIF" + bytes(1000))
    found = read(tmp_path, pattern="*")
    assert found.texts == ["text"] and found.report.num_problems == 6
    assert found.problems[0] == f"{tmp_path}/0.bin is a binary file: byte 0x00 at offset 0"
    assert read(tmp_path).report.other_files == {".bin": 5}


def test_a_folder_of_nothing_but_binary_files_is_an_error(read, tmp_path):
    (tmp_path / "a.txt").write_bytes(bytes(10))
    with pytest.raises(DataError, match=r"no text in .*: 1 files, 0 documents without text, 1 that could not be read"):
        read(tmp_path)


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.csv"])
def test_an_enormous_line_is_passed_over_in_bounded_memory(read, tmp_path, name):
    head, good = (b"text\n", b"good\n") if name == "a.csv" else (b"", GOOD)
    content = head + good + b'"' + b"x" * 30_000_000 + b'"\n' + good
    content = gzip.compress(content) if name.endswith("gz") else content
    tracemalloc.start()
    found = read(name, content, max_document_bytes=1 << 20)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found.texts == ["good", "good"] and peak < 8 << 20
    line = 3 if name == "a.csv" else 2
    assert found.problems == [f"{tmp_path}/{name}:{line}: the line is longer than 1.00 MiB (28.6 MiB)"]


class Endless(io.RawIOBase):
    """A line of so many bytes that never exists as a whole."""

    def __init__(self, num_bytes):
        self.left = num_bytes

    def readable(self):
        return True

    def readinto(self, buffer):
        count = min(len(buffer), self.left)
        buffer[:count] = b"x" * count
        self.left -= count
        return count


def test_a_line_of_a_gigabyte_takes_no_more_memory_than_the_limit(tmp_path):
    options = ReadOptions(max_document_bytes=1 << 20)
    source = SourceFile(file=tmp_path / "a", name="a", source="a", options=options, report=ReadReport())
    tracemalloc.start()
    lines = list(source.numbered_lines(io.BufferedReader(Endless(1_000_000_000), 1 << 20)))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert str(lines[0][1]) == f"{tmp_path}/a:1: the line is longer than 1.00 MiB (954 MiB)" and len(lines) == 1
    assert peak < 8 << 20


def test_a_sparse_file_of_ten_gigabytes_is_binary_before_it_is_in_memory(read, tmp_path):
    for name in ("a.txt", "a.jsonl", "a.csv"):
        with (tmp_path / name).open("wb") as file:
            file.truncate(10 << 30)
        tracemalloc.start()
        with pytest.raises(DataError, match="is a binary file: byte 0x00 at offset 0"):
            read(tmp_path / name, on_error="stop", max_document_bytes=1 << 20)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 8 << 20


@pytest.mark.parametrize(
    "bad",
    [
        b"{broken\n",
        b"ze\0ro\n",
        b'{"text": "\\ud800"}\n',
        b'{"text": "caf\xe9"}\n',
        b'{"text": 1}\n',
        b"\xff\xfe\xfd\n",
    ],
)
def test_a_bad_line_in_the_middle_costs_only_itself(read, bad):
    found = read("a.jsonl", GOOD + bad + GOOD)
    assert found.texts == ["good", "good"] and found.ids == ["a.jsonl:1", "a.jsonl:3"]
    assert found.report.num_problems == 1 and "a.jsonl:2" in found.problems[0]


def test_lone_surrogates_and_wrong_bytes_are_repaired_only_when_asked(read):
    lines = GOOD + b'{"text": "a\\ud83d"}\n' + b'{"text": "caf\xe9 \x81"}\n'
    found = read("a.jsonl", lines, encoding_errors="repair")
    assert found.texts == ["good", "a\ufffd", "café \ufffd"] and not found.problems
    assert (found.report.num_repaired, found.report.num_repaired_characters) == (2, 3)
    assert "2 repaired: 3 bytes" in str(found.report)
    assert read("b.txt", b"\x93caf\xe9\x94", encoding_errors="repair").texts == ["“café”"]
    assert read("c.txt", "né".encode("utf-16") + b"\x00\xdc", encoding_errors="repair").texts == ["né\ufffd"]


def test_a_bomb_in_a_folder_costs_only_itself(read, tmp_path, monkeypatch):
    monkeypatch.setattr(compressed, "HARMLESS_BYTES", 1 << 20)
    (tmp_path / "bomb.jsonl.gz").write_bytes(gzip.compress(b'"' + b"a" * 20_000_000 + b'"\n'))
    (tmp_path / "fine.jsonl").write_bytes(GOOD)
    found = read(tmp_path)
    assert found.texts == ["good"] and "expands more than 200 times" in found.problems[0]
    assert len(read(tmp_path, max_expansion=2000).texts) == 2


def test_a_document_of_fifty_megabytes_and_one_of_a_megabyte_of_one_character_are_read(read):
    large = json.dumps({"text": "ä word " * 7_200_000}, ensure_ascii=False)
    assert len(large.encode()) > 50_000_000
    assert [len(text) for text in read("a.jsonl", large).texts] == [7 * 7_200_000]
    assert read("b.txt", "a" * (1 << 20)).texts == ["a" * (1 << 20)]


def test_a_long_text_is_cut_at_line_ends_and_nothing_is_lost(read):
    content = "".join(f"line {number} ü\n" for number in range(500))
    found = read("a.txt", content, max_document_bytes=1000)
    assert "".join(found.texts) == content and len(found.texts) == 6
    assert found.ids == [f"a.txt:{number}" for number in range(1, 7)]
    assert all(text.endswith("\n") and len(text.encode()) <= 1000 for text in found.texts)
    assert read("a.txt", content).ids == ["a.txt"]


def test_a_text_without_line_ends_or_in_utf16_beyond_the_limit_is_an_error(read):
    with pytest.raises(DataError, match=r"a\.txt:1: a line of the text is longer than 1000 B") as caught:
        read("a.txt", "x" * 2000, max_document_bytes=1000, on_error="stop")
    assert "--max-document-bytes" in str(caught.value.hint)
    with pytest.raises(DataError, match="text in utf-16-le is longer"):
        read("a.txt", ("x\n" * 2000).encode("utf-16"), max_document_bytes=1000, on_error="stop")


def test_a_json_file_beyond_the_limit_says_how_to_have_it_read(read):
    with pytest.raises(DataError, match=r"as JSON Lines, jq -c"):
        read("a.json", json.dumps(["text"] * 1000), max_document_bytes=1000, on_error="stop")
    lines = "".join(json.dumps({"text": f"number {number}"}) + "\n" for number in range(200))
    assert len(read("b.json.gz", gzip.compress(lines.encode()), max_document_bytes=1000).texts) == 200
    with pytest.raises(DataError, match="JSON Lines in UTF-16"):
        read("a.jsonl", ('"text"\n' * 1000).encode("utf-16"), max_document_bytes=1000, on_error="stop")


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False) | st.integers(-(1 << 63), (1 << 64) - 1) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


@given(
    values=st.lists(JSON_VALUES | st.fixed_dictionaries({"text": st.text(), "n": JSON_VALUES}), min_size=1, max_size=6),
    ascii_only=st.booleans(),
    damage=st.sampled_from([b"", b"{", b"\xff", b"\0", b' {"text": "\\ud800"}', b"\xef\xbb\xbf", b"[1,]", b"NaN"]),
)
@settings(
    max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], deadline=None
)
def test_orjson_and_json_give_the_same_documents_and_problems(read, monkeypatch, values, ascii_only, damage):
    lines = [json.dumps(value, ensure_ascii=ascii_only).encode(errors="surrogatepass") for value in values]
    content = b"\n".join([*lines, damage + lines[0], b'{"text": "end", "n": 1.5}'])
    fast = read("a.jsonl", content)
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "orjson", None)
        slow = read("a.jsonl", content)
    assert fast.documents == slow.documents and fast.problems == slow.problems
    assert fast.documents[-1].metadata == {"n": 1.5}
