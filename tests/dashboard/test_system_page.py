"""The machine, its users, and the last examination."""

import json
import os
import sys

import pytest

from dashboard.made_runs import EVIL, client_of, make_run, parse
from mamba_slm.dashboard.page.system import MEASURES
from mamba_slm.dashboard.reading import machine_load
from mamba_slm.dashboard.reading.examination import last_examination
from mamba_slm.runs.jobs import new_folder, write_state
from mamba_slm.runs.lock import RunLock
from mamba_slm.runs.process import machine_identity, process_start

OWN = {"Origin": "http://localhost:8888"}
CHECK = {"section": "extras", "name": "gguf", "status": "note", "text": "absent", "cost": "", "hint": "pip install x"}
REPORT = {"ok": True, "summary": "ready", "checks": [CHECK]}


def examined(home, log, *, state="ended", words=("doctor", "--json", "--measure", "none")):
    path = new_folder(home)
    job = {"words": ["mamba-slm", *words], "folder": str(home), "created": 1, "is_queued": False}
    (path / "job.json").write_text(json.dumps(job))
    me = {"pid": os.getpid(), "process_start": process_start(os.getpid()), "machine": machine_identity()}
    write_state(path, state=state, exit_code=0, **me)
    (path / "log.txt").write_text(log)


def test_the_machine_says_what_it_has(tmp_path):
    found = client_of(tmp_path).get("/api/system").json()
    assert found["processors"]["usable"] >= 1
    assert found["disks"][0]["free_bytes"] > 0
    assert found["doctor"] is None
    if sys.platform == "linux":
        assert 0 < found["now"]["used_bytes"] < found["now"]["total_bytes"]
        (own,) = [row for row in found["who"] if row["what"] == "this dashboard"]
        assert own["pid"] == os.getpid() and own["memory_bytes"] > 2**20


def test_points_after_a_time_are_those_that_came_since(tmp_path, monkeypatch):
    monkeypatch.setattr(machine_load, "LEAST_SECONDS", 3600)  # else a slow machine looks again in between
    client = client_of(tmp_path)
    (point,) = client.get("/api/system").json()["points"]
    assert client.get(f"/api/system?after={point['at']}").json()["points"] == []
    assert client.get("/api/system/brief").json()["at"] == point["at"]


def test_a_job_and_a_run_of_a_terminal_are_ours_and_lead_to_their_pages(tmp_path):
    examined(tmp_path, "", state="running", words=("train", "nano", "--hf-token", "secret"))
    run = make_run(tmp_path, "a b", state="running")
    with RunLock(run):
        rows = client_of(tmp_path).get("/api/system").json()["who"]
    ours = [row for row in rows if row["is_ours"]]
    assert [(row["what"], row["path"]) for row in ours] == [("job 1: train nano", "jobs/0/000001")], "one process, once"
    assert "secret" not in json.dumps(rows)


def test_the_findings_of_the_last_examination_are_read_from_its_log(tmp_path):
    assert last_examination([tmp_path]) is None
    examined(tmp_path, "warning: {\nlooking\n" + json.dumps(REPORT, indent=2) + "\nsomething after it\n")
    found = last_examination([tmp_path])
    assert found is not None and found["checks"] == [CHECK] and found["summary"] == "ready"
    examined(tmp_path, "error: no\n")
    client = client_of(tmp_path)
    found = client.get("/api/system").json()["doctor"]
    assert (found["job"], found["checks"], found["last_line"]) == ("000002", None, "error: no")


@pytest.mark.parametrize("log", ["", "{\n", '\n{\n  "checks": 3}', "\n{\n" + "[" * 100])
def test_a_log_without_findings_is_shown_as_it_is(tmp_path, log):
    examined(tmp_path, log)
    found = last_examination([tmp_path])
    assert found is not None and found["checks"] is None


def test_only_efforts_that_the_command_knows_are_started(tmp_path):
    for name, _ in MEASURES:
        parse(["doctor", "--json", "--measure", name])
    client = client_of(tmp_path)
    assert client.post("/api/system/doctor", json={"measure": EVIL}, headers=OWN).status_code == 400
    reader = client_of(tmp_path, is_read_only=True)
    assert reader.post("/api/system/doctor", json={}, headers=OWN).status_code == 400
    assert 'id="examine"' not in reader.get("/system").text
