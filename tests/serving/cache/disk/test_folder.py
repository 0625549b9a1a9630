"""Files of the disk cache: private, never half written, and no more bytes than allowed."""

import os
import threading
import time
from pathlib import Path

import pytest

from mamba_slm.core.errors import DataError
from mamba_slm.serving.cache.disk.folder import UNFINISHED, EntryFiles
from mamba_slm.serving.cache.disk.names import key_of, name_of, names_of, secret_of

NAMES = [f"{length}-{digit * 40}" for length, digit in ((3, "a"), (5, "b"), (5, "c"), (9, "d"))]


def mode(path):
    return path.stat().st_mode & 0o777


def test_nobody_else_can_read_anything(tmp_path):
    files = EntryFiles(tmp_path / "cache", "id", max_bytes=100)
    files.write(NAMES[0], b"1234")
    secret = secret_of(tmp_path / "cache")
    assert {mode(tmp_path / "cache"), mode(tmp_path / "cache" / "id")} == {0o700}
    assert {mode(path) for path in (tmp_path / "cache").rglob("*") if path.is_file()} == {0o600}
    assert secret_of(tmp_path / "cache") == secret and len(secret) == 32


@pytest.mark.parametrize("where", ["", "id"])
def test_a_folder_that_others_can_read_is_refused_with_the_way_out(tmp_path, where):
    EntryFiles(tmp_path / "cache", "id", max_bytes=100)
    (tmp_path / "cache" / where).chmod(0o750)
    with pytest.raises(DataError, match="mode 0750") as caught:
        EntryFiles(tmp_path / "cache", "id", max_bytes=100)
    assert "chmod 700" in str(caught.value.hint)


def test_a_secret_that_others_can_read_is_refused(tmp_path):
    secret_of(tmp_path)
    (tmp_path / "secret").chmod(0o640)
    with pytest.raises(DataError, match="others can read"):
        secret_of(tmp_path)


def test_the_least_recently_used_files_go_those_of_other_models_included(tmp_path):
    other = EntryFiles(tmp_path, "other", max_bytes=100)
    other.write(NAMES[0], b"x" * 40)
    os.utime(tmp_path / "other" / f"{NAMES[0]}.safetensors", (1, 1))
    files = EntryFiles(tmp_path, "id", max_bytes=100)
    for name in NAMES[:2]:
        files.write(name, b"x" * 30)
    assert files.num_bytes == 100 and len(files) == 2
    files.write(NAMES[2], b"x" * 20)  # that of the other model goes
    assert files.num_bytes == 80 and other.read(NAMES[0]) is None
    assert files.read(NAMES[0]) == b"x" * 30  # used just now
    files.write(NAMES[3], b"x" * 40)
    assert NAMES[1] not in files and NAMES[0] in files and files.lengths == [3, 5, 9]
    files.write(NAMES[1], b"x" * 101)  # larger than all the room: not kept
    assert NAMES[1] not in files and files.num_bytes <= 100 and files.evicted == 2


def test_files_of_others_in_the_folder_are_neither_counted_nor_deleted(tmp_path):
    model = tmp_path / "some-model" / "model.safetensors"
    model.parent.mkdir()
    model.write_bytes(b"x" * 1000)
    files = EntryFiles(tmp_path, "id", max_bytes=100)
    files.write(NAMES[0], b"x" * 100)
    files.write(NAMES[1], b"x" * 100)
    assert model.exists() and files.num_bytes == 100 and files.evicted == 1


def test_a_new_process_finds_what_is_there_and_removes_what_a_killed_one_did_not_finish(tmp_path):
    EntryFiles(tmp_path, "id", max_bytes=100).write(NAMES[1], b"x")
    (tmp_path / "id" / f"{UNFINISHED}old").write_bytes(b"half")
    os.utime(tmp_path / "id" / f"{UNFINISHED}old", (1, 1))
    (tmp_path / "id" / f"{UNFINISHED}new").write_bytes(b"another process writes it")
    files = EntryFiles(tmp_path, "id", max_bytes=100)
    assert files.lengths == [5] and files.read(NAMES[1]) == b"x"
    assert [path.name for path in (tmp_path / "id").glob(f"{UNFINISHED}*")] == [f"{UNFINISHED}new"]


def test_a_file_that_another_process_finishes_just_now_stops_no_start(tmp_path, monkeypatch):
    EntryFiles(tmp_path, "id", max_bytes=100)
    (tmp_path / "id" / f"{UNFINISHED}new").write_bytes(b"x")
    seen = Path.glob

    def then_it_is_done(folder, pattern):
        found = list(seen(folder, pattern))
        for path in found if pattern.startswith(UNFINISHED) else ():
            path.rename(tmp_path / "id" / f"{NAMES[0]}.safetensors")
        return iter(found)

    monkeypatch.setattr(Path, "glob", then_it_is_done)
    EntryFiles(tmp_path, "id", max_bytes=100)
    monkeypatch.undo()
    assert EntryFiles(tmp_path, "id", max_bytes=100).lengths == [3]


def test_an_entry_that_others_read_is_there_at_every_moment(tmp_path):
    files, taken = EntryFiles(tmp_path, "id", max_bytes=100), threading.Event()
    files.write(NAMES[0], b"x")

    class Slow(dict):
        def pop(self, *arguments):
            found = super().pop(*arguments)
            taken.set()
            time.sleep(0.1)  # in which others look
            return found

    files._files = Slow(files._files)
    reading = threading.Thread(target=files.read, args=(NAMES[0],))
    reading.start()
    assert taken.wait(60) and NAMES[0] in files
    reading.join()


def test_what_another_process_deleted_is_gone(tmp_path):
    files = EntryFiles(tmp_path, "id", max_bytes=100)
    files.write(NAMES[0], b"x")
    (tmp_path / "id" / f"{NAMES[0]}.safetensors").unlink()
    assert files.read(NAMES[0]) is None and NAMES[0] not in files and files.num_bytes == 0 and files.lengths == []


def test_names_depend_on_the_tokens_the_namespace_and_the_secret_and_tell_nothing_but_the_length():
    tokens = [5, 7, 5, 300, 12]
    key = key_of(b"s" * 32, "0:salt")
    names = dict(names_of(key, tokens, [1, 2, 4, 5, 6]))
    assert list(names) == [1, 2, 4, 5] and all(name.startswith(f"{length}-") for length, name in names.items())
    assert all(name == name_of(key, tokens[:length]) for length, name in names.items())
    others = {name_of(key_of(b"s" * 32, "0:other"), tokens), name_of(key_of(b"t" * 32, "0:salt"), tokens)}
    assert len({*others, names[5], name_of(key, [*tokens[:4], 13])}) == 4
