"""Evaluations that lie on disk, what they say, and the form that starts one."""

import json
import shlex

import pytest

from dashboard.made_evaluations import make_evaluation
from dashboard.made_runs import EVIL, client_of, make_run, parse
from dashboard.test_jobs import ended
from mamba_slm.core.errors import ConfigError
from mamba_slm.core.files import write_json_atomic
from mamba_slm.dashboard.forms_evaluate import EvaluateForm
from mamba_slm.dashboard.reading.evaluations import Finder
from mamba_slm.runs.jobs import list_jobs, start_job

OWN = {"Origin": "http://localhost:8888"}
FORM = {"model": "runs/a", "benchmarks": "arc_easy,piqa", "data_dir": "benchmarks", "limit": "20"}


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A home in the folder that the dashboard is started in."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "runs"
    folder.mkdir()
    return folder


def listed(client):
    return {row["at"]: row for row in client.get("/api/evaluations").json()["evaluations"]}


def test_results_are_found_in_homes_in_runs_and_where_the_dashboard_was_started_and_each_once(home, tmp_path):
    run = make_run(home)
    make_evaluation(home / "evaluations" / "a")
    make_evaluation(run.path / "benchmarks" / "step-00000010")
    make_evaluation(tmp_path / "eval-nano")
    make_evaluation(home / ".hidden")
    make_evaluation(run.path / "checkpoints" / "step-00000050" / "x")
    found = listed(client_of(home))
    assert found["0/20260401-nano/benchmarks/step-00000010/results.json"]["name"] == "20260401-nano step-00000010"
    assert set(found) == {
        "0/evaluations/a/results.json",
        "0/20260401-nano/benchmarks/step-00000010/results.json",
        "1/eval-nano/results.json",
    }


def test_a_score_comes_with_its_interval_its_questions_and_what_guessing_gives(home):
    make_evaluation(home / "a", every=3, questions=40)
    found = client_of(home).get("/api/evaluations/one?at=0/a/results.json").json()
    (row,) = found["scores"]
    assert (row["task"], row["metric"], row["questions"]) == ("arc_easy", "acc_norm", 40)
    assert row["interval"][0] < row["value"] == 0.35 < row["interval"][1]
    assert found["chances"] == {"arc_easy": 0.25}
    assert row["published"]["source"], "a landmark says where it stands"
    assert "samples" not in found["summary"]


def test_the_differences_are_those_of_eval_compare(home, capsys):
    from mamba_slm.cli.main import main

    make_evaluation(home / "a", every=3)
    make_evaluation(home / "b", every=2)
    found = client_of(home).get("/api/evaluations/differences?at=0/a/results.json&beside=0/b/results.json").json()
    words = shlex.split(found["command"])
    assert main([*words[1:], "--json"]) == 0
    theirs = json.loads(capsys.readouterr().out)["differences"]
    assert [{key: row[key] for key in theirs[0]} for row in found["differences"]] == theirs
    assert theirs[0]["num_pairs"] == 40 and theirs[0]["verdict"] == "≈"


def test_answers_are_read_page_by_page_with_what_was_expected_and_given(home):
    make_evaluation(home / "a", every=2, questions=60)
    client = client_of(home)
    address = "/api/evaluations/answers?at=0/a/results.json&task=arc_easy&metric=acc_norm"
    wrong = client.get(f"{address}&which=wrong").json()
    assert (wrong["count"], wrong["asked"], len(wrong["answers"])) == (30, 60, 20)
    first = wrong["answers"][0]
    assert (first["question"], first["target"], first["answer"], first["score"]) == (1, " a river", " a lamp", 0)
    assert [each["logprob"] for each in first["choices"]] == [-9, -1, -9.5, -9.9]
    rest = client.get(f"{address}&which=wrong&first=20").json()
    assert [each["question"] for each in rest["answers"]] == list(range(41, 60, 2))
    assert client.get(f"{address}&which=right").json()["count"] == 30
    assert client.get(f"{address}&which=all").json()["count"] == 60
    assert client.get(f"{address}&which=changed").status_code == 400, "of what?"


