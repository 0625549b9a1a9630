"""Servers from the form, what is seen of them, and keys."""

import json
import os
import shlex
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from dashboard.made_runs import client_of, make_run, parse
from dashboard.reading.test_server_metrics import told
from mamba_slm.core.errors import ConfigError
from mamba_slm.core.listening import listen
from mamba_slm.dashboard import watching
from mamba_slm.dashboard.forms_serve import FLAGS, ServeForm, key_words
from mamba_slm.dashboard.page.serve import RUNTIMES, WEIGHTS
from mamba_slm.dashboard.reading.served import requests_of
from mamba_slm.dashboard.watching import MOST_WATCHES, Watches
from mamba_slm.runs.jobs import list_jobs, new_folder, write_state
from mamba_slm.runs.process import machine_identity, process_start

OWN = {"Origin": "http://localhost:8888"}
REQUEST = {
    "time": "2026-04-01T12:00:00.000Z",
    "event": "request",
    "id": "r1",
    "method": "POST",
    "path": "/v1/completions",
}


class Metrics(BaseHTTPRequestHandler):
    """A server that tells its metrics, to who has the key where there is one."""

    key = ""
    asked = 0

    def do_GET(self):
        type(self).asked += 1
        allowed = not self.key or self.headers.get("Authorization") == f"Bearer {type(self).key}"
        body = told(5 + self.asked, tokens=7, first=(1, 2, 2)).encode() if allowed else b"{}"
        self.send_response(200 if allowed and self.path == "/metrics" else 401)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_arguments):
        pass


@contextmanager
def telling(key=""):
    handler = type("Handler", (Metrics,), {"key": key})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as found:
        threading.Thread(target=found.serve_forever, daemon=True).start()
        yield handler, f"http://127.0.0.1:{found.server_address[1]}"
        found.shutdown()


def served(home, address, *, more=(), log=()):
    """The job of a server, as it looks while this very process is its worker."""
    path = new_folder(home)
    job = {"words": ["mamba-slm", "serve", "models/a", *more], "folder": str(home), "created": 1, "is_queued": False}
    (path / "job.json").write_text(json.dumps(job))
    me = {"pid": os.getpid(), "process_start": process_start(os.getpid()), "machine": machine_identity()}
    write_state(path, state="running", **me)
    lines = [
        "no chat template in the model folder: /v1/completions only",
        f"serving a at {address}/v1, stop with Ctrl-C",
    ]
    (path / "log.txt").write_text("\n".join([*lines, *log]) + "\n")
    return f"/api/serve/0/{path.name}"


def test_every_field_of_the_form_is_a_flag_of_the_command():
    body = dict.fromkeys(FLAGS, "1") | {"model": "runs/a", "weights": "int8", "runtime": "torch", "more": "--log json"}
    words = ServeForm.of(body).words()
    args = parse(words[1:])
    assert (args.model, args.weights, args.runtime, args.log, args.max_running) == (
        "runs/a",
        "int8",
        "torch",
        "json",
        1,
    )
    assert ServeForm.of({"model": "m", "host": "-x"}).words()[-1] == "--host=-x", "a value is never taken for a flag"
    for name in WEIGHTS:
        parse(["serve", "m", "--weights", name])
    for name in RUNTIMES:
        parse(["serve", "m", "--runtime", name])


@pytest.mark.parametrize(
    "body",
    [{}, {"model": "--help"}, {"model": "a", "more": "'"}, {"model": "a", "more": "--help"}, {"model": 1}, {"x": "y"}],
)
def test_a_form_that_is_no_command_is_refused(body):
    with pytest.raises(ConfigError):
        ServeForm.of(body).words()


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({}, None),
        ({"model": "nowhere"}, "there is no nowhere"),
        ({"host": "0.0.0.0"}, "nobody would need a key"),
        ({"host": "0.0.0.0", "more": "--insecure-no-keys"}, None),
        ({"api_keys": "absent.json"}, "there is no"),
        ({"weights": "int9"}, "int9"),
        ({"max_running": "many"}, "many"),
        ({"more": "--prot 1"}, "--prot"),
        ({"port": "99999"}, "from 0 to 65535"),
        ({"port": "-1"}, "from 0 to 65535"),
    ],
)
def test_what_the_command_would_refuse_is_said_before_it_starts(tmp_path, fields, problem):
    run = make_run(tmp_path)
    client = client_of(tmp_path)
    body = {"model": str(run.path), "port": "0", **fields}
    found = client.post("/api/serve/plan", json=body, headers=OWN).json()
    assert shlex.split(found["command"])[:2] == ["mamba-slm", "serve"]
    if problem is None:
        assert found["problem"] is None
    else:
        assert problem in found["problem"]
        assert client.post("/api/serve/start", json=body, headers=OWN).status_code >= 400
        assert not list_jobs(tmp_path)


