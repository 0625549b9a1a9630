"""Promises of `mamba-slm chat`: the same conversation from a pipe or a terminal, nothing dropped."""

import io
import shutil
import sys

import pytest

from mamba_slm.cli.main import main
from mamba_slm.text.chat import CHATML_TEMPLATE
from small_models import save_small_model


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_small_model(tmp_path_factory.mktemp("models") / "small", max_context_tokens=64)


def type_in(monkeypatch, data):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data), encoding="utf-8"))


def test_lines_of_a_pipe_are_answered_in_order(folder, monkeypatch, capsys):
    type_in(monkeypatch, b"def f(\nreturn\n/stats\n/quit\nnever\n")
    assert main(["chat", str(folder), "--temperature", "0", "--max-new-tokens", "6"]) == 0
    out, err = capsys.readouterr()
    assert out.endswith("\n")
    assert "2 turns" in err
    assert "context tokens used" in err


def test_a_model_of_plain_text_continues_and_says_why_once(folder, monkeypatch, capsys):
    type_in(monkeypatch, b"a\nb\n")
    assert main(["chat", str(folder), "--max-new-tokens", "3"]) == 0
    err = capsys.readouterr().err
    assert err.count("no chat template") == 1


def test_a_message_that_does_not_fit_ends_a_pipe_with_an_error(folder, monkeypatch, capsys):
    type_in(monkeypatch, b"x" * 500 + b"\n")
    assert main(["chat", str(folder)]) == 2
    assert "are left for it and a reply" in capsys.readouterr().err


def test_a_pipe_of_something_else_than_utf8_is_named_by_line(folder, monkeypatch, capsys):
    type_in(monkeypatch, b"a\n\xff\n")
    assert main(["chat", str(folder), "--max-new-tokens", "3"]) == 5
    assert "line 2 of stdin is not UTF-8" in capsys.readouterr().err


def test_a_terminal_has_a_prompt_and_survives_mistakes(folder, monkeypatch, capsys):
    typed = iter(["x" * 500, "/hepl", "a"])
    prompts = []

    def answer(prompt):
        prompts.append(prompt)
        try:
            return next(typed)
        except StopIteration:
            raise EOFError from None

    monkeypatch.setattr("builtins.input", answer)
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    assert main(["chat", str(folder), "--max-new-tokens", "4"]) == 0
    err = capsys.readouterr().err
    assert prompts == ["> "] * 4
    assert "are left for it and a reply" in err
    assert "did you mean '/help'?" in err
    assert "6 of 64 context tokens used, 58 left" in err


def test_a_system_message_needs_a_template(folder, capsys):
    assert main(["chat", str(folder), "--system", "be brief"]) == 2
    assert "needs a chat template" in capsys.readouterr().err


def test_a_model_with_a_template_gets_turns(folder, tmp_path, monkeypatch, capsys):
    chatty = tmp_path / "chatty"
    shutil.copytree(folder, chatty)
    (chatty / "chat_template.jinja").write_text(CHATML_TEMPLATE)
    type_in(monkeypatch, b"hi\n/stats\n")
    assert main(["chat", str(chatty), "--system", "be brief", "--max-new-tokens", "4"]) == 0
    err = capsys.readouterr().err
    assert "chat with turns" in err
    assert "1 turn," in err
