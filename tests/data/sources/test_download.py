import hashlib
import json
import os
import random
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_hub import COMMIT
from mamba_slm.core.errors import DataError, DiskFullError, SetupError
from mamba_slm.data.sources import download as module
from mamba_slm.data.sources import web as web_module
from mamba_slm.data.sources.download import choose_files, download
from mamba_slm.data.sources.hub import HubFile
from mamba_slm.data.sources.source import Source
from mamba_slm.data.sources.web import Web

SOURCE = Source(
    name="mine", title="Mine", kind="web", licence="CC0", hub="me/data", files="data/*.jsonl", bytes_per_token=4.0
)
MIB = 1 << 20


def content(name, size):
    return random.Random(name).randbytes(size)


def fill(hub, sizes):
    hub.files = {f"data/{name}.jsonl": content(name, size) for name, size in sizes.items()}
    hub.files |= {"README.md": b"card", "data.py": b"raise SystemExit", "other/x.jsonl": b"no"}


def impatient(**settings):
    waits = []
    return Web(wait=waits.append, **settings), waits


def as_tuple(fault):
    return fault if isinstance(fault, tuple) else (fault,)


def stored(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()}


def test_the_files_of_a_source_arrive_checked_with_their_provenance(hub, tmp_path):
    fill(hub, {"a": 3 * MIB + 5, "b": 0, "c d": 70_000})
    hub.plain.add("data/c d.jsonl")
    done = download(SOURCE, tmp_path / "out")
    found = stored(tmp_path / "out")
    manifest = json.loads(found.pop("download.manifest"))
    assert found == {name: data for name, data in hub.files.items() if name.startswith("data/")}
    assert (done.commit, done.fetched_bytes) == (COMMIT, done.size_bytes)
    assert manifest["complete"] and manifest["licence"] == "CC0" and manifest["commit"] == COMMIT
    entries = {entry["path"]: entry for entry in manifest["files"]}
    assert entries["data/a.jsonl"]["sha256"] == hashlib.sha256(hub.files["data/a.jsonl"]).hexdigest()
    assert entries["data/c d.jsonl"]["url"] == f"{hub.url}/datasets/me/data/resolve/{COMMIT}/data/c%20d.jsonl"
    assert not [path for path, _ in hub.requests if path.endswith(".py")], "scripts are never fetched"


def test_a_second_call_fetches_nothing_and_stays_with_the_commit(hub, tmp_path):
    fill(hub, {"a": 1000, "b": 2000})
    download(SOURCE, tmp_path)
    before = stored(tmp_path)
    hub.requests.clear()
    assert download(SOURCE, tmp_path).fetched_bytes == 0
    assert not [path for path, _ in hub.requests if "/resolve/" in path or "/revision/" in path]
    after = stored(tmp_path)
    assert {**after, "download.manifest": b""} == {**before, "download.manifest": b""}


def test_only_as_many_files_as_the_tokens_need_are_fetched(hub, tmp_path):
    fill(hub, {str(number): 4000 for number in range(20)})
    done = download(SOURCE, tmp_path, tokens=2500)
    assert len(done.files) == 3 and done.tokens == 3000
    more = download(SOURCE, tmp_path, tokens=4500)
    assert more.files[:3] == done.files and len(more.files) == 5 and more.fetched_bytes == 2 * 4000
    assert len(download(SOURCE, tmp_path).files) == 20


@given(
    sizes=st.lists(st.integers(0, 10_000), min_size=1, max_size=30),
    tokens=st.integers(0, 100_000),
    order=st.randoms(use_true_random=False),
)
def test_the_choice_is_enough_not_more_and_the_same_in_any_order(sizes, tokens, order):
    files = [HubFile(path=f"{number}.jsonl", size_bytes=size) for number, size in enumerate(sizes)]
    chosen = choose_files(SOURCE, files, tokens)
    order.shuffle(files)
    assert choose_files(SOURCE, files, tokens) == chosen
    counts = [SOURCE.tokens_in(file.path, file.size_bytes) for file in chosen]
    assert sum(counts) >= tokens or len(chosen) == len(files)
    assert sum(counts[:-1]) < max(tokens, 1)


def test_a_list_in_pages_is_read_to_its_end(hub, tmp_path):
    fill(hub, {str(number): 10 for number in range(25)})
    hub.page_size = 4
    assert len(download(SOURCE, tmp_path).files) == 25