def test_changed_answers_are_those_of_which_the_score_differs_and_say_to_which_side(home):
    make_evaluation(home / "a", every=2)
    make_evaluation(home / "b", every=3)
    client = client_of(home)
    address = "/api/evaluations/answers?at=0/a/results.json&beside=0/b/results.json&task=arc_easy&metric=acc"
    found = {which: client.get(f"{address}&which={which}").json() for which in ("changed", "better", "worse")}
    right = [set(range(0, 40, step)) for step in (2, 3)]
    assert {each["question"] for each in found["better"]["answers"]} == right[1] - right[0]
    assert {each["question"] for each in found["worse"]["answers"]} == right[0] - right[1]
    assert found["changed"]["count"] == found["better"]["count"] + found["worse"]["count"]
    assert found["worse"]["answers"][0]["beside"]["answer"] == " a lamp"


def test_a_longer_choice_is_judged_by_length_where_the_metric_is(home):
    path = make_evaluation(home / "a", every=1, questions=2)
    text = path.read_text().replace("[-1.0, -9.0, -9.5, -9.9]", "[-8.0, -7.0, -3.0, -9.9]")
    path.write_text(text)
    client = client_of(home)
    address = "/api/evaluations/answers?at=0/a/results.json&task=arc_easy&which=all&metric="
    assert client.get(f"{address}acc_norm").json()["answers"][0]["answer"] == " a longer stone"
    assert client.get(f"{address}acc").json()["answers"][0]["answer"] == " a river", "as it was written down"


@pytest.mark.parametrize(
    "at",
    [
        "0/../secret/results.json",
        "1/../secret/results.json",
        "0/link/results.json",
        "0/file/results.json",
        "0//etc/passwd",
        "0/a/config.yaml",
        "0/folder/results.json",
        "9/a/results.json",
        "x",
        "0/a%00/results.json",
        "0/fifo/results.json",
        "0/circle/results.json",
        f"0/{'x' * 5000}/results.json",
    ],
)
def test_nothing_is_read_but_results_below_the_homes(home, tmp_path, monkeypatch, at):
    import os

    inner = tmp_path / "inner"
    inner.mkdir()
    monkeypatch.chdir(inner)
    secret = make_evaluation(tmp_path / "secret")
    (home / "link").symlink_to(tmp_path / "secret")
    (home / "file").mkdir()
    (home / "file" / "results.json").symlink_to(secret)
    (home / "folder" / "results.json").mkdir(parents=True)
    (home / "fifo").mkdir()
    os.mkfifo(home / "fifo" / "results.json")
    (home / "circle").symlink_to(home / "circle")
    client = client_of(home)
    assert listed(client) == {}
    for address in (f"one?at={at}", f"answers?task=arc_easy&at={at}", f"differences?at={at}&beside={at}"):
        assert client.get(f"/api/evaluations/{address}").status_code == 400, address


def test_many_pages_that_ask_look_once_and_rest_in_proportion_to_what_it_took(tmp_path):
    times = iter([0, 5, 50, 104, 106, 107])  # it took 5 seconds, so it rests for 100
    finder = Finder([tmp_path], clock=lambda: next(times))
    assert finder.look().evaluations == []
    make_evaluation(tmp_path / "a")
    assert [len(finder.look().evaluations) for _ in range(3)] == [0, 0, 1]


def test_a_damaged_or_half_finished_evaluation_costs_itself_and_nothing_else(home):
    make_evaluation(home / "good")
    for name, content in {"a": b"\xff{", "b": b'{\n  "tasks": 1,\n  "samples": {\n  }\n}', "c": b"[" * 50_000}.items():
        (home / name).mkdir()
        (home / name / "results.json").write_bytes(content)
    (home / "half").mkdir()
    (home / "half" / "answers.jsonl").write_text('{"format_version": 1}\n{"key": "x"}\n{"key": "y"}\n')
    (home / "d").mkdir()
    (home / "d" / "perplexity.json").write_text("[1]")
    found = listed(client_of(home))
    assert [at for at, row in found.items() if row["problem"] is None] == [
        "0/half/answers.jsonl",
        "0/good/results.json",
    ]
    assert found["0/half/answers.jsonl"]["answers"] == 2
    assert len(found) == 6


