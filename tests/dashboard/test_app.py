"""What pages and their scripts get, on runs of every condition."""

import json
import re
import shlex
import subprocess
import sys

import pytest

from dashboard.made_runs import EVIL, append, client_of, make_run, parse, train_row
from mamba_slm.dashboard.page.layout import PAGES
from mamba_slm.runs.jobs import list_jobs
from mamba_slm.runs.lock import RunLock
from mamba_slm.runs.record import RunRecord, write_record

OWN = {"Origin": "http://localhost:8888"}
RUN = "/api/runs/0/20260401-nano"


def test_the_process_of_the_dashboard_loads_no_torch():
    code = (
        "import sys, mamba_slm.dashboard.server, mamba_slm.cli.dashboard\n"
        "print([name for name in ('torch', 'numpy', 'transformers', 'nicegui', 'pydantic') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_live_rows_after_a_position_are_those_that_came_since(tmp_path):
    run = make_run(tmp_path)
    client = client_of(tmp_path)
    series = client.get(f"{RUN}/series").json()
    assert series["step"] == list(range(1, 51))
    nothing = client.get(f"{RUN}/live?after={series['position']}").json()
    assert (nothing["fits"], nothing["train"]) == (True, [])
    append(run, train_row(51), {"kind": "validation", "step": 51, "tokens": 9, "loss": 3.0, "bits_per_byte": 1.8})
    new = client_of(tmp_path).get(f"{RUN}/live?after={series['position']}").json()  # another process could answer
    assert [row[0] for row in new["train"]] == [51]
    assert new["validation"][0]["loss"] == 3.0
    assert client.get(f"{RUN}/live?after={new['position']}").json()["train"] == []


def test_a_position_of_another_file_says_so(tmp_path):
    make_run(tmp_path)
    assert client_of(tmp_path).get(f"{RUN}/live?after=1.50.3").json()["fits"] is False
    assert client_of(tmp_path).get(f"{RUN}/live?after=nonsense").status_code == 400


def test_a_crashed_run_shows_its_last_words_and_how_to_go_on(tmp_path):
    make_run(tmp_path, state="running")
    facts = client_of(tmp_path).get(f"{RUN}/live?after=0.0.0").json()["facts"]
    assert facts["state"] == "crashed"
    assert facts["last_line"].startswith("last words")
    assert "mamba-slm train nano" in facts["resume_command"] and "--resume" in facts["resume_command"]


def test_a_running_run_says_how_long_it_takes_and_how_to_stop_it(tmp_path):
    run = make_run(tmp_path, state="running", config="train:\n  max_steps: 150\n  batch_tokens: 512\n")
    with RunLock(run):
        facts = client_of(tmp_path).get(f"{RUN}/live?after=0.0.0").json()["facts"]
    assert (facts["state"], facts["steps"], facts["seconds_left"]) == ("running", 150, 50.0)
    assert facts["stop_command"].startswith("mamba-slm runs stop ")
    assert facts["resume_command"] is None


def test_commands_that_are_shown_are_commands_that_exist(tmp_path):
    make_run(tmp_path, state="failed")
    client = client_of(tmp_path)
    facts = client.get(f"{RUN}/live?after=0.0.0").json()["facts"]
    shown = [facts["stop_command"], facts["resume_command"].rpartition("&& ")[2], facts["command"]]
    for checkpoint in client.get(f"{RUN}/checkpoints").json()["checkpoints"]:
        assert checkpoint["is_best"] and checkpoint["step"] == 50
        shown += checkpoint["commands"].values()
    for command in shown:
        words = shlex.split(command)
        assert words[0] == "mamba-slm"
        parse(words[1:])


def test_samples_are_pages_from_step_0_on(tmp_path):
    make_run(tmp_path)
    found = client_of(tmp_path).get(f"{RUN}/samples").json()
    assert found["prompts"] == ["Once"]
    assert [page["step"] for page in found["pages"]] == [0, 25, 50]
    assert found["pages"][1]["texts"] == [" the the 25"]


def test_a_spike_comes_with_its_batch(tmp_path):
    make_run(tmp_path)
    (event,) = client_of(tmp_path).get(f"{RUN}/events").json()["events"]
    assert (event["event"], event["step"]) == ("spike", 30)
    assert event["documents"] == [{"row": 0, "position": 0, "tokens": 9, "begins": "the the"}]


@pytest.mark.parametrize(
    "damage", ["metrics.jsonl", "samples.jsonl", "events.jsonl", "run.json", "status.json", "config.yaml"]
)
def test_a_damaged_file_costs_what_it_held_and_nothing_else(tmp_path, damage):
    run = make_run(tmp_path)
    (run.path / damage).write_bytes(b"\xff{]\n\x00\n[1]\n")
    client = client_of(tmp_path)
    for path in (
        "/runs/0/20260401-nano",
        "/api/runs",
        *(f"{RUN}/{what}" for what in ("series", "samples", "events", "log")),
    ):
        assert client.get(path).status_code == 200, path
    assert client.get(f"{RUN}/live?after=0.0.0").status_code == 200


def test_a_folder_that_is_hardly_a_run_has_a_page(tmp_path):
    (tmp_path / "bare").mkdir()
    (tmp_path / "bare" / "metrics.jsonl").write_text("")
    client = client_of(tmp_path)
    assert client.get("/runs/0/bare").status_code == 200
    assert client.get("/api/runs/0/bare/live?after=0.0.0").json()["facts"]["state"] == "unknown"


def test_names_and_texts_cannot_become_html(tmp_path):
    name = "x'onload=alert(1)&lt;&quot;<b>run<"
    make_run(tmp_path, name, text=EVIL, config="a: '</pre><script>alert(1)</script>'\n")
    client = client_of(tmp_path)
    page = client.get(f"/runs/0/{name.replace('&', '%26')}")
    assert page.status_code == 200
    assert "<b>run" not in page.text and "<script>alert" not in page.text and EVIL not in page.text
    assert client.get("/api/runs").headers["content-type"] == "application/json"


@pytest.mark.parametrize(
    "path",
    ["%2e%2e", "..%2f..", "%2fetc", "a%00b", ".dashboard", "20260401-nano%2f..%2f20260401-nano", "secret"],
)
def test_no_path_leads_out_of_the_homes(tmp_path, path):
    home = tmp_path / "home"
    home.mkdir()
    make_run(home)
    make_run(tmp_path, "secret")
    client = client_of(home)
    for address in (f"/api/runs/0/{path}/log", f"/runs/0/{path}", f"/assets/x/{path}", f"/api/runs/7/{path}/log"):
        assert client.get(address).status_code == 404, address


def test_an_unknown_run_names_the_nearest(tmp_path):
    make_run(tmp_path)
    answer = client_of(tmp_path).get("/api/runs/0/20260401-nani/log")
    assert answer.status_code == 404
    assert "20260401-nano" in answer.json()["error"]


def test_read_only_starts_and_stops_nothing(tmp_path):
    make_run(tmp_path, state="failed")
    client = client_of(tmp_path, is_read_only=True)
    for what in ("stop", "resume"):
        answer = client.post(f"{RUN}/{what}", json={}, headers=OWN)
        assert answer.status_code == 400 and "--read-only" in answer.json()["hint"]
    assert not (tmp_path / ".jobs").exists()
    assert 'id="stop"' not in client.get("/runs/0/20260401-nano").text


def test_a_run_that_is_a_link_is_resumed_as_a_job_of_the_home_it_is_shown_in(tmp_path):
    home, elsewhere = tmp_path / "home", tmp_path / "elsewhere"
    home.mkdir()
    run = make_run(elsewhere, state="stopped")
    record = RunRecord(
        id="x", kind="train", command=("mamba-slm", "runs", "list"), created="2026-04-01", working_directory=str(home)
    )
    write_record(run.record_file, record)
    (home / run.path.name).symlink_to(run.path)
    answer = client_of(home).post(f"{RUN}/resume", json={}, headers=OWN)
    assert (answer.status_code, answer.json().get("job")) == (200, "000001")
    assert [job.words[:3] for job in list_jobs(home)] == [("mamba-slm", "runs", "list")]


def test_a_finished_run_is_neither_stopped_nor_resumed(tmp_path):
    make_run(tmp_path)
    client = client_of(tmp_path)
    assert client.post(f"{RUN}/stop", json={}, headers=OWN).json()["asked"] == "idle"
    answer = client.post(f"{RUN}/resume", json={}, headers=OWN)
    assert answer.status_code == 400 and "finished" in answer.json()["error"]


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b"\xff", b"[" * 100_000, b'"x"'])
def test_a_body_that_is_no_object_is_refused(tmp_path, body):
    make_run(tmp_path)
    answer = client_of(tmp_path).post(f"{RUN}/stop", content=body, headers=OWN | {"Content-Type": "application/json"})
    assert answer.status_code == 400
    assert json.loads(answer.text)["error"]


def test_assets_may_be_kept_for_ever_because_their_address_changes_with_them(tmp_path):
    client = client_of(tmp_path)
    address = client.get("/").text.partition('rel="stylesheet" href="')[2].partition('"')[0]
    answer = client.get(address)
    assert answer.status_code == 200 and "immutable" in answer.headers["cache-control"]
    assert client.get(address.replace("/assets/", "/assets/old")).status_code == 404


def test_no_page_uses_an_id_twice(tmp_path):
    make_run(tmp_path)
    client = client_of(tmp_path)
    for path in [*(f"/{page}" for page in PAGES), "/runs/0/20260401-nano"]:
        ids = re.findall(r' id="([^"]+)"', client.get(path).text)
        assert "content" in ids and len(ids) == len(set(ids)), (path, [each for each in ids if ids.count(each) > 1])
