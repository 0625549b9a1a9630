"""Where records stand, in every kind of file and folder."""

import gzip
import json

import pyarrow
import pyarrow.parquet
import pytest

from mamba_slm.core.errors import ConfigError, DataError
from mamba_slm.data.conversations.example import Problem
from mamba_slm.data.conversations.records import local_records
from mamba_slm.data.curation.blocks import zstandard

RECORDS = [{"text": "one"}, {"text": "two"}]


def found(path, split=None):
    return list(local_records(path, split))


def origins_and_records(path, split=None):
    return [one for one in found(path, split) if not isinstance(one, Problem)]


def test_items_of_a_json_file_are_named_with_the_line_where_they_begin(tmp_path):
    file = tmp_path / "a.json"
    file.write_text("\n\n" + json.dumps(RECORDS, indent=4) + "\n", encoding="utf-8")
    assert found(file) == [("a.json, item 1 (line 4)", RECORDS[0]), ("a.json, item 2 (line 7)", RECORDS[1])]
    lines = file.read_text().split("\n")
    assert lines[3].strip() == lines[6].strip() == "{"


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.jsonl.gz"])
def test_lines_are_numbered_blank_ones_included_and_broken_ones_are_problems(tmp_path, name):
    file = tmp_path / name
    content = b'{"text": "one"}\n\n{"text": \n{"text": "two"}\n'
    file.write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    first, broken, last = found(file)
    assert (first, last) == ((f"{name}, line 1", RECORDS[0]), (f"{name}, line 4", RECORDS[1]))
    assert isinstance(broken, Problem)
    assert (broken.kind, broken.origin) == ("broken record", f"{name}, line 3")


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ('[{"a": 1},\n {"a": ]', "Expecting value at line 2, column 8"),
        ('[{"a": 1}\n {"a": 2}]', "Expecting ',' or '\\]' at line 2, column 2"),
        ('[{"a": 1},\n]', "Illegal trailing comma at line 2, column 1"),
        ('[{"a": 1}', "Expecting ',' or '\\]' at line 1, column 10"),
        ("[1,\n2]\n[2, 3", "Extra data at line 3, column 1"),
        ('{"a": 1} 2', "Extra data at line 1, column 10"),
        ("  \n", "is empty"),
        ("[", "Expecting value"),
    ],
)
def test_a_file_that_is_not_json_is_refused_with_the_place(tmp_path, text, where):
    file = tmp_path / "a.json"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=where):
        found(file)


def test_a_list_without_items_and_one_record_alone_are_read(tmp_path):
    file = tmp_path / "a.json"
    file.write_text("[ ]", encoding="utf-8")
    assert found(file) == []
    file.write_text('\n{"text":\n "one"}', encoding="utf-8")
    assert found(file) == [("a.json, line 2", RECORDS[0])]


def test_rows_of_parquet_and_arrow_files_are_records(tmp_path):
    table = pyarrow.Table.from_pylist(RECORDS)
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    with pyarrow.ipc.new_stream(tmp_path / "b.arrow", table.schema) as stream:
        stream.write_table(table)
    for name in ("a.parquet", "b.arrow"):
        assert found(tmp_path / name) == [(f"{name}, row 1", RECORDS[0]), (f"{name}, row 2", RECORDS[1])]
        (tmp_path / name).write_bytes(b"nothing of the kind")
        with pytest.raises(DataError, match=f"{name} is not a valid"):
            found(tmp_path / name)


def saved(path, *texts):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8")


def texts(path, split=None):
    return [record["text"] for _, record in origins_and_records(path, split)]


@pytest.mark.parametrize("names", [("train.jsonl", "test.jsonl"), ("train/a.jsonl", "test/a.jsonl")])
def test_of_a_folder_with_splits_the_one_for_training_is_read(tmp_path, names):
    for name in names:
        saved(tmp_path / name, name)
    (tmp_path / "dataset_info.json").write_text("{}", encoding="utf-8")
    assert texts(tmp_path) == texts(tmp_path, "train") == [names[0]]
    assert texts(tmp_path, "test") == [names[1]]
    with pytest.raises(ConfigError, match="has no split 'dev'") as refused:
        found(tmp_path, "dev")
    assert refused.value.hint == "its splits: test, train"


def test_splits_of_the_hub_keep_their_names_and_their_parts_belong_together(tmp_path):
    for number in (0, 1):
        saved(tmp_path / "data" / f"train_sft-0000{number}-of-00002.jsonl", f"sft {number}")
    saved(tmp_path / "data" / "train_gen-00000-of-00001.jsonl", "gen")
    assert texts(tmp_path, "train_sft") == ["sft 0", "sft 1"]
    with pytest.raises(ConfigError, match="has the splits train_gen, train_sft"):
        found(tmp_path)


def test_all_files_of_a_folder_without_splits_are_read_in_order(tmp_path):
    saved(tmp_path / "b.jsonl", "b")
    saved(tmp_path / "a" / "z.jsonl", "z")
    assert [origin for origin, _ in origins_and_records(tmp_path)] == ["a/z.jsonl, line 1", "b.jsonl, line 1"]
    with pytest.raises(ConfigError, match="has no split 'train'"):
        found(tmp_path, "train")


def test_what_is_no_file_of_records_is_refused(tmp_path):
    (tmp_path / "a.txt").write_text("hello", encoding="utf-8")
    with pytest.raises(DataError, match=r"a\.txt is not a file of conversations") as refused:
        found(tmp_path / "a.txt")
    assert ".jsonl" in str(refused.value.hint)
    with pytest.raises(DataError, match="there is no file or folder"):
        found(tmp_path / "b.jsonl")


def test_of_a_curated_folder_only_what_stayed_is_read(tmp_path):
    for name in ("part-00000.jsonl.zst", "removed/removed-00000.jsonl.zst"):
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(zstandard().compress(json.dumps({"text": file.parent.name}).encode()))
    saved(tmp_path / "curation.json", "settings")
    assert [record for _, record in origins_and_records(tmp_path)] == [{"text": tmp_path.name}]