@pytest.mark.parametrize(
    "faults",
    [
        [("cut", 2 * MIB + 7), ("cut", 1), ("cut", 0), ("cut", MIB)],
        [503, 500, ("cut", 3 * MIB), 502],
        [("cut", 2 * MIB), ("ignore range",)],
    ],
)
def test_a_connection_that_breaks_is_taken_up_where_it_ended(hub, tmp_path, faults):
    fill(hub, {"a": 5 * MIB + 123})
    hub.faults["data/a.jsonl"].extend(faults)
    web, waits = impatient()
    progress = []
    done = download(SOURCE, tmp_path, web=web, on_progress=progress.append)
    assert stored(tmp_path)["data/a.jsonl"] == hub.files["data/a.jsonl"]
    assert sum(progress) == done.size_bytes
    assert any(hub.ranges("a.jsonl")) and len(waits) == sum(
        fault[:1] != ("ignore range",) for fault in map(as_tuple, faults)
    )
    assert not list(tmp_path.rglob("*.partial"))


def test_a_busy_server_is_given_the_time_it_asks_for(hub, tmp_path):
    fill(hub, {"a": 1000})
    hub.faults["revision"].append((429, "7"))
    hub.faults["tree"].append(503)
    hub.faults["data/a.jsonl"].extend([(503, "3"), (429, "100000")])
    web, waits = impatient()
    download(SOURCE, tmp_path, web=web)
    assert waits[0] == 7 and 0.5 <= waits[1] <= 1 and waits[2:] == [3, 60]


def test_a_server_that_stays_away_ends_with_what_to_do_and_keeps_what_came(hub, tmp_path):
    fill(hub, {"a": 3 * MIB})
    hub.faults["data/a.jsonl"].extend([("cut", 2 * MIB), *[503] * 20])
    web, waits = impatient(attempts=4)
    with pytest.raises(SetupError, match=r"could not be had: the server answered 503 \(4 tries in a row\)") as caught:
        download(SOURCE, tmp_path, web=web)
    assert "run the same command again" in str(caught.value.hint) and waits == sorted(waits)[: len(waits)]
    assert (tmp_path / "data" / "a.jsonl.partial").stat().st_size == 2 * MIB
    assert not json.loads((tmp_path / "download.manifest").read_text())["complete"]
    hub.faults.clear()
    assert download(SOURCE, tmp_path).fetched_bytes == MIB
    assert hub.ranges("a.jsonl")[-1] == f"bytes={2 * MIB}-"


def test_a_server_that_is_not_there_ends_with_what_to_do(tmp_path, monkeypatch, hub):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")
    web, _ = impatient(attempts=2)
    with pytest.raises(SetupError, match="could not be had: the connection failed"):
        download(SOURCE, tmp_path, web=web)


def test_a_damaged_file_is_fetched_again_and_never_gets_its_name(hub, tmp_path):
    fill(hub, {"a": 1000})
    wrong = bytes(1000)
    hub.faults["data/a.jsonl"].extend([("instead", wrong), ("instead", wrong)])
    said = []
    progress = []
    download(SOURCE, tmp_path, web=Web(say=said.append), on_progress=progress.append)
    assert stored(tmp_path)["data/a.jsonl"] == hub.files["data/a.jsonl"] and sum(progress) == 1000
    assert len(said) == 2 and "arrived damaged (its sha256 is" in said[0]
    fill(hub, {"b": 1000})
    hub.faults["data/b.jsonl"].extend([("instead", wrong)] * 5)
    with pytest.raises(DataError, match=r"data/b\.jsonl of me/data arrives damaged"):
        download(SOURCE, tmp_path / "other", web=Web(say=said.append))
    assert not (tmp_path / "other" / "data" / "b.jsonl").exists()


def test_a_file_of_the_wrong_size_is_an_error_whatever_the_server_says(hub, tmp_path):
    fill(hub, {"a": 1000})
    hub.faults["data/a.jsonl"].extend([("instead", b"short")] * 20)
    web, _ = impatient(attempts=3)
    with pytest.raises(SetupError, match="the connection ended after 5 of 1,000 bytes"):
        download(SOURCE, tmp_path, web=web)
    (tmp_path / "data" / "a.jsonl.partial").write_bytes(bytes(5000))
    hub.faults.clear()
    download(SOURCE, tmp_path)
    assert stored(tmp_path)["data/a.jsonl"] == hub.files["data/a.jsonl"]


