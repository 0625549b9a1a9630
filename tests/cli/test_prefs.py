"""Promises of `mamba-slm prefs`: blind, steady, nothing lost, and files that training reads."""

import contextlib
import csv
import io
import json
import os
import pty
import subprocess
import sys
import termios

import pytest

from mamba_slm.cli.main import main
from mamba_slm.cli.prefs_screen import columns_of, screen, visible, wrapped
from mamba_slm.data.conversations.read import read_labelled, read_preferences
from mamba_slm.runs.preferences.rows import Answer, Pair
from mamba_slm.runs.preferences.session import Shown
from mamba_slm.runs.preferences.store import PreferenceSet
from small_models import save_small_model

SECRET = ("model-alpha", "model-beta")


def filled_set(count=12, *, name="talk"):
    preferences = PreferenceSet.open_or_create(name, seed=5)
    preferences.add_pairs(
        Pair(
            ({"role": "user", "content": f"question {number}"},),
            (Answer(f"good {number}", SECRET[0]), Answer(f"a bad one {number}", SECRET[1])),
        )
        for number in range(count)
    )
    return preferences


def press(monkeypatch, text):
    monkeypatch.setattr(sys, "stdin", io.StringIO(text))


def rate_all(monkeypatch, capsys, **flags):
    """Rate as somebody who always likes what begins with "good", reading what is shown."""
    words = [word for name, value in flags.items() for word in (f"--{name}", str(value))]
    while True:
        press(monkeypatch, "q\n")
        assert main(["prefs", "rate", "talk", *words]) == 0
        shown = capsys.readouterr().err
        if "every pair is rated" in shown:
            return
        key = "1" if shown.index("good ") < shown.index("a bad one ") else "5"
        press(monkeypatch, f"{key}\nq\n")
        assert main(["prefs", "rate", "talk", *words]) == 0
        capsys.readouterr()


