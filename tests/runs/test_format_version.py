import pytest

from mamba_slm.core.errors import DataError, SetupError
from mamba_slm.runs.format_version import read_versioned_json


def rename_steps(content):
    content["step"] = content.pop("steps")
    return content


def double_step(content):
    content["step"] *= 2
    return content


def read(path, supported=3):
    return read_versioned_json(path, supported=supported, migrations={1: rename_steps, 2: double_step})


def test_an_older_file_passes_through_every_migration_in_turn(tmp_path):
    path = tmp_path / "file.json"
    path.write_text('{"format_version": 1, "steps": 5}')
    assert read(path)["step"] == 10
    path.write_text('{"format_version": 2, "step": 5}')
    assert read(path)["step"] == 10


def test_a_newer_file_is_refused_with_what_to_type(tmp_path):
    path = tmp_path / "file.json"
    path.write_text('{"format_version": 4}')
    with pytest.raises(SetupError, match="format version 4, this package reads up to 3") as caught:
        read(path)
    assert "pip install --upgrade mamba-slm" in caught.value.hint


@pytest.mark.parametrize("version", ["null", "0", "-1", "true", '"2"', "1.0"])
def test_a_file_without_a_usable_version_is_damaged(tmp_path, version):
    path = tmp_path / "file.json"
    path.write_text(f'{{"format_version": {version}}}')
    with pytest.raises(DataError, match="no usable format_version"):
        read(path)


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\xff\xfe"])
def test_a_damaged_file_is_named(tmp_path, content):
    (tmp_path / "file.json").write_bytes(content)
    with pytest.raises(DataError, match=r"file\.json"):
        read(tmp_path / "file.json")
