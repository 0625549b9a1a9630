"""Promises about cutting input into parts: nothing lost, nothing twice, the same ids, however it is cut."""

import gzip
import json
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mamba_slm.core.errors import ConfigError, DataError
from mamba_slm.data.document import Document
from mamba_slm.data.readers import read_documents
from mamba_slm.data.reading.options import ReadOptions
from mamba_slm.data.reading.parts import PythonLibraryPart, plan_parts
from mamba_slm.data.reading.report import ReadReport


def documents_of(parts, report=None) -> list[Document]:
    report = ReadReport() if report is None else report
    return [document for part in parts for document in part.documents(report)]


def write_lines(path, lines, end="\n"):
    path.write_bytes("".join(line + end for line in lines).encode())
    return path


@given(
    lines=st.lists(
        st.sampled_from(['{"text": "é"}', '{"text": "three words here"}', "", '"a"', "no json"]), max_size=30
    ),
    part_bytes=st.integers(1, 200),
    ends_in_line_end=st.booleans(),
)
def test_lines_are_read_once_with_their_numbers_however_the_file_is_cut(
    tmp_path_factory, lines, part_bytes, ends_in_line_end
):
    file = tmp_path_factory.mktemp("lines") / "a.jsonl"
    content = "\n".join([*lines, '{"text": "last"}']) + ("\n" if ends_in_line_end else "")
    file.write_bytes(content.encode())
    options = ReadOptions(on_error="skip")
    whole, cut = ReadReport(), ReadReport()
    expected = list(read_documents(file, options, report=whole))
    parts = plan_parts([str(file)], options, part_bytes=part_bytes)
    assert documents_of(parts, cut) == expected
    assert sum(part.size_bytes for part in parts) == file.stat().st_size
    assert (cut.num_problems, cut.num_empty, cut.num_files) == (whole.num_problems, whole.num_empty, 1)
    assert sorted(map(str, cut.problems)) == sorted(map(str, whole.problems))


def test_a_large_file_of_lines_becomes_parts_of_about_the_size_asked_for(tmp_path):
    file = write_lines(tmp_path / "a.jsonl", [json.dumps({"text": f"document {number}"}) for number in range(1000)])
    parts = plan_parts([str(file)], part_bytes=4000)
    assert len(parts) == -(-file.stat().st_size // 4000)
    assert all(4000 <= part.size_bytes < 4050 for part in parts[:-1])


def test_a_line_longer_than_a_part_stays_whole(tmp_path):
    file = write_lines(tmp_path / "a.jsonl", [json.dumps({"text": text}) for text in ("a", "b" * 5000, "c")])
    parts = plan_parts([str(file)], part_bytes=100)
    assert [len(document.text) for document in documents_of(parts)] == [1, 5000, 1]


def test_carriage_returns_and_a_byte_order_mark_change_nothing(tmp_path):
    file = tmp_path / "a.jsonl"
    file.write_bytes(b"\xef\xbb\xbf" + b'{"text": "one"}\r\n{"text": "two"}\r\n')
    assert documents_of(plan_parts([str(file)], part_bytes=5)) == list(read_documents(file))


def test_wide_encodings_and_compressed_files_are_not_cut(tmp_path):
    lines = "".join(json.dumps({"text": f"document {number}"}) + "\n" for number in range(100))
    (tmp_path / "wide.jsonl").write_bytes(lines.encode("utf-16"))
    (tmp_path / "packed.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
    parts = plan_parts([str(tmp_path)], part_bytes=100)
    assert len(parts) == 2
    assert documents_of(parts) == list(read_documents(tmp_path))


def test_parquet_is_cut_between_row_groups(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    file = tmp_path / "a.parquet"
    table = pyarrow.table({"text": [f"document {number}" * 20 for number in range(100)], "n": range(100)})
    parquet.write_table(table, file, row_group_size=7)
    parts = plan_parts([str(file)], part_bytes=600)
    assert len(parts) > 3
    assert documents_of(parts) == list(read_documents(file))


def test_small_files_are_grouped_and_inputs_kept_apart(tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        for number in range(10):
            (tmp_path / folder / f"{number}.txt").write_text(f"{folder} {number} " + "x" * 100)
    inputs = [str(tmp_path / "a"), str(tmp_path / "b")]
    parts = plan_parts(inputs, part_bytes=600)
    assert len(parts) == 4
    assert documents_of(parts) == [document for name in inputs for document in read_documents(name)]
    assert "and 4 more" in parts[0].name


def test_parts_can_be_pickled_and_read_again(tmp_path):
    file = write_lines(tmp_path / "a.jsonl", ['{"text": "one"}', '{"text": "two"}'])
    for part in plan_parts([str(file), "python-library"], part_bytes=5):
        again = pickle.loads(pickle.dumps(part))
        assert again == part
        assert list(again.documents(ReadReport())) == list(part.documents(ReadReport()))


def test_the_python_library_is_one_part():
    (part,) = plan_parts(["python-library"])
    assert isinstance(part, PythonLibraryPart) and part.name == "python-library"
    report = ReadReport()
    assert len(list(part.documents(report))) == report.num_documents > 100


def test_a_damaged_parquet_file_is_reported_when_it_is_read(tmp_path):
    file = tmp_path / "a.parquet"
    file.write_bytes(b"PAR1" + b"x" * 1000)
    (part,) = plan_parts([str(file)], part_bytes=100)
    with pytest.raises(DataError, match=r"a\.parquet is not a valid Parquet file"):
        list(part.documents(ReadReport()))


def test_a_missing_input_is_named_before_anything_is_read(tmp_path):
    with pytest.raises(DataError, match="absent"):
        plan_parts([str(tmp_path / "absent.jsonl")])


def test_a_part_needs_a_size(tmp_path):
    with pytest.raises(ConfigError, match="part_bytes"):
        plan_parts(["python-library"], part_bytes=0)
