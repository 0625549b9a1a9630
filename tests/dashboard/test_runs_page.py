"""The list of runs: notes, tags, and which settings differ."""

import json

import pytest

from dashboard.made_runs import client_of, make_run
from mamba_slm.runs.notes import FILE, read_notes

OWN = {"Origin": "http://localhost:8888"}
NOTES = "/api/runs/0/20260401-nano/notes"


def test_the_list_has_every_run_of_every_home_newest_first(tmp_path):
    for home, names in (("a", ("20260401-nano", "20260403-nano")), ("b", ("20260402-tiny",))):
        (tmp_path / home).mkdir()
        for name in names:
            make_run(tmp_path / home, name, steps=25)
    rows = client_of(tmp_path / "a", tmp_path / "b").get("/api/runs").json()["runs"]
    assert [(row["home"], row["name"]) for row in rows] == [
        (0, "20260403-nano"),
        (1, "20260402-tiny"),
        (0, "20260401-nano"),
    ]
    assert {row["state"] for row in rows} == {"done"} and rows[0]["step"] == 25


def test_notes_and_tags_are_kept_with_the_run(tmp_path):
    run = make_run(tmp_path)
    client = client_of(tmp_path)
    body = {"note": " higher lr ", "tags": ["best", "lr-6e-4", "best"]}
    assert client.post(NOTES, json=body, headers=OWN).status_code == 200
    (row,) = client.get("/api/runs").json()["runs"]
    assert (row["note"], row["tags"]) == ("higher lr", ["best", "lr-6e-4"])
    (run.path / FILE).write_text("{")
    assert read_notes(run).note == ""


@pytest.mark.parametrize(
    "body",
    [
        {"note": 1},
        {"tags": "x"},
        {"tags": [1]},
        {"tags": ["<b>"]},
        {"note": "x" * 3000},
        {"tags": ["t"] * 1 + [f"t{i}" for i in range(20)]},
    ],
)
def test_notes_of_another_kind_are_refused(tmp_path, body):
    run = make_run(tmp_path)
    assert client_of(tmp_path).post(NOTES, json=body, headers=OWN).status_code == 400
    assert not (run.path / FILE).exists()


def test_read_only_takes_no_notes(tmp_path):
    make_run(tmp_path)
    assert client_of(tmp_path, is_read_only=True).post(NOTES, json={}, headers=OWN).status_code == 400


def test_settings_that_differ_are_shown_and_no_others(tmp_path):
    for name, rate in (("one", "0.001"), ("two", "0.003")):
        make_run(tmp_path, name, config=f"train:\n  learning_rate: {rate}\n  seed: 7\n")
    found = client_of(tmp_path).get("/api/compare?run=0/one&run=0/two").json()
    assert found == {"runs": ["0/one", "0/two"], "settings": {"train.learning_rate": [0.001, 0.003]}}
    assert json.dumps(found)


@pytest.mark.parametrize(
    "query", ["", "run=one", "run=x/one", "run=0/../one", "run=9/one", "&".join(["run=0/one"] * 9)]
)
def test_what_cannot_be_compared_is_refused(tmp_path, query):
    make_run(tmp_path, "one")
    assert client_of(tmp_path).get(f"/api/compare?{query}").status_code in (400, 404)
