import bz2
import gzip
import lzma
import os
import sys
import tracemalloc

import pytest
import zstandard

from mamba_slm.core.errors import DataError, MissingDependencyError
from mamba_slm.data import compressed
from mamba_slm.data.compressed import open_bytes, without_compression


@pytest.fixture(autouse=True, params=["isal", "gzip"])
def reader_of_gz(request, monkeypatch):
    """Every test with the fast reader of .gz files, and with the one that is always there."""
    if request.param == "gzip":
        monkeypatch.setitem(sys.modules, "isal", None)


NAMES = ["a.txt.gz", "a.txt.zst", "a.txt.bz2", "a.txt.xz"]
CONTENT = b"".join(b"line %d of some text\n" % number for number in range(20_000))


def pack(name, content):
    packers = [gzip.compress, zstandard.ZstdCompressor().compress, bz2.compress, lzma.compress]
    return {"a.txt": bytes, **dict(zip(NAMES, packers, strict=True))}[name](content)


@pytest.mark.parametrize("name", ["a.txt", *NAMES])
@pytest.mark.parametrize("parts", [[b""], [CONTENT], [CONTENT, b"", b"more\n"]])
def test_the_content_comes_back_whatever_the_compression(tmp_path, name, parts):
    file = tmp_path / name
    file.write_bytes(b"".join(pack(name, part) for part in parts))  # members and frames may follow each other
    with open_bytes(file) as stream:
        assert stream.readline() == b"".join(parts)[:1000].split(b"\n")[0] + (b"\n" if any(parts) else b"")
        assert stream.readline() + stream.read() == b"".join(parts)[len(b"line 0 of some text\n") :]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("missing", [1, 5, 1000])
def test_a_compressed_file_that_was_cut_off_is_an_error_not_an_end(tmp_path, name, missing):
    file = tmp_path / name
    file.write_bytes(pack(name, CONTENT)[:-missing])
    with pytest.raises(DataError, match="is cut off"), open_bytes(file) as stream:
        stream.read()


@pytest.mark.parametrize("name", NAMES)
def test_a_file_that_is_not_compressed_is_named(tmp_path, name):
    file = tmp_path / name
    file.write_bytes(b"just text")
    with pytest.raises(DataError, match=r"a\.txt\.\w+ is not a valid \.\w+ file"), open_bytes(file) as stream:
        stream.read()


@pytest.mark.parametrize("name", NAMES)
def test_a_damaged_file_is_named(tmp_path, name):
    file = tmp_path / name
    content = bytearray(pack(name, CONTENT))
    content[len(content) // 2] ^= 0xFF
    file.write_bytes(content if name != "a.txt.zst" else b"\x28\xb5\x2f\xfd" + content[9:])
    with pytest.raises(DataError, match="is not a valid"), open_bytes(file) as stream:
        stream.read()


@pytest.mark.parametrize("name", ["a.txt.bz2", "a.txt.xz", "a.txt.zst", "a.txt.gz"])
def test_a_damaged_second_stream_is_not_taken_for_the_end(tmp_path, name):
    file = tmp_path / name
    file.write_bytes(pack(name, CONTENT) + b"BZh9garbage that is no stream")
    with pytest.raises(DataError, match="is not a valid"), open_bytes(file) as stream:
        stream.read()


def test_the_padding_between_xz_streams_is_passed_over(tmp_path):
    file = tmp_path / "a.txt.xz"
    file.write_bytes(lzma.compress(b"one ") + bytes(8) + lzma.compress(b"two") + bytes(4))
    with open_bytes(file) as stream:
        assert stream.read() == b"one two"


@pytest.mark.parametrize("name", NAMES)
def test_a_decompression_bomb_is_refused_before_it_fills_the_memory(tmp_path, monkeypatch, name):
    monkeypatch.setattr(compressed, "HARMLESS_BYTES", 1 << 20)
    file = tmp_path / name
    file.write_bytes(pack(name, bytes(8 << 20)) * 4)
    tracemalloc.start()
    with pytest.raises(DataError, match="expands more than 200 times") as caught, open_bytes(file) as stream:
        while stream.read(1 << 16):
            pass
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert "--on-error skip" in str(caught.value.hint) and peak < 16 << 20  # of 32
    with open_bytes(file, max_expansion=1 << 20) as stream:
        assert sum(iter(lambda: len(stream.read(1 << 20)), 0)) == 32 << 20


@pytest.mark.parametrize("name", NAMES)
def test_a_megabyte_of_one_character_is_no_bomb(tmp_path, name):
    file = tmp_path / name
    file.write_bytes(pack(name, b"a" * (1 << 20)))
    with open_bytes(file) as stream:
        assert stream.read() == b"a" * (1 << 20)


def test_a_folder_or_missing_file_is_a_data_error(tmp_path):
    for path in (tmp_path, tmp_path / "none.txt"):
        with pytest.raises(DataError, match="cannot read"), open_bytes(path):
            pass


def test_reading_zst_without_the_package_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "zstandard", None)
    file = tmp_path / "a.txt.zst"
    file.write_bytes(b"")
    with (
        pytest.raises(MissingDependencyError, match=r"reading a\.txt\.zst needs zstandard") as caught,
        open_bytes(file),
    ):
        pass
    assert caught.value.hint == "pip install 'mamba-slm[data]'"


def test_the_suffix_of_the_compression_is_taken_off(tmp_path):
    names = {"a.jsonl.gz": "a.jsonl", "a.JSONL.ZST": "a.JSONL", "a.txt": "a.txt", "a.b": "a.b"}
    assert {name: without_compression(tmp_path / name).name for name in names} == names


def test_lines_before_the_place_where_a_zst_file_was_cut_off_are_read(tmp_path):
    lines = b"".join(b"line %d %s\n" % (number, os.urandom(40).hex().encode()) for number in range(20_000))
    whole = zstandard.ZstdCompressor().compress(lines)
    file = tmp_path / "a.txt.zst"
    file.write_bytes(whole[: len(whole) // 2])
    read = []
    with pytest.raises(DataError, match="cut off"), open_bytes(file) as stream:
        while line := stream.readline():
            read.append(line)
    content = b"".join(read)
    assert lines.startswith(content)
    assert len(content) > len(lines) // 3  # all whole blocks before the cut, not only whole buffers