def test_a_damaged_rest_is_found_by_the_checksum_and_fetched_anew(hub, tmp_path):
    fill(hub, {"a": 3000})
    partial = tmp_path / "data" / "a.jsonl.partial"
    partial.parent.mkdir()
    partial.write_bytes(bytes(1000))
    download(SOURCE, tmp_path)
    assert stored(tmp_path)["data/a.jsonl"] == hub.files["data/a.jsonl"]
    assert hub.ranges("a.jsonl") == ["bytes=1000-", None]


def test_gated_access_is_explained_and_the_token_is_never_shown(hub, another_hub, tmp_path, monkeypatch):
    fill(hub, {"a": 1000})
    hub.token = "hf_secret"
    with pytest.raises(SetupError, match=r"me/data needs a token \(401\)") as caught:
        download(SOURCE, tmp_path)
    assert f"accept its terms at {hub.url}/datasets/me/data" in str(caught.value.hint) and "export HF_TOKEN" in str(
        caught.value.hint
    )
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    with pytest.raises(SetupError, match=r"the token in HF_TOKEN may not read me/data \(403\)") as caught:
        download(SOURCE, tmp_path)
    said = [caught.value, caught.value.hint, caught.value.__cause__, repr(Web(token="hf_wrong"))]
    assert not any("hf_wrong" in str(text) for text in said)
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    another_hub.files = hub.files
    hub.storage = another_hub.url
    download(SOURCE, tmp_path)
    assert stored(tmp_path)["data/a.jsonl"] == hub.files["data/a.jsonl"]
    assert all(headers.get("Authorization") == "Bearer hf_secret" for _, headers in hub.requests[-3:])
    assert another_hub.requests and not any("Authorization" in headers for _, headers in another_hub.requests)
    assert "hf_secret" not in (tmp_path / "download.manifest").read_text()


def test_what_is_not_there_is_named(hub, tmp_path):
    hub.faults["revision"].append(404)
    with pytest.raises(SetupError, match=r"me/data at main is not there \(404\)"):
        download(SOURCE, tmp_path)
    hub.files = {"train.csv": b""}
    with pytest.raises(DataError, match=r"none of the 1 files of me/data matches 'data/\*\.jsonl'"):
        download(SOURCE, tmp_path)


def test_a_path_that_leads_out_of_the_folder_is_refused(hub, tmp_path):
    hub.files = {"data/../../evil.jsonl": b"x"}
    with pytest.raises(DataError, match="which leads elsewhere"):
        download(SOURCE, tmp_path / "out")
    assert not (tmp_path / "evil.jsonl").exists()


def test_offline_names_the_folder_and_the_files_and_finds_what_is_there(hub, tmp_path, monkeypatch):
    fill(hub, {"a": 100, "b": 100})
    download(SOURCE, tmp_path / "full")
    monkeypatch.setenv("HF_ENDPOINT", "https://hub.example")
    monkeypatch.setenv("MAMBA_SLM_OFFLINE", "1")
    with pytest.raises(SetupError, match=r"the network is off .* holds no download of mine") as caught:
        download(SOURCE, tmp_path / "empty")
    assert "data/*.jsonl of https://hub.example/datasets/me/data" in str(caught.value.hint)
    assert str(tmp_path / "empty") in str(caught.value.hint)
    assert download(SOURCE, tmp_path / "full").fetched_bytes == 0
    with pytest.raises(SetupError, match="holds about 50 tokens of mine, not 1,000"):
        download(SOURCE, tmp_path / "full", tokens=1000)
    (tmp_path / "full" / "data" / "b.jsonl").write_bytes(bytes(100))
    with pytest.raises(SetupError, match="1 of 2 files are missing or damaged") as caught:
        download(SOURCE, tmp_path / "full")
    assert str(caught.value.hint).endswith(": data/b.jsonl") and str(tmp_path / "full") in str(caught.value.hint)