def test_a_port_that_is_taken_is_said_before_the_start_and_one_that_is_free_stays_free(tmp_path):
    client, run = client_of(tmp_path), make_run(tmp_path)
    with listen("127.0.0.1", 0) as taken:
        body = {"model": str(run.path), "port": str(taken.getsockname()[1])}
        assert "--port 0" in client.post("/api/serve/plan", json=body, headers=OWN).json()["problem"]
    for _ in range(2):
        assert client.post("/api/serve/plan", json=body, headers=OWN).json()["problem"] is None


def test_a_running_server_shows_its_metrics_its_requests_and_how_to_ask_it(tmp_path, monkeypatch):
    monkeypatch.setattr(watching, "LEAST_SECONDS", 3600)  # else a slow machine looks again in between
    said = [
        json.dumps(REQUEST | {"status": 200, "body": "what somebody wrote"}),
        "{torn",
        json.dumps({"event": "other"}),
    ]
    with telling() as (handler, address):
        where = served(tmp_path, address, log=said)
        client = client_of(tmp_path)
        (row,) = client.get("/api/serve").json()["servers"]
        assert (row["state"], row["name"], row["model"], row["chats"], row["keys"]) == (
            "ready",
            "a",
            "models/a",
            False,
            None,
        )
        found = client.get(where).json()
        assert found["gauges"]["running"] == 1 and found["start"]["ended"] == 6 and found["problem"] is None
        assert [each["id"] for each in found["requests"]] == ["r1"]
        assert "somebody" not in json.dumps(found["requests"])
        assert f"curl {address}/v1/completions" in found["snippets"]["curl"]
        compile(found["snippets"]["python"], "snippet", "exec")
        client.get(where)
        assert handler.asked == 1, "many pages are one look"


def test_a_server_that_wants_a_key_gets_one_that_reads_metrics_only_and_is_shown_nowhere(tmp_path):
    with telling("sk-unknown") as (handler, address):
        where = served(tmp_path, address, more=["--api-keys", "keys.json"])
        client = client_of(tmp_path)
        client.post("/api/keys/add", json={"file": str(tmp_path / "keys.json"), "name": "ada"}, headers=OWN)
        found = client.get(where).json()
        assert found["wants_key"] and found["gauges"] is None
        assert client.get(where).json()["wants_key"] and handler.asked == 1, "each refusal is a line in its log"
        assert (
            '"Authorization: Bearer $KEY"' in found["snippets"]["curl"] and "os.environ" in found["snippets"]["python"]
        )
        other = served(tmp_path, address, more=["--api-keys", "keys.json"])
        ids = set()
        for each in (where, other, where):  # servers with the same file have the same key
            said = client.post(f"{each}/key", json={}, headers=OWN)
            assert said.status_code == 200 and "sk-" not in said.text
            listed = client.post("/api/keys/list", json={"file": str(tmp_path / "keys.json")}, headers=OWN).json()
            ids.add(listed["keys"][1]["id"])
        assert len(ids) == 1
        again = client_of(tmp_path)  # a dashboard that was started again does not know the key
        assert again.post(f"{where}/key", json={}, headers=OWN).status_code == 200
        keys = client.post("/api/keys/list", json={"file": str(tmp_path / "keys.json")}, headers=OWN).json()["keys"]
        assert [(key["name"], key["role"]) for key in keys] == [("ada", "user"), ("dashboard-metrics", "metrics")]
        assert keys[1]["id"] not in ids


