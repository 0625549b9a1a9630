"""The first page: how far one has come, and what waits for somebody."""

import shlex
import shutil

import pytest

from dashboard.made_evaluations import make_evaluation
from dashboard.made_runs import client_of, make_run, parse
from dashboard.test_jobs import ended
from mamba_slm.dashboard.reading.facts import facts_of
from mamba_slm.runs.jobs import list_jobs, start_job
from mamba_slm.runs.layout import RunDirectory
from mamba_slm.runs.lock import RunLock
from mamba_slm.runs.record import RunRecord, write_record

OWN = {"Origin": "http://localhost:8888"}


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A home in the folder that the dashboard is started in."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "runs"
    folder.mkdir()
    return folder


def now(home):
    return client_of(home).get("/api/home").json()


def states(home):
    return {step["name"]: step["state"] for step in now(home)["steps"]}


def tuned(home, name="20260405-sft", **more):
    run = make_run(home, name, **more)
    record = RunRecord(
        id=name, kind="finetune", command=("mamba-slm", "runs", "list"), created="2026-04-05", working_directory="."
    )
    write_record(run.record_file, record)
    return run


def test_the_way_begins_with_text_and_goes_on_with_what_is_there(home, tmp_path):
    assert states(home) == {
        "Data": "next", "Train": "open", "Evaluate": "open", "Fine-tune": "open", "Rate": "open", "Talk": "open",
    }  # fmt: skip
    (tmp_path / "shards").mkdir()
    (tmp_path / "shards" / "shards.json").write_text("{}")
    assert (states(home)["Data"], states(home)["Train"]) == ("done", "next")
    make_run(home)
    assert (states(home)["Train"], states(home)["Evaluate"]) == ("done", "next")
    make_evaluation(home / "evaluations" / "a")
    assert (states(home)["Evaluate"], states(home)["Fine-tune"]) == ("done", "next")
    tuned(home)
    assert (states(home)["Fine-tune"], states(home)["Rate"]) == ("done", "next")
    (home / "preferences" / "x").mkdir(parents=True)
    (home / "preferences" / "x" / "ratings.jsonl").write_text("{}\n")
    assert (states(home)["Rate"], states(home)["Talk"]) == ("done", "next")


def test_a_file_that_was_sent_is_data_and_the_one_that_the_next_step_names(home):
    (home / ".uploads").mkdir()
    (home / ".uploads" / ".half.part").write_text("Once")
    assert states(home)["Data"] == "next"
    (home / ".uploads" / "my notes.txt").write_text("Once upon a time")
    train = next(step for step in now(home)["steps"] if step["state"] == "next")
    assert train["name"] == "Train" and train["where"] == {"data": str(home / ".uploads" / "my notes.txt")}
    assert train["where"]["data"] in shlex.split(train["command"])


def test_the_command_of_the_next_step_names_a_run_that_still_runs_when_there_is_no_other(home):
    run = make_run(home, state="running")
    with RunLock(run):
        evaluate = next(step for step in now(home)["steps"] if step["state"] == "next")
        assert evaluate["where"] == {"model": str(run.path)} and str(run.path) in evaluate["command"]
        other = make_run(home, "20260101-old")
        assert now(home)["steps"][2]["where"] == {"model": str(other.path)}


def test_a_step_that_runs_says_so_and_is_not_the_next_one(home):
    run = make_run(home, state="running")
    with RunLock(run):
        assert (states(home)["Train"], states(home)["Evaluate"]) == ("running", "next")


def test_who_begins_with_the_model_of_somebody_else_is_not_sent_back(home):
    tuned(home)
    assert (states(home)["Train"], states(home)["Fine-tune"], states(home)["Rate"]) == ("open", "done", "next")


def test_steps_lead_to_the_model_that_is_there_with_commands_that_exist(home):
    make_run(home, "20260401-old")
    run = make_run(home, "20260402-new")
    steps = now(home)["steps"]
    (evaluate,) = [step for step in steps if step["name"] == "Evaluate"]
    assert evaluate["where"] == {"model": str(run.path)} and str(run.path) in evaluate["command"]
    for step in steps:
        parse(step["command"].split()[1:])


def test_a_run_that_broke_shows_its_last_words_and_how_to_go_on_until_it_goes_on(home):
    run = make_run(home, state="running")
    (row,) = now(home)["needs"]
    assert (row["kind"], row["state"]) == ("run", "crashed")
    assert row["text"].startswith("last words") and "--resume" in row["command"]
    with RunLock(run):
        assert now(home)["needs"] == []