def test_a_folder_of_something_else_is_refused(hub, tmp_path):
    fill(hub, {"a": 100})
    download(SOURCE, tmp_path)
    other = Source(name="other", title="x", kind="web", licence="x", hub="me/other")
    with pytest.raises(DataError, match="holds me/data at main, not me/other at main"):
        download(other, tmp_path)
    file = tmp_path / "download.manifest"
    manifest = json.loads(file.read_text())
    file.write_text(json.dumps({**manifest, "format_version": 2}))
    with pytest.raises(DataError, match="newer version"):
        download(SOURCE, tmp_path)
    file.write_text("{")
    with pytest.raises(DataError, match=r"download\.manifest is damaged"):
        download(SOURCE, tmp_path)


def test_a_full_disk_is_known_before_anything_is_fetched(hub, tmp_path, monkeypatch):
    fill(hub, {"a": 2000})
    usage = module.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(module.shutil, "disk_usage", lambda path: usage._replace(free=1000))
    with pytest.raises(DiskFullError, match=r"needs 1\.95 KiB more, but 1000 B are free"):
        download(SOURCE, tmp_path)
    assert hub.ranges("a.jsonl") == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full, a disk that is always full")
def test_a_disk_that_fills_up_on_the_way_is_said_and_not_tried_again(hub, tmp_path):
    fill(hub, {"a": 2000})
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.jsonl.partial").symlink_to("/dev/full")
    web, waits = impatient()
    with pytest.raises(DiskFullError, match="no space left while writing"):
        download(SOURCE, tmp_path, web=web)
    assert waits == []


def test_a_list_that_breaks_off_is_asked_for_again(hub, tmp_path):
    fill(hub, {"a": 100, "b": 100})
    hub.faults["tree"].extend([("cut", 50), ("cut", 0)])
    web, waits = impatient()
    assert len(download(SOURCE, tmp_path, web=web).files) == 2 and len(waits) == 2


def test_a_server_that_falls_silent_is_left_and_asked_for_the_rest(hub, tmp_path, monkeypatch):
    monkeypatch.setattr(web_module, "TIMEOUT_SECONDS", 5)
    fill(hub, {"a": 3 * MIB})
    hub.faults["data/a.jsonl"].append(("stop", 2 * MIB))
    web, waits = impatient()
    download(SOURCE, tmp_path, web=web)
    assert stored(tmp_path)["data/a.jsonl"] == hub.files["data/a.jsonl"] and len(waits) == 1


def test_a_withdrawn_source_says_what_to_take_instead(tmp_path):
    gone = Source(name="gone", title="x", kind="books", licence="x", access="withdrawn", instead="gutenberg")
    with pytest.raises(DataError, match="gone is withdrawn") as caught:
        download(gone, tmp_path)
    assert "mamba-slm data tokenize PATH" in str(caught.value.hint) and "download gutenberg" in str(caught.value.hint)


def test_a_killed_process_is_taken_up_where_it_ended(hub, tmp_path):
    fill(hub, {"a": 6 * MIB + 1, "b": 1000})
    hub.faults["data/a.jsonl"].append(("stop", 4 * MIB + 1000))
    table = tmp_path / "sources.yaml"
    table.write_text("mine: {title: x, kind: web, licence: CC0, hub: me/data, files: 'data/*.jsonl'}\n")
    code = "import sys; from mamba_slm.cli.main import main; sys.exit(main(sys.argv[1:]))"
    command = [
        sys.executable,
        "-c",
        code,
        "data",
        "download",
        "mine",
        "--sources",
        str(table),
        "--out",
        str(tmp_path / "out"),
    ]
    partial = tmp_path / "out" / "data" / "a.jsonl.partial"
    environment = {**os.environ, "HF_ENDPOINT": hub.url}
    process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
    assert hub.stopped.wait(300)
    pause = threading.Event()
    while not partial.is_file() or partial.stat().st_size < 2 * MIB:
        assert process.poll() is None
        pause.wait(0.01)
    process.kill()
    process.wait()
    hub.released.set()
    kept = partial.stat().st_size
    assert not (tmp_path / "out" / "data" / "a.jsonl").exists()
    again = subprocess.run([*command, "--json"], env=environment, capture_output=True, text=True, check=True)
    result = json.loads(again.stdout)
    found = stored(tmp_path / "out")
    assert found["data/a.jsonl"] == hub.files["data/a.jsonl"] and found["data/b.jsonl"] == hub.files["data/b.jsonl"]
    assert hub.ranges("a.jsonl") == [None, f"bytes={kept}-"]
    assert result["fetched_bytes"] <= 6 * MIB + 1 - kept + 1000
