"""Files to choose from lie below the folders that may be shown; what a browser sends arrives whole or not at all."""

import asyncio
import errno
import os

import pytest

from dashboard.made_runs import TOKEN, client_of, make_run
from mamba_slm.cli.dashboard_plan import actions
from mamba_slm.core.errors import MambaSlmError
from mamba_slm.dashboard.app import create_app
from mamba_slm.dashboard.config import DashboardConfig
from mamba_slm.dashboard.reading import uploads
from mamba_slm.dashboard.reading.places import Places
from mamba_slm.dashboard.reading.uploads import clean_name

OWN = {"Origin": "http://localhost:8888"}


@pytest.fixture
def home(tmp_path):
    home = tmp_path / "runs"
    make_run(home)
    (home / "text.txt").write_text("Once")
    (tmp_path / "secret.txt").write_text("not yours")
    return home


def listed(home, path="", **settings):
    return client_of(home, **settings).get("/api/files", params={"path": path})


def test_a_list_says_what_each_folder_is_and_how_large_each_file(home):
    (home / "tokens").mkdir()
    (home / "tokens" / "shards.json").write_text("{}")
    (home / ".hidden").write_text("")
    os.mkfifo(home / "pipe")
    found = listed(home, str(home)).json()
    rows = {row["name"]: (row["is_folder"], row["what"], row["bytes"]) for row in found["entries"]}
    assert rows == {
        "20260401-nano": (True, "run", None),
        "tokens": (True, "token shards", None),
        "text.txt": (False, "", 4),
    }
    assert [row["name"] for row in found["entries"]][-1] == "text.txt", "folders come first"
    assert found["parent"] is None, "what is above is not shown"


@pytest.mark.parametrize(
    "path", ["..", "../secret.txt", "/etc", "/etc/passwd", "20260401-nano/../../secret.txt", ".dashboard/token", "a\0b"]
)
def test_a_path_that_leads_elsewhere_or_is_hidden_is_refused(home, path):
    (home / ".dashboard").mkdir()
    (home / ".dashboard" / "token").write_text("kept")
    answer = listed(home, path if path.startswith("/") else f"{home}/{path}")
    assert answer.status_code == 400
    assert "not below the folders" in answer.text or "not a path" in answer.text
    assert "kept" not in answer.text


def test_a_link_that_leads_elsewhere_is_neither_listed_nor_followed(home):
    (home / "link").symlink_to(home.parent)
    (home / "circle").symlink_to("circle")
    (home / "near").symlink_to(home / "20260401-nano")
    assert [row["name"] for row in listed(home, str(home)).json()["entries"]] == ["20260401-nano", "near", "text.txt"]
    for path in ("link", "link/secret.txt", "circle"):
        assert listed(home, f"{home}/{path}").status_code == 400
    assert listed(home, f"{home}/near").json()["what"] == "run"


def test_another_folder_is_shown_when_the_dashboard_was_told_so(home, tmp_path):
    other = tmp_path / "texts"
    other.mkdir()
    (other / "a.txt").write_text("a")
    assert listed(home, str(other)).status_code == 400
    found = listed(home, str(other), data=(other,)).json()
    assert [row["name"] for row in found["entries"]] == ["a.txt"]
    assert str(other) in [root["name"] for root in found["roots"]]


def test_what_is_no_regular_file_is_not_opened_and_a_wrong_name_gets_the_near_one(home):
    os.mkfifo(home / "pipe")
    places = Places(home, ())
    with pytest.raises(MambaSlmError, match="neither a file nor a folder"):
        places.find("pipe")
    with pytest.raises(MambaSlmError, match="file or folder") as error:
        places.find("txet.txt")
    assert "text.txt" in f"{error.value.message} {error.value.hint}"
    with pytest.raises(MambaSlmError, match="is a folder"):
        places.find_file("20260401-nano")
    assert places.typed(home / "text.txt") == "text.txt"
    assert places.typed(home.parent) == str(home.parent)


def send(client, name, content):
    return client.post("/api/upload", params={"name": name}, content=content, headers=OWN)


def uploaded(home):
    return sorted(path.name for path in (home / ".uploads").iterdir()) if (home / ".uploads").exists() else []


def test_a_file_larger_than_a_form_may_be_arrives_whole_and_can_be_chosen(home):
    content = os.urandom(1000) * 6000
    client = client_of(home)
    answer = send(client, "My text.txt", content).json()
    assert answer["path"] == str(home / ".uploads" / "My_text.txt")
    assert (home / ".uploads" / "My_text.txt").read_bytes() == content
    assert send(client, "My text.txt", b"other").json()["path"].endswith("My_text-2.txt")
    assert uploaded(home) == ["My_text-2.txt", "My_text.txt"]
    assert "My_text.txt" in listed(home, str(home / ".uploads")).text


