"""The form of a curation gives the command, and its result shows what each rule removed, with the documents."""

import json
import shlex
import subprocess
import sys

import pytest

from dashboard.made_data import write_lines
from dashboard.made_runs import client_of, parse
from data.curation.prose import good_prose
from mamba_slm.core.errors import ConfigError
from mamba_slm.dashboard.forms_data import KINDS, CurateForm
from mamba_slm.data.curation.verdict import KINDS as KINDS_OF_CURATION
from mamba_slm.runs.jobs import list_jobs

OWN = {"Origin": "http://localhost:8888"}


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A curation of tales in which some come twice and some are too short."""
    home = tmp_path_factory.mktemp("curation")
    long = good_prose(20, kind="books")
    write_lines(home / "tales.jsonl", [{"text": text} for text in (*long, *long[:4], "too short", "so is this")])
    words = CurateForm(inputs=str(home / "tales.jsonl"), kind="books", out=str(home / "out"), drop_share="0.1",
                       workers="1", keeps_rejects="yes").words()  # fmt: skip
    done = subprocess.run([sys.executable, "-m", "mamba_slm.cli.main", *words[1:]], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return home


def get(home, what, **asked):
    answer = client_of(home).get(f"/api/data/{what}", params={"path": str(home / "out"), **asked})
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_the_funnel_is_that_of_the_command(home):
    found = get(home, "curation")
    said = json.loads((home / "out" / "funnel.json").read_text())["total"]
    assert found["read"]["documents"] == 26
    assert found["written"]["documents"] == said["written"]["documents"]
    assert {row["rule"]: row["documents"] for row in found["rows"]} == {
        rule: row["documents"] for rule, row in said["removed"].items()
    }
    assert found["rows"][-1]["left"] == found["written"]["documents"], "what is left after the last rule is written"
    assert sum(found["scores"].values()) > 0
    assert found["drop_share"] == 0.1
    for row in found["rows"]:
        assert row["examples"] and row["examples"][0]["reason"].startswith(row["rule"])


def test_every_document_that_a_rule_removed_can_be_read_with_its_reason(home):
    rows = {row["rule"]: row["documents"] for row in get(home, "curation")["rows"]}
    for rule, count in rows.items():
        page = get(home, "removed", rule=rule, most=20)
        assert [row["rule"] for row in page["rows"]] == [rule] * count
        assert all(row["text"] for row in page["rows"])
    first = get(home, "removed", most=1)
    following = get(home, "removed", most=20, first=first["next"])
    assert len(following["rows"]) == sum(rows.values()) - 1 and following["is_end"]
    short = next(row for row in get(home, "removed", most=20)["rows"] if row["rule"].startswith("signals.min"))
    assert short["value"] < short["threshold"]


def test_a_folder_without_a_finished_curation_says_so(home):
    for what in ("curation", "removed"):
        answer = client_of(home).get(f"/api/data/{what}", params={"path": str(home)})
        assert answer.status_code == 400 and "holds no" in answer.json()["error"]


def plan(home, **form):
    return client_of(home).post("/api/data/curate/plan", json=form, headers=OWN).json()


def test_the_command_shown_means_what_was_typed(home):
    found = plan(
        home, inputs=f"{home / 'tales.jsonl'}\ncode={home}", kind="web", out="x y", drop_share="0.2", workers="2",
        key="body", benchmarks=f"{home}\n", keeps_rejects="yes", skips_bad="yes",
    )  # fmt: skip
    assert found["problem"] is None
    args = parse(shlex.split(found["command"])[1:])
    assert args.input == [str(home / "tales.jsonl"), f"code={home}"]
    assert (args.kind, args.out, args.drop_share, args.workers) == ("web", "x y", "0.2", 2)
    assert (args.decontaminate, args.keep_rejects) == ([str(home)], True)
    given = vars(args)
    assert (given["setting.text_key"], given["setting.on_error"]) == ("body", "skip")


@pytest.mark.parametrize(
    ("form", "said"),
    [
        ({"inputs": ""}, "nothing to curate"),
        ({"out": ""}, "the folder for the result is missing"),
        ({"inputs": "no-such-file"}, "no-such-file"),
        ({"kind": "poems"}, "poems"),
        ({"workers": "many"}, "many"),
        ({"out": "OUT"}, "holds a finished curation"),
    ],
)
def test_what_the_command_would_refuse_is_said_while_typing(home, form, said):
    if form.get("out") == "OUT":
        form = {"out": str(home / "out")}
    assert said in plan(home, **{"inputs": str(home / "tales.jsonl"), "out": str(home / "new"), **form})["problem"]


def test_a_form_with_other_fields_is_refused_and_read_only_starts_nothing(home):
    with pytest.raises(ConfigError):
        CurateForm.of({"evil": "x"})
    body = {"inputs": str(home / "tales.jsonl"), "out": str(home / "new")}
    client = client_of(home, is_read_only=True)
    assert client.post("/api/data/curate/start", json=body, headers=OWN).status_code == 400
    assert list_jobs(home) == []
    assert 'id="start"' not in client.get("/data/curate").text


def test_the_form_offers_the_kinds_that_curation_knows():
    assert tuple(KINDS) == KINDS_OF_CURATION
