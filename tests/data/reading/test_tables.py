import csv
import gzip
import io

import pyarrow
import pyarrow.parquet as parquet
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mamba_slm.core.errors import DataError, MissingDependencyError

CELLS = st.text(alphabet=st.characters(exclude_characters="\x00\r", exclude_categories=["Cs"]))
ANY_TEXTS = st.lists(CELLS.filter(str.strip), min_size=1, max_size=8)
one_folder = settings(
    max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], deadline=None
)


def write_parquet(path, columns, **settings):
    parquet.write_table(pyarrow.table(columns), path, **settings)
    return path


@given(texts=ANY_TEXTS, rows=st.integers(1, 4))
@one_folder
def test_rows_of_parquet_come_back_with_the_other_columns(read, tmp_path, texts, rows):
    numbers = list(range(len(texts)))
    file = write_parquet(tmp_path / "a.parquet", {"n": numbers, "text": texts}, row_group_size=rows)
    found = read(file)
    assert found.texts == texts
    assert found.ids == [f"a.parquet:{number + 1}" for number in numbers]
    assert [document.metadata for document in found.documents] == [{"n": number} for number in numbers]


@pytest.mark.parametrize("kind", [pyarrow.string(), pyarrow.large_string(), pyarrow.string_view()])
def test_every_kind_of_text_column_is_read(read, tmp_path, kind):
    assert read(write_parquet(tmp_path / "a.parquet", {"body": pyarrow.array(["é"], kind)}), text_key="body").texts == [
        "é"
    ]


def test_dictionary_encoded_text_is_read(read, tmp_path):
    column = pyarrow.array(["a", "b", "a"]).dictionary_encode()
    assert read(write_parquet(tmp_path / "a.parquet", {"text": column})).texts == ["a", "b", "a"]


def test_a_row_without_text_or_with_wrong_utf8_is_a_problem_of_its_own(read, tmp_path):
    wrong = pyarrow.array([b"good", None, b"caf\xe9", b"also"]).cast(pyarrow.large_binary())
    column = pyarrow.Array.from_buffers(pyarrow.large_string(), 4, wrong.buffers())
    file = write_parquet(tmp_path / "a.parquet", {"text": column})
    found = read(file)
    assert found.texts == ["good", "also"] and found.ids == ["a.parquet:1", "a.parquet:4"]
    assert found.problems == [
        f"{file}:2: the value of 'text' is not text but null",
        f"{file}:3 is not utf-8: byte 0xe9 at offset 3",
    ]
    assert read(file, encoding_errors="repair").texts == ["good", "café", "also"]


def test_a_table_without_such_a_column_names_its_columns(read, tmp_path):
    file = write_parquet(tmp_path / "a.parquet", {"body": ["x"], "n": [1]})
    with pytest.raises(DataError, match="no column 'text'; its columns are: 'body', 'n'") as caught:
        read(file, on_error="stop")
    assert "--text-key COLUMN" in str(caught.value.hint)
    with pytest.raises(DataError, match="the column 'n' is not text but int64"):
        read(file, on_error="stop", text_key="n")


def test_a_damaged_row_group_costs_only_itself(read, tmp_path):
    file = tmp_path / "a.parquet"
    texts = [f"text number {number} " * 50 for number in range(30)]
    write_parquet(file, {"text": texts}, row_group_size=10, use_dictionary=False, write_page_checksum=True)
    group = parquet.ParquetFile(file).metadata.row_group(1).column(0)
    content = bytearray(file.read_bytes())
    end = group.data_page_offset + group.total_compressed_size
    content[end - 30 : end - 10] = bytes(20)
    file.write_bytes(content)
    found = read(file)
    assert found.texts == texts[:10] + texts[20:] and found.ids[10] == "a.parquet:21"
    assert len(found.problems) == 1 and "row group 1 of 3 is damaged" in found.problems[0]


@pytest.mark.parametrize("content", [b"", b"PAR1 nothing of the kind", bytes(1000)])
def test_what_is_no_parquet_is_named(read, tmp_path, content):
    file = tmp_path / "a.parquet"
    file.write_bytes(content)
    with pytest.raises(DataError, match=r"a\.parquet is not a valid Parquet file"):
        read(file, on_error="stop")


def test_a_compressed_parquet_file_says_what_to_do(read):
    with pytest.raises(DataError, match="is a compressed Parquet file") as caught:
        read("a.parquet.gz", gzip.compress(b"PAR1"), on_error="stop")
    assert "a.parquet" in str(caught.value.hint)


def test_parquet_without_pyarrow_says_what_to_install(read, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(MissingDependencyError, match=r"reading a\.parquet needs pyarrow"):
        read("a.parquet", b"PAR1")


@given(texts=ANY_TEXTS)
@one_folder
def test_quoted_fields_of_csv_and_tsv_may_hold_anything(read, texts):
    for name, delimiter in (("a.csv", ","), ("a.TSV", "\t"), ("b.csv.gz", ",")):
        out = io.StringIO(newline="")
        writer = csv.writer(out, delimiter=delimiter, quoting=csv.QUOTE_ALL)
        writer.writerows([["n", "text"], *enumerate(texts)])
        content = out.getvalue().encode()
        found = read(name, gzip.compress(content) if name.endswith("gz") else content)
        assert found.texts == texts
        assert [document.metadata["n"] for document in found.documents] == [str(n) for n in range(len(texts))]


def test_rows_are_numbered_by_the_line_where_they_begin(read, tmp_path):
    found = read("a.csv", 'text,n\n"two\nlines",1\n\nnext,2\nonly one\n"bad" quote,3\nlast,4\n')
    assert found.ids == ["a.csv:2", "a.csv:5", "a.csv:8"] and found.texts == ["two\nlines", "next", "last"]
    assert found.problems == [
        f"{tmp_path}/a.csv:6 has 1 fields, but the header has 2",
        f"{tmp_path}/a.csv:7 is not valid CSV: ',' expected after '\"'",
    ]


def test_wrong_bytes_zero_bytes_and_other_encodings_in_a_table(read, tmp_path):
    found = read("a.csv", b"text\ngood\ncaf\xe9\nze\x00ro\nend\n")
    assert found.texts == ["good", "end"] and "a.csv:3 is not utf-8" in found.problems[0]
    assert "a.csv:4 is a binary file: byte 0x00 at offset 2" in found.problems[1]
    assert read("a.csv", "text\ncafé\n".encode("utf-16")).texts == ["café"]
    assert read("a.csv", "\ufefftext\ncafé\n".encode()).texts == ["café"]
    assert read("a.csv", b"text\ncaf\xe9\n", encoding_errors="repair").texts == ["café"]


def test_a_field_of_ten_megabytes_is_read_and_a_quote_that_never_ends_is_not(read):
    assert read("a.csv", "text\n" + "x" * 10_000_000 + "\n").texts == ["x" * 10_000_000]
    endless = 'text\nfirst\n"never closed\n' + "line\n" * 5_000
    found = read("b.csv", endless, max_document_bytes=10_000)
    assert found.texts[0] == "first" and "is a quote never closed?" in found.problems[0]
    assert len(found.texts) == 1 + 5_000 - 1_998, "what follows the limit are rows again"