def test_what_broke_shows_its_error_with_the_hint(home):
    run = make_run(home, state="failed")
    run.log_file.write_text("step 1\nerror: too little text\nhint: use --vocab-size 357\n")
    (row,) = now(home)["needs"]
    assert row["text"] == "error: too little text\nhint: use --vocab-size 357"
    assert facts_of(run)["last_line"] == row["text"] and row["has_begun"]


def test_many_broken_runs_are_counted_not_listed(home):
    for number in range(7):
        make_run(home, f"run-{number}", state="failed", steps=2, samples=())
    assert [row["kind"] for row in now(home)["needs"]] == ["run"] * 4 + ["more"]
    assert now(home)["needs"][-1]["count"] == 3


def test_a_command_that_failed_is_named_until_it_was_started_again(home, tmp_path):
    words = ["mamba-slm", "models", "list", "--jsn"]
    job = start_job(words, home=home, folder=tmp_path)
    ended(home)
    (row,) = now(home)["needs"]
    assert (row["kind"], row["id"]) == ("job", job.id) and row["text"].startswith("error: unknown option '--jsn'")
    again = start_job(words, home=home, folder=tmp_path)
    ended(home)
    assert [row["id"] for row in now(home)["needs"]] == [again.id]


def test_a_new_measurement_comes_with_its_first_scores_and_an_old_one_not_at_all(home):
    import os

    make_evaluation(home / "a", tasks=("arc_easy", "piqa", "boolq", "winogrande"))
    make_evaluation(home / "run" / "benchmarks" / "step-00000010")
    old = make_evaluation(home / "b")
    os.utime(old, (0, 0))
    (row,) = now(home)["needs"]
    assert (row["kind"], row["at"], row["more"]) == ("evaluation", "0/a/results.json", 4)
    assert [score["task"] for score in row["scores"]] == ["arc_easy", "piqa", "boolq"]
    assert row["scores"][0]["interval"]


def test_a_measurement_with_a_baseline_says_how_it_differs_from_it(home, tmp_path):
    make_evaluation(home / "before")
    start_job(["mamba-slm", "models", "list"], home=home, folder=tmp_path)
    words = ["mamba-slm", "eval", "x", "--html", "x", "--baseline", "runs/before", "--out", str(home / "after")]
    start_job(words, home=home, folder=tmp_path)  # refused at once: what it would have written is made here
    ended(home)
    make_evaluation(home / "after", every=2)
    row = next(row for row in now(home)["needs"] if row.get("at") == "0/after/results.json")
    assert row["baseline"] == "0/before/results.json"
    (difference,) = row["differences"]
    assert difference["difference"] > 0 and difference["num_pairs"] == 40 and difference["verdict"] == "≈"


def test_the_quick_run_is_the_command_of_the_terminal_and_starts_once(home, monkeypatch):
    client = client_of(home)
    assert client.post("/api/quick", json={}, headers=OWN).json()["job"] == "000001"
    (job,) = list_jobs(home)
    assert job.words[1:] == ("quickstart", "--minutes", "5", "--out", str(home / "quickstart"))
    answer = client.post("/api/quick", json={}, headers=OWN)
    assert answer.status_code == 409
    client.post("/api/jobs/0/000001/end", json={}, headers=OWN)
    assert client_of(home, is_read_only=True).post("/api/quick", json={}, headers=OWN).status_code == 400


def test_a_quick_run_goes_on_where_the_last_one_stopped_or_gets_a_folder_of_its_own(home):
    from mamba_slm.dashboard.reading.home import quick_start_folder
    from mamba_slm.dashboard.reading.library import Library

    library = Library([home])
    assert quick_start_folder(library).name == "quickstart"
    run = make_run(home, "quickstart", state="stopped")
    assert quick_start_folder(library).name == "quickstart"
    run.report_file.write_text("# done")
    assert quick_start_folder(library).name == "quickstart-2"
    second = RunDirectory.create(home / "quickstart-2")
    shutil.copy(run.status_file, second.status_file)
    assert quick_start_folder(library).name == "quickstart-2"


def test_read_only_shows_the_way_without_the_button(home):
    assert 'id="quick"' in client_of(home).get("/").text
    assert 'id="quick"' not in client_of(home, is_read_only=True).get("/").text