def test_a_server_elsewhere_is_watched_with_its_key_which_is_kept_nowhere(tmp_path):
    with telling("sk-right") as (_, address):
        client = client_of(tmp_path)

        def look(key):
            body = {"address": f"{address}/v1/", "key": key}
            return client.post("/api/serve/elsewhere", json=body, headers=OWN).json()

        wrong = look("sk-wrong")
        assert wrong["wants_key"] and (wrong["server"]["state"], wrong["snippets"]) == ("silent", None)
        found = look("sk-right")
        assert found["gauges"]["running"] == 1 and found["server"]["state"] == "ready"
        assert found["server"]["name"].startswith("a ") and "sk-" not in json.dumps(found)
        for bad in (
            {"address": "file:///etc/passwd"},
            {"address": address, "key": "a\nb"},
            {"address": address, "after": "x"},
        ):
            assert client.post("/api/serve/elsewhere", json=bad, headers=OWN).status_code == 400


def test_what_is_watched_is_bounded():
    watches = Watches()
    first = watches.of("first")
    assert watches.of("first") is first
    for number in range(MOST_WATCHES):
        watches.of(number)
    assert watches.of("first") is not first


def test_a_server_that_does_not_answer_is_a_problem_and_no_error(tmp_path):
    client = client_of(tmp_path)
    found = client.get(served(tmp_path, "http://127.0.0.1:1")).json()
    assert "does not answer" in found["problem"] and found["server"]["state"] == "ready"


def test_a_key_is_shown_once_listed_without_it_and_removed(tmp_path):
    client = client_of(tmp_path)
    file = str(tmp_path / "keys.json")

    def ask(what, **body):
        return client.post(f"/api/keys/{what}", json={"file": file, **body}, headers=OWN)

    assert ask("list").json()["problem"].startswith("there is no")
    made = ask("add", name="ada", role="admin", tokens_per_minute="100k").json()
    assert made["key"].startswith("sk-mamba-")
    (row,) = ask("list").json()["keys"]
    assert (row["name"], row["role"], row["tokens_per_minute"]) == ("ada", "admin", 100_000)
    assert "sha256" not in row and made["key"] not in ask("list").text
    assert Path(file).stat().st_mode & 0o777 == 0o600
    assert ask("add", name="ada").status_code == 400
    assert ask("remove", name="ada").status_code == 200
    assert ask("remove", name="ada").status_code == 404
    assert "whose key" in ask("add", name="").json()["error"]
    parse(shlex.split(made["command"])[1:])


def test_a_pipe_is_no_file_of_keys(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    client = client_of(tmp_path)
    answer = client.post("/api/keys/list", json={"file": str(tmp_path / "pipe")}, headers=OWN)
    assert answer.status_code == 400 and "is no file" in answer.json()["error"]


def test_a_name_that_looks_like_a_flag_is_a_name():
    assert parse(["api-keys", *key_words("add", {"name": "--metrics"})]).name == "--metrics"


def test_nothing_is_started_or_made_where_everything_is_only_shown(tmp_path):
    with telling() as (_, address):
        where = served(tmp_path, address)
        client = client_of(tmp_path, is_read_only=True)
        for path in ("/api/serve/start", f"{where}/key", "/api/keys/list", "/api/keys/add", "/api/keys/remove"):
            assert client.post(path, json={"model": "a", "name": "b"}, headers=OWN).status_code == 400
        assert client.get(where).json()["gauges"]["running"] == 1
        page = client.get("/serve").text
        assert 'id="start"' not in page and 'id="key-form"' not in page


def test_requests_of_a_long_log_are_the_last_ones(tmp_path):
    lines = [json.dumps(REQUEST | {"id": f"r{number}"}) for number in range(2000)]
    lines.append(json.dumps(REQUEST | {"path": "/metrics", "status": 401}))
    (tmp_path / "log.txt").write_text("\n".join(lines))
    found = requests_of(tmp_path / "log.txt")
    assert found[0]["id"] == "r1999" and len(found) == 25
