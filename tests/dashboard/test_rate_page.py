"""Rating on the page: blind, every choice on disk at once, nothing counted twice, and files that training reads."""

import csv
import io
import json
import os
import shlex

import pytest

from dashboard.made_runs import EVIL, client_of, make_run, parse
from mamba_slm.core.errors import ConfigError
from mamba_slm.dashboard.forms_rate import SetForm
from mamba_slm.dashboard.reading.sets import find_set, source_of
from mamba_slm.data.conversations.read import read_labelled, read_preferences
from mamba_slm.runs.jobs import list_jobs
from mamba_slm.runs.preferences.rows import Answer, Pair
from mamba_slm.runs.preferences.store import PreferenceSet

OWN = {"Origin": "http://localhost:8888"}
SET = "/api/rate/0/talk"
SECRET = ("model-alpha", "model-beta")


def filled_set(home, count=12):
    preferences = PreferenceSet.open_or_create("talk", home, seed=5)
    preferences.add_pairs(
        Pair(
            ({"role": "user", "content": f"question {number}"},),
            (Answer(f"good {number}", SECRET[0]), Answer(f"a bad one {number}", SECRET[1])),
        )
        for number in range(count)
    )
    return preferences


def choose(client, state, choice, **more):
    body = {"rater": state["rater"], "turn": state["turn"], "choice": choice, "seconds": 2.5, **more}
    return client.post(f"{SET}/choose", json=body, headers=OWN)


def rate_all(client):
    """As somebody who always likes what begins with "good"."""
    state = client.get(SET).json()
    seen = []
    while state["shown"]:
        seen.append(state["shown"])
        state = choose(client, state, "left-much" if state["shown"]["left"].startswith("good") else "right").json()
    return state, seen


def test_what_is_liked_is_found_again_and_nothing_shown_names_a_model_or_a_repetition(tmp_path):
    filled_set(tmp_path)
    state, seen = rate_all(client_of(tmp_path))
    assert len(seen) == 13, "one of twelve came again"
    assert all(set(shown) == {"prompt", "left", "right"} for shown in seen)
    assert not any(name in json.dumps(seen) for name in SECRET)
    assert {shown["left"].startswith("good") for shown in seen} == {True, False}, "the sides are exchanged"
    found = state["statistics"]
    (duel,) = found["duels"]
    assert (duel["models"], duel["wins"]["hits"], duel["wins"]["count"]) == ([*SECRET], 12, 12)
    assert (found["self_agreement"]["count"], found["self_agreement"]["share"]) == (1, 1.0)
    assert any("shorter answers were preferred" in remark for remark in state["remarks"])
    assert state["usable"] == {"pairs": 12, "answers": 24}
    assert (state["rated"], state["total"], found["seconds"]) == (12, 12, 2.5)


def test_each_choice_is_on_disk_before_the_next_pair_and_an_undo_shows_it_again(tmp_path):
    preferences = filled_set(tmp_path)
    client = client_of(tmp_path)
    state = client.get(SET).json()
    after = choose(client, state, "left").json()
    (rating,) = preferences.ratings()
    assert (rating.choice, rating.seconds, rating.rater, after["last"]) == ("left", 2.5, "me", "left")
    assert after["shown"] != state["shown"]
    back = client.post(f"{SET}/undo", json={"rater": "me"}, headers=OWN).json()
    assert back["shown"] == state["shown"] and preferences.ratings() == []
    assert client.post(f"{SET}/undo", json={"rater": "me"}, headers=OWN).status_code == 400


def test_a_choice_about_a_pair_that_is_no_longer_shown_does_not_count(tmp_path):
    preferences = filled_set(tmp_path)
    client = client_of(tmp_path)
    state = client.get(SET).json()
    assert choose(client, state, "left").status_code == 200
    again = choose(client, state, "right")  # a second page, or a key pressed twice
    assert again.status_code == 409 and "no longer" in again.json()["error"]
    assert len(preferences.ratings()) == 1


def test_an_edited_answer_is_what_is_learned(tmp_path):
    preferences = filled_set(tmp_path)
    client = client_of(tmp_path)
    state = client.get(SET).json()
    assert choose(client, state, "tie", edited="x").status_code == 400, "only what is liked can be edited"
    assert choose(client, state, "right", edited="as it should be").status_code == 200
    text = client.get(f"{SET}/export?format=dpo").text
    assert json.loads(text)["chosen"] == [{"role": "assistant", "content": "as it should be"}]
    assert preferences.ratings()[0].edited == "as it should be"


