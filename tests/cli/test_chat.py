"""Promises of `mamba-slm chat`: the same conversation from a pipe or a terminal, nothing dropped."""

import contextlib
import io
import os
import shutil
import signal
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


def test_a_conversation_is_saved_at_the_end_and_goes_on_with_load(folder, tmp_path, monkeypatch, capsys):
    talk = str(tmp_path / "talk.json")
    type_in(monkeypatch, b"def f(\n")
    assert main(["chat", str(folder), "--temperature", "0", "--max-new-tokens", "4", "--save", talk]) == 0
    assert f"--load {talk}" in capsys.readouterr().err
    type_in(monkeypatch, b"/history\n")
    assert main(["chat", str(folder), "--load", talk]) == 0
    err = capsys.readouterr().err
    assert "1 turn, " in err and "> def f(" in err


def test_two_models_answer_the_same_messages(folder, monkeypatch, capsys):
    type_in(monkeypatch, b"def f(\n")
    command = ["chat", str(folder), "--compare", str(folder), "--temperature", "0", "--max-new-tokens", "4"]
    assert main(command) == 0
    out, err = capsys.readouterr()
    first, second = out.splitlines()[:2] if out.count("\n") == 2 else (out[: len(out) // 2], out[len(out) // 2 :])
    assert first == second
    assert err.count(f"── {folder}") == 2


def test_no_model_and_no_server_is_said_with_the_way_out(capsys):
    assert main(["chat"]) == 2
    assert "name its folder, or a server with --url" in capsys.readouterr().err


def test_a_server_that_does_not_answer_and_a_key_that_is_not_there(monkeypatch, capsys):
    assert main(["chat", "--url", "http://127.0.0.1:9/v1"]) == 3
    assert "does not answer" in capsys.readouterr().err
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    assert main(["chat", "--url", "http://127.0.0.1:9/v1", "--api-key-env", "NO_SUCH_KEY"]) == 2
    assert "NO_SUCH_KEY is not set" in capsys.readouterr().err


def test_what_was_typed_is_kept_for_the_user_alone(folder, tmp_path, monkeypatch, capsys):
    readline = pytest.importorskip("readline")
    typed = iter(["a", "/quit"])
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", lambda prompt: readline.add_history(line := next(typed)) or line)
    assert main(["chat", str(folder), "--max-new-tokens", "2"]) == 0
    kept = tmp_path / "mamba-slm" / "chat-history"
    assert "/quit" in kept.read_text()
    assert kept.stat().st_mode & 0o077 == 0


def test_in_a_real_terminal_the_last_message_comes_back_into_the_line(folder, tmp_path):
    pytest.importorskip("readline")
    pty = pytest.importorskip("pty")
    words = ["chat", str(folder), "--max-new-tokens", "3", "--temperature", "0", "--runtime", "torch"]
    pid, terminal = pty.fork()
    if pid == 0:
        os.environ.update(XDG_STATE_HOME=str(tmp_path), TERM="xterm")
        os.execv(sys.executable, [sys.executable, "-m", "mamba_slm.cli.main", *words])
    shown = b""

    def wait_for(text):
        """Read until the text has come; what was read before does not count."""
        nonlocal shown
        while text not in shown:
            shown += os.read(terminal, 4096)
        shown = shown[shown.index(text) + len(text) :]

    def wait_for_the_end():
        """What is left unread may hold up whoever writes it."""
        with contextlib.suppress(OSError):  # of a terminal that nobody has open any more
            while os.read(terminal, 4096):
                pass

    try:
        wait_for(b"/help lists the commands\r\n> ")
        os.write(terminal, b"def f(\n")
        wait_for(b" left")
        wait_for(b"> ")
        os.write(terminal, b"/edit\n")
        wait_for(b"> def f(")
        os.write(terminal, b"x):\n/history\n")
        wait_for(b"> def f(x):")
        wait_for(b"> ")
        os.write(terminal, b"/quit\n")
        wait_for_the_end()
    except BaseException:
        os.kill(pid, signal.SIGKILL)  # nobody types what it waits for
        raise
    finally:
        _, status = os.waitpid(pid, 0)
        os.close(terminal)
    assert status == 0
