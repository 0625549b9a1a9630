"""Data that somebody else made: pages show nothing of other places, and wait for nothing without end."""

import gzip
import json
import os
import shutil

import pytest

from dashboard.made_data import make_data
from dashboard.made_evaluations import make_evaluation
from dashboard.made_runs import client_of
from mamba_slm.dashboard.reading import documents
from mamba_slm.dashboard.reading.cursors import MOST_SECONDS, MOST_SKIPPING_SECONDS, Cursors

OWN = {"Origin": "http://localhost:8888"}


@pytest.fixture
def home(tmp_path, monkeypatch):
    folder = tmp_path / "runs"
    folder.mkdir()
    monkeypatch.chdir(folder)
    make_data(folder)
    return folder


def test_shards_that_name_or_link_a_file_elsewhere_are_not_shown(home):
    shards, outside = home / "tales-tokens", home.parent / "secret.bin"
    manifest = json.loads((shards / "shards.json").read_text())
    shutil.copy(shards / manifest["files"][0]["name"], outside)
    client = client_of(home)
    assert client.get("/api/data/documents?path=tales-tokens").status_code == 200
    mixed = {"sources": "a=tales-tokens", "tokens": "1000", "context_tokens": "16"}
    assert client.post("/api/data/mix", json=mixed, headers=OWN).json()["problem"] is None
    for number, (name, link) in enumerate([("../../secret.bin", False), (str(outside), False), ("link.bin", True)]):
        bad = shutil.copytree(shards, home / f"bad-{number}")
        if link:
            (bad / name).symlink_to(outside)
        files = [manifest["files"][0] | {"name": name}, *manifest["files"][1:]]
        (bad / "shards.json").write_text(json.dumps(manifest | {"files": files}))
        answer = client.get(f"/api/data/documents?path=bad-{number}")
        assert answer.status_code == 400 and "lies elsewhere" in answer.json()["error"]
        said = client.post("/api/data/mix", json=mixed | {"sources": f"a=bad-{number}"}, headers=OWN).json()
        assert "lies elsewhere" in said["problem"]


def test_a_small_packed_json_file_that_may_come_out_large_is_not_opened(home, monkeypatch):
    monkeypatch.setattr(documents, "MOST_PACKED_BYTES", 1000)
    rows = [{"messages": [{"role": "user", "content": os.urandom(20).hex()}]} for _ in range(200)]
    (home / "chats.json.gz").write_bytes(gzip.compress(json.dumps(rows).encode()))
    answer = client_of(home).get("/api/data/documents?path=chats.json.gz")
    assert answer.status_code == 400 and "read as a whole" in answer.json()["error"]


def test_a_line_that_is_too_long_for_a_page_is_a_problem_of_its_own(home, monkeypatch):
    monkeypatch.setattr(documents, "MOST_DOCUMENT_BYTES", 2000)
    chat = {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}
    long = {"messages": [{"role": "user", "content": "a" * 5000}, {"role": "assistant", "content": "b"}]}
    (home / "odd.jsonl").write_text("".join(json.dumps(each) + "\n" for each in (chat, long, chat)))
    rows = client_of(home).get("/api/data/documents?path=odd.jsonl").json()["rows"]
    assert [bool(row["problem"]) for row in rows] == [False, True, False]


@pytest.mark.parametrize("number", ["inf", "-inf", "1e300", "-5"])
def test_a_number_in_an_address_that_nobody_means_is_no_fault_of_the_server(home, number):
    client = client_of(home)
    for path in (f"path=tales.jsonl&first={number}", f"path=tales.jsonl&most={number}"):
        assert client.get(f"/api/data/documents?{path}").status_code == 200


def test_who_asks_for_an_item_far_behind_the_end_is_told_how_far_it_came():
    seconds = iter(range(0, 10_000))
    page = Cursors().read(
        "key", lambda _: (iter(range(10**9)), 0), first=10**9, most=5, is_wanted=bool, clock=lambda: next(seconds)
    )
    assert page.items == () and not page.is_end
    assert page.next <= MOST_SECONDS + MOST_SKIPPING_SECONDS


@pytest.mark.parametrize(
    "content",
    [
        '{"num_documents": 1e400, "num_tokens": 1, "files": [], "vocab_size": 1}',
        '{"num_documents": 1, "num_tokens": 1, "files": [], "vocab_size": 1, "provenance": ["x"]}',
        "[" * 100_000,
        "\xff",
    ],
)
def test_one_damaged_manifest_hides_nothing_else_of_the_library(home, content):
    (home / "bad").mkdir()
    (home / "bad" / "shards.json").write_text(content, encoding="latin-1")
    found = {row["path"]: row for row in client_of(home).get("/api/data/library").json()["found"]}
    assert found["bad"]["problem"] and found["tales-tokens"]["problem"] is None


def test_removed_documents_are_not_read_through_links_or_pipes(home):
    folder = home / "curated" / "removed"
    folder.mkdir(parents=True)
    (home.parent / "elsewhere.zst").write_bytes(b"secret")
    (folder / "removed-0.jsonl.zst").symlink_to(home.parent / "elsewhere.zst")
    os.mkfifo(folder / "removed-1.jsonl.zst")
    answer = client_of(home).get("/api/data/removed?path=curated")
    assert answer.status_code == 400 and "no removed documents" in answer.json()["error"]


def test_one_damaged_set_hides_no_other(home):
    odd = {"-odd": "{}", "new": '{"format_version": 99}', "text": '{"format_version": 1, "seed": "x"}'}
    for name, content in odd.items():
        (home / "preferences" / name).mkdir(parents=True)
        (home / "preferences" / name / "set.json").write_text(content)
    sets = client_of(home).get("/api/rate/sets").json()["sets"]
    assert {row["name"] for row in sets if row["problem"]} == {"-odd", "new", "text"}


def test_results_of_other_kinds_or_without_end_hide_no_other_results(home):
    for name in ("good", "deep", "kinds", "long"):
        make_evaluation(home / "evaluations" / name, model="m", every=2, tasks=("arc_easy",))
    deep, kinds = (home / "evaluations" / name / "results.json" for name in ("deep", "kinds"))
    found = json.loads(kinds.read_text())
    for file, model in ((deep, json.loads("[" * 900 + "]" * 900)), (kinds, {"a": 1})):
        changed = found | {"model": model, "created": model, "settings": {"limit": model}}
        file.write_text(json.dumps(changed, indent=2))
    client = client_of(home)
    rows = {row["name"]: row for row in client.get("/api/evaluations").json()["evaluations"]}
    assert rows["good"]["model"] == "m" and rows["deep"].get("model") is None and rows["kinds"]["limit"] is None
    assert client.get("/api/home").status_code == 200
    long = home / "evaluations" / "long" / "results.json"
    with long.open("ab") as file:
        file.truncate(600 << 20)
    at = [f"0/evaluations/{name}/results.json" for name in ("good", "long")]
    answer = client.get("/api/evaluations/differences", params={"at": at[0], "beside": at[1]})
    assert answer.status_code == 400 and "eval compare" in answer.json()["hint"]