def test_texts_probes_speed_and_baselines_are_listed_with_what_they_hold(home):
    files = {
        "t/perplexity.json": "texts",
        "p/probe.json": "probe",
        "s/speed.json": "speed",
        "r/evaluation.json": "baselines",
    }
    for name in files:
        (home / name).parent.mkdir()
        write_json_atomic(home / name, [] if "evaluation" in name else {"format_version": 1, "model": "models/x"})
    text = {"text": "a/web.txt", "token_perplexity": 12.5, "bits_per_byte": 0.9, "positions": []}
    write_json_atomic(home / "t/perplexity.json", {"format_version": 1, "model": "models/x", "texts": [text, 3]})
    found = listed(client_of(home))
    assert {at.removeprefix("0/"): row["kind"] for at, row in found.items()} == files
    assert found["0/r/evaluation.json"]["model"] == "r"
    assert found["0/t/perplexity.json"]["texts"] == [
        {"text": "a/web.txt", "token_perplexity": 12.5, "bits_per_byte": 0.9}
    ]


@pytest.mark.parametrize(
    ("good", "bad"),
    [
        ('"scores": {"acc": 1.0', '"scores": {"acc": "x"'),
        ('"choices": [" a river"', '"choices": [7'),
        ('"logprobs": [-1.0', '"logprobs": ["x"'),
        ('"question": 0, ', '"question": {"a": []}, '),
        ('"scores": {\n        "acc": {', '"scores": {}, "x": {\n        "acc": {'),
        ('"stderr": 0', '"stderr": "x", "y": 0'),
    ],
)
def test_a_file_of_another_make_is_refused_or_shown_and_never_an_accident(home, good, bad):
    path = make_evaluation(home / "a", every=1, questions=3)
    text = path.read_text()
    assert good in text
    path.write_text(text.replace(good, bad))
    client = client_of(home)
    assert client.get("/api/evaluations").status_code == 200
    for what in ("one?", "answers?task=arc_easy&metric=acc&", "differences?beside=0/a/results.json&"):
        assert client.get(f"/api/evaluations/{what}at=0/a/results.json").status_code in (200, 400), what


@pytest.mark.parametrize(
    ("fields", "flags"),
    [
        ({}, "--benchmarks arc_easy,piqa --data-dir benchmarks --limit 20"),
        ({"chat": "on", "num_fewshot": "5"}, "--num-fewshot 5 --chat"),
        ({"baseline": "x", "more": "--weights int8 --samples 10"}, "--baseline x --out"),
        ({"what": "texts", "texts": "a b.txt\nc"}, "--perplexity 'a b.txt' --perplexity c --out"),
        ({"what": "texts", "texts": "c", "by_position": "on"}, "--perplexity c --by-position --out"),
        ({"what": "speed", "lengths": "64", "times": "3"}, "--task benchmark --lengths 64 --num-runs 3"),
    ],
)
def test_the_form_is_a_command_that_exists(tmp_path, fields, flags):
    words = EvaluateForm.of(FORM | fields).words(tmp_path)
    assert words[:3] == ["mamba-slm", "eval", "runs/a"]
    assert flags in shlex.join(words)
    assert parse(words[1:]).out == str(tmp_path / "evaluations" / "a")


def test_long_texts_are_measured_by_the_command_for_them(tmp_path):
    words = EvaluateForm.of({"what": "probe", "model": "m", "lengths": "64,128"}).words(tmp_path)
    assert parse(words[1:]).lengths == "64,128"
    assert words[-1] == str(tmp_path / "evaluations" / "m" / "probe.json")


@pytest.mark.parametrize(
    "fields",
    [
        {"model": ""}, {"model": "--json"}, {"model": "compare"}, {"benchmarks": ""}, {"name": "../x"}, {"name": ".x"},
        {"more": "--out x"}, {"more": "'"}, {"what": "texts"}, {"what": "else"}, {"limit": ["1"]}, {"foo": "x"},
    ],
)  # fmt: skip
def test_a_form_that_cannot_work_says_why(tmp_path, fields):
    with pytest.raises(ConfigError):
        EvaluateForm.of(FORM | fields).words(tmp_path)


