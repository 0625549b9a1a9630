"""Files in S3 are listed, fetched and published whole, whatever breaks on the way; the server is a real one."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from mamba_slm.core.errors import DataError, SetupError
from mamba_slm.data import storage
from mamba_slm.data.storage import RemoteFile, fetch, fetched, is_remote, list_files, publish


def folder_with(path: Path, **files: str) -> Path:
    """A folder with these files; __ is / and _ is . in their names."""
    for name, text in files.items():
        file = path / name.replace("__", "/").replace("_", ".")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return path


def test_what_is_published_can_be_listed_and_fetched(bucket, tmp_path):
    folder = folder_with(tmp_path / "a", part_jsonl="1" * 100, sub__more_jsonl="2", end_json="{}")
    assert publish(folder, f"{bucket}/x", last="end.json") == 103
    files = list_files(f"{bucket}/x/")
    assert [file.name for file in files] == ["end.json", "part.jsonl", "sub/more.jsonl"]
    assert [file.size_bytes for file in files] == [2, 100, 1]
    assert [fetch(file, tmp_path / "b").read_text() for file in files] == ["{}", "1" * 100, "2"]
    assert [file.name for file in list_files(f"{bucket}/x", "*.jsonl,!more*")] == ["part.jsonl"]
    (one,) = list_files(files[1].address)
    assert (one.address, one.name) == (f"{bucket}/x/part.jsonl", "part.jsonl")
    with fetched(one, tmp_path / "c") as path:
        assert path.read_text() == "1" * 100
    assert not path.exists()


def test_publishing_again_sends_what_changed_and_the_marker_last(bucket, tmp_path):
    folder = folder_with(tmp_path / "a", a_txt="a", b_txt="b", end_json="1")
    said = []
    assert publish(folder, bucket, last="end.json", say=said.append) == 3
    assert said == ["published a.txt", "published b.txt", "published end.json"]
    assert publish(folder, bucket, last="end.json") == 0
    folder_with(folder, b_txt="c", end_json="2")
    said.clear()
    assert publish(folder, bucket, last="end.json", say=said.append) == 2
    assert said == ["published b.txt", "published end.json"]


def test_while_a_folder_is_replaced_its_marker_is_gone(bucket, tmp_path):
    folder = folder_with(tmp_path / "a", b_txt="b", end_json="1")
    publish(folder, bucket, last="end.json")
    folder_with(folder, b_txt="c", end_json="2")

    def fail(line):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        publish(folder, bucket, last="end.json", say=fail)
    assert [file.name for file in list_files(bucket, "*")] == ["b.txt"]
    publish(folder, bucket, last="end.json")
    assert [file.name for file in list_files(bucket, "*")] == ["b.txt", "end.json"]


KILLED = """
import os, signal, sys
from pathlib import Path
from mamba_slm.data import storage
storage.PIECE_BYTES = 1000
pieces = []
def going():
    pieces.append(1)
    if len(pieces) == 3:
        os.kill(os.getpid(), signal.SIGKILL)
storage.still_going = going
(file,) = storage.list_files(sys.argv[1])
storage.fetch(file, Path(sys.argv[2]))
"""


def test_a_killed_fetch_continues_where_it_was(bucket, tmp_path, monkeypatch):
    text = "".join(f"{i:09}\n" for i in range(1000))
    publish(folder_with(tmp_path / "a", big_txt=text), bucket, last="big.txt")
    killed = subprocess.run([sys.executable, "-c", KILLED, f"{bucket}/big.txt", str(tmp_path / "b")], check=False)
    assert killed.returncode == -signal.SIGKILL
    (partial,) = (tmp_path / "b").iterdir()
    assert partial.name.startswith(".big.txt.")
    begun = partial.stat().st_size
    assert 2000 <= begun < 10_000
    (file,) = list_files(f"{bucket}/big.txt")
    asked = []
    monkeypatch.setattr(storage, "PIECE_BYTES", 1000)
    monkeypatch.setattr(storage, "still_going", lambda: asked.append(1))
    assert fetch(file, tmp_path / "b").read_text() == text
    assert len(asked) <= 10 - begun // 1000
    assert [path.name for path in (tmp_path / "b").iterdir()] == ["big.txt"]


def test_a_file_that_changes_while_it_is_fetched_is_never_mixed(bucket, tmp_path):
    publish(folder_with(tmp_path / "a", x_txt="old" * 10), bucket, last="x.txt")
    (old,) = list_files(f"{bucket}/x.txt")
    publish(folder_with(tmp_path / "a", x_txt="new"), bucket, last="x.txt")
    with pytest.raises(DataError, match="has changed since it was listed: 3 bytes, then 30"):
        fetch(old, tmp_path / "b")
    publish(folder_with(tmp_path / "a", x_txt="new" * 10), bucket, last="x.txt")
    with pytest.raises(DataError, match="has changed since it was listed: 30 bytes, then 30"):
        fetch(old, tmp_path / "b")
    assert not (tmp_path / "b").exists()


def test_nothing_at_an_address_is_said(bucket):
    with pytest.raises(DataError, match="no file to read at"):
        list_files(f"{bucket}/not-there")
    with pytest.raises(DataError, match=r"listing s3://no-such-bucket/x"):
        list_files("s3://no-such-bucket/x")
    with pytest.raises(SetupError, match="nonsense://x: Protocol not known: nonsense"):
        list_files("nonsense://x")


def test_a_server_that_is_gone_is_said_after_some_tries(bucket, tmp_path, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setattr(storage, "PAUSE_SECONDS", 0)
    s3fs = pytest.importorskip("s3fs")
    monkeypatch.setattr(s3fs.S3FileSystem, "retries", 1)
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    s3fs.S3FileSystem.clear_instance_cache()
    with pytest.raises(SetupError, match="failed 4 times: EndpointConnectionError"):
        list_files(bucket)


def test_paths_are_not_addresses():
    assert not any(is_remote(path) for path in ("a", "./a", "/a/b", "code=a", "C://"))
    assert is_remote("gs://bucket/a")
    assert RemoteFile(address="s3://b/a", name="a", size_bytes=1, version="").name == "a"
