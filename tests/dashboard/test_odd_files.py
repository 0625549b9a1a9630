"""Runs in whose folders something else lies than files: pages come all the same, and at once."""

import json
import os
from concurrent.futures import ThreadPoolExecutor

import pytest

from dashboard.made_runs import client_of, make_run
from mamba_slm.runs.jobs import new_folder, write_state
from mamba_slm.runs.kept_settings import read_settings
from mamba_slm.runs.process import machine_identity, process_start

FILES = ("run.json", "status.json", "config.yaml", "metrics.jsonl", "samples.jsonl", "events.jsonl", "log.txt")
RUN = "/api/runs/0/20260401-nano"
PATHS = [
    *("/", "/runs", "/runs/0/20260401-nano", "/api/runs", f"{RUN}/live?after=0.0.0"),
    *(f"{RUN}/{what}" for what in ("series", "samples", "events", "checkpoints", "log")),
]


@pytest.mark.parametrize("name", [*FILES, "lock.json", "notes.json", "checkpoints/best"])
def test_a_pipe_in_the_place_of_a_file_keeps_nobody_waiting(tmp_path, name):
    run = make_run(tmp_path, state="running")
    pipe = run.path / name
    pipe.unlink(missing_ok=True)
    os.mkfifo(pipe)
    client = client_of(tmp_path)
    with ThreadPoolExecutor(1) as pool:
        answers = pool.submit(lambda: {path: client.get(path).status_code for path in PATHS})
        try:
            assert set(answers.result(timeout=200).values()) == {200}
        finally:
            os.close(os.open(pipe, os.O_RDWR | os.O_NONBLOCK))  # who waits for a writer waits no more


@pytest.mark.parametrize("target", ["/dev/zero", "loop", "."])
def test_a_link_to_no_file_is_an_absent_file(tmp_path, target):
    run = make_run(tmp_path)
    for name in (*FILES[1:], "notes.json"):
        (run.path / name).unlink(missing_ok=True)
        (run.path / name).symlink_to(run.path / name if target == "loop" else target)
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    client = client_of(tmp_path)
    assert {client.get(path).status_code for path in PATHS} == {200}
    assert client.get(f"{RUN}/log").json()["text"] == ""
    assert client.get(f"{RUN}/series").json()["count"] == 0


def laughs(levels):
    """YAML of a few hundred bytes that names its parts again and again: ten times as much for each level."""
    lines = ["a0: &a0 [x]", *(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, levels))]
    return "\n".join(lines)


@pytest.mark.parametrize("content", [laughs(12), "a: " + "[" * 5000 + "]" * 5000, "a: &a [*a]\n"])
def test_settings_that_would_grow_without_end_are_settings_that_are_not_there(tmp_path, content):
    run = make_run(tmp_path)
    run.config_file.write_text(content)
    client = client_of(tmp_path)
    for path in ("/runs", "/api/runs", "/runs/0/20260401-nano", "/runs/0/20260401-nano/report"):
        assert client.get(path).status_code == 200, path


def test_settings_may_name_a_part_again(tmp_path):
    (tmp_path / "config.yaml").write_text("a: &a [1, 2]\nb: *a\n")
    assert dict(read_settings(tmp_path / "config.yaml")) == {"a": [1, 2], "b": [1, 2]}


@pytest.mark.parametrize("name", [*FILES, "data.json", "evaluation.json", "benchmarks.jsonl", "before_after.json"])
def test_a_pipe_keeps_no_report_waiting(tmp_path, name):
    run = make_run(tmp_path)
    pipe = run.path / name
    pipe.unlink(missing_ok=True)
    os.mkfifo(pipe)
    client = client_of(tmp_path)
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(lambda: client.get("/runs/0/20260401-nano/report"))
        try:
            assert answer.result(timeout=200).status_code == 200
        finally:
            os.close(os.open(pipe, os.O_RDWR | os.O_NONBLOCK))


def test_a_report_of_files_that_are_too_long_for_a_page_names_the_command(tmp_path):
    run = make_run(tmp_path)
    with run.metrics_file.open("ab") as file:
        file.truncate(300 << 20)
    answer = client_of(tmp_path).get("/runs/0/20260401-nano/report")
    assert answer.status_code == 400 and "mamba-slm report" in answer.text


STATES = [
    '{"state": "running", "pid": -1, "process_start": null}',
    '{"state": "running", "pid": 1e400}',
    '{"state": ["running"], "exit_code": "x"}',
    "[" * 100_000,
]
JOBS = ['{"words": ["rm", "-rf"], "folder": ".", "created": 1, "is_queued": false}', "[" * 100_000, '{"words": []}']


PIPES = [(name, None) for name in ("job.json", "state.json", "log.txt")]
ODD = [*(("state.json", each) for each in STATES), *(("job.json", each) for each in JOBS), *PIPES]


@pytest.mark.parametrize(("file", "content"), ODD)
def test_what_stands_in_the_folder_of_a_job_breaks_no_page_and_ends_no_process(tmp_path, file, content):
    folder = new_folder(tmp_path)
    job = {"words": ["mamba-slm", "serve", "m"], "folder": ".", "created": 1, "is_queued": False, "run": {"a": 1}}
    (folder / "job.json").write_text(json.dumps(job))
    me = {"pid": os.getpid(), "process_start": process_start(os.getpid()), "machine": machine_identity()}
    write_state(folder, state="running", **me)
    (folder / file).unlink(missing_ok=True)
    if content is None:
        os.mkfifo(folder / file)
    else:
        (folder / file).write_text(content)
    client = client_of(tmp_path)
    with ThreadPoolExecutor(1) as pool:
        paths = ("/api/jobs", "/api/serve", "/api/system", "/api/home", "/api/chat/models", "/api/models")
        answers = pool.submit(lambda: {path: client.get(path).status_code for path in paths})
        try:
            assert set(answers.result(timeout=200).values()) == {200}
        finally:
            if content is None:
                os.close(os.open(folder / file, os.O_RDWR | os.O_NONBLOCK))
    if file == "state.json" and content is not None:
        answer = client.post(f"/api/jobs/0/{folder.name}/end", json={}, headers={"Origin": "http://localhost:8888"})
        assert answer.status_code in (200, 400)
        assert not answer.json().get("ended")


def test_a_link_in_a_run_shows_nothing_of_other_places(tmp_path):
    run = make_run(tmp_path / "runs")
    secret = tmp_path / "secret"
    secret.write_text('token: "hunter2"\n')
    for name in ("log.txt", "config.yaml"):
        (run.path / name).unlink(missing_ok=True)
        (run.path / name).symlink_to(secret)
    for name in ("metrics.jsonl", "samples.jsonl", "events.jsonl"):
        (run.path / name).unlink(missing_ok=True)
        (tmp_path / name).write_text('{"step": 1, "kind": "train", "prompt": "a", "text": "hunter2", "loss": 1.0}\n')
        (run.path / name).symlink_to(tmp_path / name)
    client = client_of(tmp_path / "runs")
    for path in (*PATHS, "/runs/0/20260401-nano/report", "/api/compare?run=0/20260401-nano"):
        answer = client.get(path)
        assert "hunter2" not in answer.text, path
        assert answer.status_code == (400 if path.endswith("report") else 200), path
