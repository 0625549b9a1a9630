import errno
import json
import os

import pytest

from mamba_slm.core import files
from mamba_slm.core.errors import DiskFullError


def test_a_file_is_replaced_whole_and_missing_folders_are_made(tmp_path):
    path = tmp_path / "a" / "b.txt"
    files.write_text_atomic(path, "é1")
    files.write_text_atomic(path, "é2")
    assert path.read_text(encoding="utf-8") == "é2"
    assert os.listdir(path.parent) == ["b.txt"]
    assert path.stat().st_mode & 0o777 == 0o644


def test_an_error_while_writing_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "a.json"
    files.write_json_atomic(path, {"step": 1})
    with pytest.raises(ValueError, match="JSON"):
        files.write_json_atomic(path, {"loss": float("nan")})

    def refuse(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(DiskFullError, match=r"no space left while writing .*a.json") as caught:
        files.write_json_atomic(path, {"step": 2})
    assert "it continues" in caught.value.hint
    assert json.loads(path.read_text()) == {"step": 1}
    assert os.listdir(tmp_path) == ["a.json"]


def test_other_errors_of_the_system_stay_what_they_are(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"exists|directory"):
        files.write_text_atomic(tmp_path / "file" / "below", "x")


def test_a_folder_appears_complete_or_not_at_all(tmp_path):
    with files.folder_written_atomically(tmp_path / "done") as folder:
        (folder / "inner").mkdir()
        (folder / "inner" / "a").write_text("1")
        assert not (tmp_path / "done").exists()
    assert (tmp_path / "done" / "inner" / "a").read_text() == "1"

    with pytest.raises(RuntimeError, match="halfway"), files.folder_written_atomically(tmp_path / "broken") as folder:
        (folder / "a").write_text("1")
        raise RuntimeError("halfway")
    assert os.listdir(tmp_path) == ["done"]


def test_the_checksum_is_that_of_the_bytes(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"abc" * (1 << 19))
    first = files.sha256_of_file(path)
    assert len(first) == 64
    path.write_bytes(b"abc" * (1 << 19) + b"d")
    assert files.sha256_of_file(path) != first
    (tmp_path / "empty").write_bytes(b"")
    assert files.sha256_of_file(tmp_path / "empty").startswith("e3b0c44298fc1c14")