def test_exports_are_files_that_alignment_reads(tmp_path):
    filled_set(tmp_path)
    client = client_of(tmp_path)
    assert client.get(f"{SET}/export?format=dpo").status_code == 400, "nothing is rated"
    rate_all(client)
    for format, read, count in (("dpo", read_preferences, 12), ("kto", read_labelled, 24)):
        answer = client.get(f"{SET}/export?format={format}")
        assert f"talk-{format}.jsonl" in answer.headers["content-disposition"]
        file = tmp_path / f"{format}.jsonl"
        file.write_text(answer.text)
        assert len(read(file, say=lambda _: None)) == count
    rows = list(csv.DictReader(io.StringIO(client.get(f"{SET}/export?format=csv").text)))
    assert len(rows) == 13 and {row["rater"] for row in rows} == {"me"}
    assert client.get(f"{SET}/export?format=exe").status_code == 404


def test_a_set_of_another_home_is_named_so_that_training_finds_it(tmp_path, monkeypatch):
    preferences = filled_set(tmp_path / "other")
    client = client_of(tmp_path / "other")
    rate_all(client)
    source = client.get(SET).json()["data"]
    assert source == f"prefs:{preferences.path}"
    assert len(read_preferences(source, say=lambda _: None)) == 12
    with pytest.raises(ConfigError, match="is no set"):
        read_preferences("prefs:/etc/talk", say=lambda _: None)
    monkeypatch.setenv("MAMBA_SLM_HOME", str(tmp_path / "other"))
    assert source_of(preferences) == "prefs:talk"


def test_raters_do_not_disturb_each_other(tmp_path):
    filled_set(tmp_path)
    client = client_of(tmp_path)
    rate_all(client)
    other = client.get(f"{SET}?rater=ada").json()
    assert (other["rated"], other["last"], other["raters"]) == (0, None, ["me"])


@pytest.mark.parametrize(
    "body",
    [
        {"rater": ""}, {"rater": 1}, {"rater": "a\nb"}, {"seconds": "1"}, {"seconds": True}, {"choice": "x"},
        {"choice": None}, {"edited": 3}, {"edited": " "}, {"turn": None},
    ],
)  # fmt: skip
def test_choices_of_another_kind_are_refused(tmp_path, body):
    preferences = filled_set(tmp_path)
    client = client_of(tmp_path)
    state = client.get(SET).json()
    whole = {"rater": "me", "turn": state["turn"], "choice": "left", "seconds": 1, **body}
    assert client.post(f"{SET}/choose", json=whole, headers=OWN).status_code in (400, 409)
    assert preferences.ratings() == []


@pytest.mark.parametrize("name", ["%2e%2e", "..%2fsecret", ".hidden", "nobody", "a%00b"])
def test_no_name_leads_out_of_the_sets(tmp_path, name):
    home = tmp_path / "home"
    filled_set(home)
    PreferenceSet.open_or_create("secret", tmp_path)
    client = client_of(home)
    for address in (f"/api/rate/0/{name}", f"/api/rate/0/{name}/export", "/api/rate/7/talk"):
        assert client.get(address).status_code in (400, 404), address


def test_a_set_that_is_a_link_out_of_its_home_is_not_shown(tmp_path):
    secret, home = filled_set(tmp_path / "secret"), tmp_path / "home"
    filled_set(home)
    (home / "preferences" / "linked").symlink_to(secret.path)
    own = PreferenceSet.open_or_create("own", home)
    own.pairs_file.symlink_to(secret.pairs_file)
    client = client_of(home)
    for name in ("linked", "own"):
        answer = client.get(f"/api/rate/0/{name}")
        assert answer.status_code == 400 and "leads out" in answer.json()["error"]
    rows = {row["name"]: row["problem"] for row in client.get("/api/rate/sets").json()["sets"]}
    assert rows["talk"] is None and "leads out" in rows["linked"] and "leads out" in rows["own"]


def test_a_set_that_cannot_be_read_says_so_and_blocks_nothing(tmp_path):
    filled_set(tmp_path)
    broken = PreferenceSet.open_or_create("broken", tmp_path)
    broken.pairs_file.write_text("{}\n{}\n")
    PreferenceSet.open_or_create("pipe", tmp_path)
    os.mkfifo(tmp_path / "preferences" / "pipe" / "pairs.jsonl")
    rows = {row["name"]: row for row in client_of(tmp_path).get("/api/rate/sets").json()["sets"]}
    assert rows["talk"]["pairs"] == 12 and rows["talk"]["problem"] is None
    assert "is no pair" in rows["broken"]["problem"] and "not a file" in rows["pipe"]["problem"]


def test_what_answers_say_stays_text_and_never_reaches_the_page_of_the_server(tmp_path):
    preferences = PreferenceSet.open_or_create("talk", tmp_path)
    preferences.add_pairs([Pair(({"role": "user", "content": EVIL},), (Answer(EVIL, "a"), Answer("b", EVIL)))])
    client = client_of(tmp_path)
    assert EVIL not in client.get("/rate").text
    assert client.get(SET).headers["content-type"] == "application/json"


