"""Promises of API keys: only hashes are stored, only the owner reads them, and a change is seen at once."""

import json
import stat
import threading

import pytest

from mamba_slm.core.errors import DataError, UnknownNameError, UsageError
from mamba_slm.serving.api.guard.keys import PREFIX, KeyRing, add_key, read_keys, remove_key


@pytest.fixture
def file(tmp_path):
    return tmp_path / "keys.json"


def ring(file, said=None):
    return KeyRing(file, say=(said if said is not None else []).append)


def test_a_key_is_found_by_itself_alone_and_is_not_in_the_file(file):
    key = add_key(file, "alice", role="admin", requests_per_minute=3)
    other = add_key(file, "bob")
    found = ring(file).find(key)
    assert (found.name, found.role, found.requests_per_minute) == ("alice", "admin", 3)
    assert key.startswith(PREFIX) and len(key) > 50
    assert key not in file.read_text() and key.rsplit("-", 1)[1] not in file.read_text()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    wrong = [key[:-1], key + "x", key[:-1] + ("A" if key[-1] != "A" else "B"), other[:18] + key[18:], "", PREFIX, "ü"]
    assert [ring(file).find(one) for one in wrong] == [None] * len(wrong)


def test_a_running_server_sees_new_and_removed_keys(file):
    said = []
    alice = add_key(file, "alice")
    keys = ring(file, said)
    bob = add_key(file, "bob")
    assert keys.find(bob).name == "bob" and keys.find(alice).name == "alice"
    remove_key(file, "alice")
    assert keys.find(alice) is None and keys.find(bob) is not None
    assert "1 in" in said[-1]


def test_keys_stay_in_force_when_the_file_breaks_and_that_is_said_once(file):
    said = []
    alice = add_key(file, "alice")
    keys = ring(file, said)
    file.write_text("{")
    assert keys.find(alice) is not None and keys.find(alice) is not None
    assert len(said) == 1 and "keys unchanged" in said[0]
    file.unlink()
    assert keys.find(alice) is not None and "there is no" in said[1]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
def test_a_file_that_others_can_read_is_refused_with_what_to_do(file, mode):
    add_key(file, "alice")
    file.chmod(mode)
    with pytest.raises(DataError, match="others may read") as caught:
        read_keys(file)
    assert "chmod 600" in caught.value.hint


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"format_version": 2, "keys": []}',
        '{"format_version": 1, "keys": [{}]}',
        '{"format_version": 1, "keys": [{"name": "a", "id": "x", "sha256": ""}]}',
        '{"format_version": 1, "keys": [{"name": "a", "sort": 1}]}',
        '{"format_version": 1, "keys": 3}',
    ],
)
def test_a_file_that_holds_no_keys_is_refused(file, text):
    file.write_text(text)
    file.chmod(0o600)
    with pytest.raises(DataError):
        read_keys(file)


def test_names_are_unique_and_unknown_ones_named(file):
    add_key(file, "alice")
    with pytest.raises(UsageError, match="already"):
        add_key(file, "alice")
    with pytest.raises(UnknownNameError, match="did you mean 'alice'"):
        remove_key(file, "alic")
    for name in ("", " ", "a\nb", "x" * 101):
        with pytest.raises(UsageError):
            add_key(file, name)
    with pytest.raises(DataError, match="there is no"):
        remove_key(file.with_name("other.json"), "alice")


def test_keys_made_at_the_same_time_are_all_there(file):
    threads = [threading.Thread(target=add_key, args=(file, f"key {number}")) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(read_keys(file)) == 8 and len(json.loads(file.read_text())["keys"]) == 8