def test_a_file_that_is_too_large_is_413_and_nothing_is_left_of_it(home):
    client = client_of(home, upload_bytes=3 << 20)
    assert send(client, "a.txt", b" " * (4 << 20)).status_code == 413
    assert send(client, "a.txt", (b" " * (1 << 20) for _ in range(5))).status_code == 413, "whatever it says before"
    assert uploaded(home) == []


@pytest.mark.parametrize("name", ["", "..", "/", "...", "\n"])
def test_a_file_without_a_usable_name_is_refused(home, name):
    assert send(client_of(home), name, b"x").status_code == 400
    assert uploaded(home) == []


def test_a_name_never_leads_out_of_its_folder():
    for name in ("../../etc/passwd", "..\\..\\x", "/abs/olute.txt", ".ssh", "a\0b", "-rf", "é ü.txt"):
        cleaned = clean_name(name)
        assert "/" not in cleaned and not cleaned.startswith((".", "-")) and "\0" not in cleaned
    assert len(clean_name("x" * 5000 + ".jsonl.zst")) <= 120


def test_an_empty_file_is_refused_and_a_read_only_dashboard_takes_none(home):
    assert "is empty" in send(client_of(home), "a.txt", b"").json()["error"]
    assert send(client_of(home, is_read_only=True), "a.txt", b"x").status_code == 400
    assert uploaded(home) == []


def test_a_full_disk_is_said_before_anything_is_written(home, monkeypatch):
    monkeypatch.setattr(uploads, "SPARE_BYTES", 1 << 62)
    answer = send(client_of(home), "a.txt", b"x")
    assert answer.status_code == 507
    assert "are free" in answer.json()["error"]
    assert uploaded(home) == []


def test_a_file_that_breaks_off_leaves_nothing(home):
    app = create_app(DashboardConfig(homes=(home,), token=TOKEN), actions=actions())
    messages = iter(
        [{"type": "http.request", "body": b"half", "more_body": True}, {"type": "http.disconnect"}],
    )
    sent = []

    async def receive():
        return next(messages)

    async def note(message):
        sent.append(message)

    headers = {"host": "localhost", "authorization": f"Bearer {TOKEN}", "origin": "http://localhost"}
    scope = {
        "type": "http", "method": "POST", "path": "/api/upload", "raw_path": b"/api/upload", "root_path": "",
        "query_string": b"name=a.txt", "scheme": "http", "http_version": "1.1", "server": ("localhost", 80),
        "client": ("127.0.0.1", 1), "headers": [(key.encode(), value.encode()) for key, value in headers.items()],
    }  # fmt: skip
    asyncio.run(app(scope, receive, note))
    assert sent[0]["status"] == 400
    assert uploaded(home) == []


def test_a_name_of_many_bytes_is_cut_and_a_file_may_be_called_part(home):
    client = client_of(home)
    assert send(client, "😀é" * 100 + ".txt", b"x").status_code == 200
    long = "é" * 300 + ".jsonl.zst"
    assert len(clean_name(long).encode()) <= 120 and clean_name(long).endswith(".jsonl.zst")
    assert send(client, "whole.part", b"mine").status_code == 200
    mine = home / ".uploads" / "whole.part"
    os.utime(mine, (1, 1))
    send(client, "later.txt", b"x")
    assert mine.read_bytes() == b"mine", "what somebody sent is never taken for what broke off"


def test_a_disk_that_takes_a_part_at_a_time_gets_all_and_one_that_fills_up_keeps_nothing(home, monkeypatch):
    class Slow:
        def __init__(self):
            self.kept = b""

        def write(self, data):
            self.kept += bytes(data[:3])
            return min(3, len(data))

    slow = Slow()
    uploads.write_all(slow, b"0123456789")
    assert slow.kept == b"0123456789"

    def full(_file, _data):
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(uploads, "write_all", full)
    answer = send(client_of(home), "a.txt", b"x")
    assert answer.status_code == 507 and "filled up" in answer.json()["error"]
    assert list((home / ".uploads").iterdir()) == []


def test_what_a_killed_dashboard_left_is_removed_later(home):
    folder = home / ".uploads"
    folder.mkdir()
    for name, age in ((".old.part", 2 * uploads.FORGOTTEN_SECONDS), ("new.part", 0)):
        (folder / name).write_text("half")
        then = (folder / name).stat().st_mtime - age
        os.utime(folder / name, (then, then))
    send(client_of(home), "a.txt", b"x")
    assert uploaded(home) == ["a.txt", "new.part"]