CHAT = {
    "prompt": [{"role": "user", "content": "Why is the sky blue?"}],
    "answers": [{"text": "Air scatters blue light more.", "model": "a"}, {"text": "It is.", "model": "b"}],
}


def test_answers_of_a_conversation_become_a_pair_and_the_better_one_can_change(tmp_path):
    client = client_of(tmp_path)
    add = "/api/rate/0/from-chat/add"
    assert client.post(add, json={**CHAT, "better": 0}, headers=OWN).json()["is_new"]
    turned = {**CHAT, "answers": CHAT["answers"][::-1]}
    assert not client.post(add, json={**turned, "better": 0}, headers=OWN).json()["is_new"]
    (rating,) = PreferenceSet.open("from-chat", tmp_path).ratings()
    assert (rating.outcome, rating.rater, rating.seconds) == ("second", "chat", None), "the last word counts"
    text = client.get("/api/rate/0/from-chat/export?format=dpo").text
    assert json.loads(text)["chosen"][0]["content"] == "It is."
    assert client.get("/api/rate/0/from-chat").json()["shown"]["prompt"] == CHAT["prompt"], "others rate it blindly"


@pytest.mark.parametrize(
    "change",
    [
        {"prompt": []}, {"prompt": [{"role": "tool", "content": "x"}]}, {"answers": [{"text": "a", "model": "b"}] * 2},
        {"answers": [{"text": 1, "model": "b"}, {"text": "x", "model": "b"}]}, {"better": 2}, {"better": True},
        {"rater": ""}, {"prompt": [{"role": "assistant", "content": "x"}]}, {"prompt": [1]},
    ],
)  # fmt: skip
def test_what_is_no_pair_of_answers_begins_no_set(tmp_path, change):
    assert client_of(tmp_path).post("/api/rate/0/x/add", json={**CHAT, **change}, headers=OWN).status_code == 400
    assert client_of(tmp_path).post("/api/rate/0/..%2fx/add", json=CHAT, headers=OWN).status_code in (400, 404)
    assert client_of(tmp_path).get("/api/rate/sets").json()["sets"] == []


def test_the_forms_give_the_commands_that_make_pairs(tmp_path):
    client = client_of(tmp_path)
    run = make_run(tmp_path)
    assert client.get("/api/rate/sets").json()["models"] == [str(run.path)]
    (tmp_path / "my prompts.txt").write_text("Once\n")
    form = {
        "kind": "answer", "name": "talk", "models": f"{run.path}\n-odd\n", "prompts": str(tmp_path / "my prompts.txt"),
        "limit": "5", "seed": "1",
    }  # fmt: skip
    assert "option" in client.post("/api/rate/plan", json=form, headers=OWN).json()["problem"]
    form["models"] = str(run.path)
    found = client.post("/api/rate/plan", json=form, headers=OWN).json()
    assert found["problem"] is None
    args = parse(shlex.split(found["command"])[1:])
    assert (args.name, args.model, args.limit, args.seed, args.prepare) == ("talk", [str(run.path)], 5, 1, True)
    assert args.home == str(tmp_path)
    words = SetForm.of({"kind": "import", "name": "talk", "file": "pairs.jsonl", "unrated": "yes"}).words(tmp_path)
    args = parse(words[1:])
    assert (args.file, args.name, args.unrated) == ("pairs.jsonl", "talk", True)


@pytest.mark.parametrize(
    ("form", "said"),
    [
        ({"name": "../x"}, "not a usable name"),
        ({"name": ""}, "is missing"),
        ({"models": "a\nb\nc"}, "two models"),
        ({"models": ""}, "which model"),
        ({"prompts": ""}, "is missing"),
        ({"limit": "lots"}, "lots"),
        ({"prompts": "no-such-file.txt"}, "no file"),
        ({"kind": "import", "file": "-x"}, "option"),
    ],
)
def test_what_the_command_would_refuse_is_said_while_typing(tmp_path, form, said):
    whole = {"kind": "answer", "name": "talk", "models": "m", "prompts": "p.txt", **form}
    assert said in client_of(tmp_path).post("/api/rate/plan", json=whole, headers=OWN).json()["problem"]


def test_read_only_rates_and_makes_nothing(tmp_path):
    preferences = filled_set(tmp_path)
    client = client_of(tmp_path, is_read_only=True)
    state = client.get(SET).json()
    assert choose(client, state, "left").status_code == 400
    assert client.post(f"{SET}/undo", json={"rater": "me"}, headers=OWN).status_code == 400
    form = {"kind": "import", "name": "x", "file": "x.jsonl"}
    assert client.post("/api/rate/begin", json=form, headers=OWN).status_code == 400
    assert preferences.ratings() == [] and list_jobs(tmp_path) == []
    text = client.get("/rate").text
    assert 'id="choices"' not in text and 'id="form"' not in text
    assert find_set((tmp_path,), 0, "talk").name == "talk"