def test_names_that_are_taken_get_a_number_or_are_refused(tmp_path):
    (tmp_path / "evaluations" / "a").mkdir(parents=True)
    assert EvaluateForm.of(FORM).folder(tmp_path).name == "a-2"
    with pytest.raises(ConfigError, match="already"):
        EvaluateForm.of(FORM | {"name": "a"}).folder(tmp_path)


def test_the_plan_says_what_the_command_would_refuse(home):
    client = client_of(home)
    assert "no model" in client.post("/api/evaluate/plan", json={}, headers=OWN).json()["problem"]
    plan = client.post("/api/evaluate/plan", json=FORM | {"more": "--weihgts int8"}, headers=OWN).json()
    assert "--weights" in plan["problem"] and plan["command"] is None
    assert (
        client.post("/api/evaluate/plan", json=FORM, headers=OWN).json()["command"].startswith("mamba-slm eval runs/a")
    )


def test_the_plan_counts_the_questions_and_knows_a_time_only_from_earlier_evaluations_of_the_model(home, tmp_path):
    form = {"model": "runs/a", "benchmarks": "all,blimp,mine", "limit": "10"}
    first = client_of(home).post("/api/evaluate/plan", json=form, headers=OWN).json()["asks"]
    assert first.startswith("1,350 questions and those of mine; how long it takes is known after")
    make_evaluation(home / "x", model=str(home / "a"))  # 40 questions in 2.5 s
    later = client_of(home).post("/api/evaluate/plan", json=form, headers=OWN).json()["asks"]  # looks at once
    assert "about 1 m 24 s, at the pace of 1 earlier evaluation of this model" in later


def test_a_broken_evaluation_goes_on_with_its_own_command(home, tmp_path):
    half = home / "evaluations" / "a"
    half.mkdir(parents=True)
    (half / "answers.jsonl").write_text('{"format_version": 1}\n{"key": "x"}\n')
    client = client_of(home)
    address, body = "/api/evaluate/resume", {"at": "0/evaluations/a/answers.jsonl"}
    answer = client.post(address, json=body, headers=OWN)
    assert answer.status_code == 400 and "--resume" in answer.json()["hint"]
    words = ["mamba-slm", "eval", "nowhere", "--html", "x", "--out", str(half)]  # which is refused at once
    start_job(words, home=home, folder=tmp_path)
    ended(home)
    assert client.post(address, json=body, headers=OWN).status_code == 200
    assert ended(home).words == (*words, "--resume")
    assert client.post(address, json=body, headers=OWN).status_code == 200
    assert ended(home).words == (*words, "--resume"), "said once"


def test_a_started_evaluation_is_the_job_that_was_shown(home):
    client = client_of(home)
    form = {"model": "nowhere", "what": "texts", "texts": "text.txt"}
    shown = client.post("/api/evaluate/plan", json=form, headers=OWN).json()["command"]
    assert client.post("/api/evaluate/start", json=form, headers=OWN).status_code == 200
    (job,) = list_jobs(home)
    assert shlex.join(job.words) == shown
    assert client.post("/api/evaluate/start", json=form | {"is_queued": "x"}, headers=OWN).status_code == 400


def test_read_only_starts_nothing_and_shows_no_button(home):
    client = client_of(home, is_read_only=True)
    assert client.post("/api/evaluate/start", json=FORM, headers=OWN).status_code == 400
    assert 'id="start"' not in client.get("/evaluate").text
    assert client.get("/api/evaluations").status_code == 200


def test_what_models_say_stays_data(home):
    make_evaluation(home / "a", model=EVIL, text=EVIL)
    client = client_of(home)
    for address in ("/api/evaluations", "/api/evaluations/one?at=0/a/results.json"):
        assert client.get(address).headers["content-type"] == "application/json"
    assert EVIL not in client.get("/evaluate").text