def test_what_is_liked_is_found_again_and_no_model_is_named_meanwhile(monkeypatch, capsys):
    filled_set()
    press(monkeypatch, "3\nq\n")
    assert main(["prefs", "rate", "talk", "--rater", "you"]) == 0
    shown = capsys.readouterr().err
    assert not any(name in shown for name in SECRET)
    assert "1 A much · 2 A · 3 tie · 4 B · 5 B much · 6 both bad" in shown

    rate_all(monkeypatch, capsys, repeats=0.2)
    assert main(["prefs", "stats", "talk", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    (duel,) = found["duels"]
    assert (duel["models"], duel["wins"]["hits"], duel["wins"]["count"], duel["ties"]) == ([*SECRET], 12, 12, 1)
    assert found["self_agreement"]["share"] == 1.0
    assert found["self_agreement"]["count"] == 2
    assert found["longer"]["share"] == 0.0
    assert 0.4 < found["left"]["share"] < 0.6

    assert main(["prefs", "stats", "talk"]) == 0
    out, err = capsys.readouterr()
    assert "model-alpha beats model-beta" in out
    assert "100% [76–100], n=12; 1 ties, 0 both bad" in out
    assert "shorter answers were preferred" in err


def test_keys_edit_skip_and_undo(monkeypatch, capsys):
    filled_set(4)
    press(monkeypatch, "x\nu\ns\n2\nu\ne\n4\nmuch better\ne\nq\n3\nq\n")
    assert main(["prefs", "rate", "talk"]) == 0
    err = capsys.readouterr().err
    assert "'x' means nothing here" in err
    assert "there is nothing to undo" in err
    assert "nothing edited" in err
    ratings = PreferenceSet.open("talk").ratings()
    assert [(one.choice, one.edited) for one in ratings] == [("skip", None), ("right", "much better"), ("tie", None)]
    assert "3 choices in" in err


@pytest.mark.parametrize("format", ["dpo", "kto"])
def test_what_is_exported_is_read_by_training(monkeypatch, capsys, tmp_path, format):
    filled_set(6)
    press(monkeypatch, "1\n5\n3\n6\ns\nq\n")
    assert main(["prefs", "rate", "talk", "--repeats", "0"]) == 0
    out = tmp_path / "out.jsonl"
    assert main(["prefs", "export", "talk", "--format", format, "--out", str(out)]) == 0
    assert "not rated" in capsys.readouterr().err
    said = []
    examples = (read_preferences if format == "dpo" else read_labelled)(out, say=said.append)
    assert len(examples.items) == (2 if format == "dpo" else 6)
    assert not examples.problems
    assert not examples.unread
    if format == "kto":
        assert sum(vars(item)["is_good"] for item in examples.items) == 2
    straight = (read_preferences if format == "dpo" else read_labelled)("prefs:talk", say=said.append)
    assert [vars(item) | {"origin": ""} for item in straight.items] == [
        vars(item) | {"origin": ""} for item in examples.items
    ]
    both_bad = {"both bad"} if format == "dpo" else set()
    assert {problem.kind for problem in straight.problems} == {"tie", "skipped", "not rated"} | both_bad


def test_the_table_has_a_row_for_every_choice(monkeypatch, capsys):
    filled_set(3)
    press(monkeypatch, "1\ns\nq\n")
    assert main(["prefs", "rate", "talk"]) == 0
    capsys.readouterr()
    assert main(["prefs", "export", "talk", "--format", "csv"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [row["choice"] for row in rows] == ["A much", "skip"]


def test_a_file_of_preferences_is_brought_in_once_and_can_be_rated_again(monkeypatch, capsys, tmp_path):
    file = tmp_path / "pairs.jsonl"
    rows = [{"prompt": f"q{n}", "chosen": f"yes {n}", "rejected": f"no {n}"} for n in range(3)]
    file.write_text("".join(json.dumps(row) + "\n" for row in [*rows, {**rows[0], "chosen": ""}]))
    assert main(["prefs", "import", str(file)]) == 0
    assert main(["prefs", "import", str(file), "--name", "pairs"]) == 0
    err = capsys.readouterr().err
    assert "3 new pairs of 3" in err
    assert "0 new pairs of 3" in err
    assert "left out 1" in err
    assert len(PreferenceSet.open("pairs").ratings()) == 3
    assert main(["prefs", "export", "pairs"]) == 0
    out = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(row["chosen"][0]["content"], row["rejected"][0]["content"]) for row in out] == [
        (f"yes {n}", f"no {n}") for n in range(3)
    ]
    press(monkeypatch, "3\n3\n3\n")
    assert main(["prefs", "rate", "pairs"]) == 0
    capsys.readouterr()
    assert main(["prefs", "stats", "pairs", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["rater_agreement"]["hits"] == 0


def test_sets_are_listed(capsys):
    assert main(["prefs", "list"]) == 0
    assert "no preferences" in capsys.readouterr().err
    filled_set(2)
    assert main(["prefs", "list"]) == 0
    assert "talk" in capsys.readouterr().out
    assert main(["prefs", "list", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["pairs"] == 2


@pytest.mark.parametrize(
    "words, code, message",
    [
        (["stats", "tolk"], 2, "did you mean 'talk'"),
        (["rate", "talk", "--model", "a", "--model", "b", "--model", "c"], 2, "two models at most"),
        (["rate", "talk", "--model", "a"], 2, "which prompts"),
        (["rate", "talk", "--repeats", "2"], 2, "in 0 … 1"),
        (["rate", "talk", "--prompts", "p.txt"], 2, "who answers for --prompts"),
        (["rate", "talk", "--prepare"], 2, "who answers for --prepare"),
        (["rate", "empty"], 5, "has no pairs to rate"),
        (["export", "talk"], 5, "nothing to export"),
        (["export", "talk", "--min-agreement", "-1"], 2, "in 0 … 1"),
        (["rate", "talk", "--judge", "lenght=3"], 2, "unknown reward"),
    ],
)
def test_what_is_wrong_is_said(monkeypatch, capsys, words, code, message):
    filled_set(1)
    filled_set(0, name="empty")
    press(monkeypatch, "")
    assert main(["prefs", *words]) == code
    assert message in capsys.readouterr().err


def test_a_program_rates_like_a_person_through_the_same_files(capsys, tmp_path):
    filled_set(3)
    (tmp_path / "taste.py").write_text("def good(completion):\n    return completion.startswith('good')\n")
    assert main(["prefs", "rate", "talk", "--judge", f"{tmp_path}/taste.py:good"]) == 0
    assert main(["prefs", "rate", "talk", "--judge", f"{tmp_path}/taste.py:good"]) == 0
    err = capsys.readouterr().err
    assert "rated 3 pairs (0 ties)" in err
    assert "rated 0 pairs" in err
    assert main(["prefs", "export", "talk"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert all(row["chosen"][0]["content"].startswith("good") for row in rows)


def test_answers_cannot_steer_the_terminal_and_no_line_is_too_wide():
    pair = Pair(({"role": "user", "content": "q\x1b[31m" * 30},), (Answer("語" * 90, "m"), Answer("\x1b]0;x\x07", "n")))
    for columns in (40, 80, 120):
        text = screen(Shown(pair, True, False), headline="h", columns=columns)
        assert "\x1b" not in text and "\x07" not in text
        framed = [line for line in text.splitlines() if line.startswith(("│", "┌", "└"))]
        assert {columns_of(line) for line in framed} == ({columns} if columns < 76 else {columns - (columns - 1) % 2})
    assert wrapped(" \n", 9) == ["(empty)"]
    assert visible("a\r\x00\u202eb") == "a␍␀�b"


def test_single_keys_of_a_terminal_are_choices():
    preferences = filled_set(3)
    main_end, end = pty.openpty()
    before = termios.tcgetattr(main_end)
    process = subprocess.Popen(
        [sys.executable, "-m", "mamba_slm.cli.main", "prefs", "rate", "talk"],
        stdin=end, stdout=end, stderr=end, env={**os.environ, "TERM": "xterm"},
    )  # fmt: skip
    os.close(end)
    seen = b""

    def read_until(mark, times):
        nonlocal seen
        while seen.count(mark) < times:
            seen += os.read(main_end, 4096)

    read_until(b"q quit", 1)
    os.write(main_end, b"4")
    read_until(b"q quit", 2)
    os.write(main_end, b"q")
    with contextlib.suppress(OSError):  # of a terminal that nobody has open any more
        while piece := os.read(main_end, 4096):  # it is set only when all that was written to it has been read
            seen += piece
    assert b"prefs stats talk" in seen
    assert process.wait() == 0
    assert termios.tcgetattr(main_end) == before
    os.close(main_end)
    assert [rating.choice for rating in preferences.ratings()] == ["right"]
    assert b"model-alpha" not in seen


def test_answers_are_made_once_and_kept(capsys, tmp_path):
    model, prompts = str(save_small_model(tmp_path / "m")), tmp_path / "prompts.txt"
    prompts.write_text("def f\nimport\nx = " + "y + " * 90 + "\n")
    words = ["prefs", "rate", "made", "--model", model, "--prompts", str(prompts), "--max-new-tokens", "6"]
    words += ["--seed", "1", "--runtime", "torch", "--top-p", "1", "--prepare"]
    assert main(words) == 0
    err = capsys.readouterr().err
    assert "left out 1 prompts: longer than the context" in err
    kept = PreferenceSet.open("made").pairs()
    assert 1 <= len(kept) <= 2
    assert {answer.model for pair in kept for answer in pair.answers} == {model}
    assert main(words) == 0
    assert f"{len(kept)} prompts were answered before" in capsys.readouterr().err
    assert main([*words[:-1], "--judge", "length=3"]) == 0
    assert {rating.rater for rating in PreferenceSet.open("made").ratings()} == {"reward:length"}
