import json
import sys
from types import SimpleNamespace

import pytest

from mamba_slm.cli import console


def test_talk_goes_to_stderr_and_results_to_stdout(capsys):
    console.say("working")
    console.print_json({"a": [1, "é"]})
    out, err = capsys.readouterr()
    assert err == "working\n"
    assert json.loads(out) == {"a": [1, "é"]}


def test_quiet_silences_talk_but_not_errors(capsys):
    console.configure(quiet=True)
    console.say("working")
    console.print_error("broken", hint="mend it")
    assert capsys.readouterr().err == "error: broken\nhint: mend it\n"


def test_json_refuses_what_programs_cannot_read():
    with pytest.raises(ValueError, match="JSON"):
        console.print_json({"loss": float("nan")})


def test_colour_appears_only_on_a_terminal_without_no_color(monkeypatch):
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setenv("TERM", "xterm")
    assert console.coloured("x", "red") == "x"
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    assert console.coloured("x", "red") == "\033[31mx\033[0m"
    monkeypatch.setenv("NO_COLOR", "1")
    assert console.coloured("x", "red") == "x"


def test_tables_align_numbers_to_the_right():
    assert console.table(["name", "size"], [["a", 5], ["long", 1000]], right=["size"]) == (
        "name  size\na        5\nlong  1000"
    )


def test_progress_without_a_terminal_is_plain_lines_every_ten_seconds(monkeypatch, capsys):
    clock = iter([0.0, 1.0, 10.0, 11.0, 20.5])
    monkeypatch.setattr(console, "time", SimpleNamespace(monotonic=lambda: next(clock)))  # not that of other threads
    with console.progress(400, "files", "reading") as bar:
        for _ in range(4):
            bar.advance(50)
    assert capsys.readouterr().err.splitlines() == [
        "reading: 100 of 400 files (25%), 10 files/s, 30 s left",
        "reading: 200 of 400 files (50%), 9.76 files/s, 20 s left",
    ]


def test_progress_on_a_terminal_is_a_bar_that_cleans_up(monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    with console.progress(2, "files", "reading") as bar:
        bar.advance(2)
    assert "reading" in capsys.readouterr().err


def test_progress_of_unknown_length_counts(capsys):
    with console.progress(None, "documents", "reading") as bar:
        bar.advance(3)
        assert bar.line(2.0) == "reading: 3 documents, 1.50 documents/s"
