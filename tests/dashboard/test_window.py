"""The window: a real one, drawn nowhere, that shows the pages of a real dashboard."""

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from dashboard.browser import dashboard
from mamba_slm.core.errors import MissingDependencyError, SetupError
from mamba_slm.dashboard import window as window_module
from mamba_slm.dashboard.tokens import cookie_name, cookie_value, kept_token
from mamba_slm.dashboard.window import require_window, window
from mamba_slm.runs.process import is_alive, process_start

IS_INSTALLED = importlib.util.find_spec("PyQt6") is not None
NOWHERE = {"QT_QPA_PLATFORM": "offscreen", "QTWEBENGINE_DISABLE_SANDBOX": "1"}
LOOKING = """
import json, sys
from pathlib import Path
from PyQt6.QtCore import QUrl
from PyQt6.QtWidgets import QApplication
from mamba_slm.dashboard.window_process import Window

wanted = json.loads(sys.argv[1])
app = QApplication(["test"])
shown = Window(wanted["address"], cookie=tuple(wanted["cookie"]), folder=Path(wanted["folder"]))
seen = {"titles": [], "loaded": []}
shown.windowTitleChanged.connect(seen["titles"].append)

def looked(text):
    seen["text"] = text
    shown.page().runJavaScript(
        "fetch('http://127.0.0.1:9/', {mode: 'no-cors'}).then(() => 'got', () => 'refused')"
        ".then(said => { document.title = said })"
    )
    shown.titleChanged.connect(lambda title: title == "refused" and shown.load(QUrl("https://example.org/?x")))

def loaded(is_good):
    seen["loaded"].append([is_good, shown.url().toString()])
    if len(seen["loaded"]) == 1:
        shown.page().toPlainText(looked)
    else:
        shown.loadFinished.disconnect()
        shown.close()

shown.loadFinished.connect(loaded)
shown.show()
seen["code"] = app.exec()
print("SEEN " + json.dumps(seen))
"""


@pytest.fixture
def nowhere(monkeypatch):
    if not IS_INSTALLED:
        pytest.skip("the extra window is not installed")
    for name, value in NOWHERE.items():
        monkeypatch.setenv(name, value)


def test_without_the_library_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "PyQt6", None)
    with pytest.raises(MissingDependencyError) as raised:
        require_window()
    assert "mamba-slm[window]" in (raised.value.hint or "") and "browser" in (raised.value.hint or "")


def test_without_a_screen_the_error_says_what_to_type(nowhere, monkeypatch):
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(SetupError, match="no screen") as raised:
        require_window()
    assert "mamba-slm dashboard" in (raised.value.hint or "")


def test_root_is_told_that_there_is_no_sandbox(nowhere, monkeypatch):
    monkeypatch.delenv("QTWEBENGINE_DISABLE_SANDBOX")
    monkeypatch.setattr(window_module.os, "geteuid", lambda: 0)
    with pytest.raises(SetupError, match="root") as raised:
        require_window()
    assert "QTWEBENGINE_DISABLE_SANDBOX=1" in (raised.value.hint or "")


def test_a_window_that_cannot_open_says_its_last_words(nowhere, monkeypatch, tmp_path):
    monkeypatch.setenv("QT_QPA_PLATFORM", "no-such-platform")
    with pytest.raises(SetupError, match="the window ended with code") as raised:
        closed = []
        with window("http://127.0.0.1:9/", "t" * 20, home=tmp_path, say=print, on_close=lambda: closed.append(True)):
            pass
    assert "no-such-platform" in raised.value.message or "platform" in raised.value.message


@pytest.mark.slow
def test_the_window_shows_the_first_page_and_goes_nowhere_else(nowhere, tmp_path):
    with dashboard(tmp_path) as (_, address):
        where, _, token = address.partition("?token=")
        wanted = {"address": where, "cookie": [cookie_name(token), cookie_value(token)], "folder": str(tmp_path)}
        done = subprocess.run(
            [sys.executable, "-c", LOOKING, json.dumps(wanted)],
            capture_output=True, text=True, timeout=600,
        )  # fmt: skip
    assert "SEEN " in done.stdout, done.stderr
    seen = json.loads(done.stdout.partition("SEEN ")[2])
    assert seen["loaded"][0] == [True, where]
    assert "Home · mamba-slm" in seen["titles"] and "Running now" in seen["text"]
    assert "refused" in seen["titles"], "a request to another origin does not leave the window"
    assert seen["loaded"][1][1] == where, "it stays where it was"
    assert "this dashboard only" in done.stdout and "https://example.org/" in done.stdout
    assert token not in done.stdout and not any("token" in title for title in seen["titles"])
    assert seen["code"] == 0


@pytest.mark.slow
@pytest.mark.parametrize("who", ["the window", "the dashboard"])
def test_window_and_dashboard_end_together_also_when_one_is_killed(nowhere, who, tmp_path):
    command = [sys.executable, "-m", "mamba_slm.cli.main", "dashboard", "--window", "--port=0", f"--home={tmp_path}"]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        assert process.stdout is not None
        said = ""
        while not ("?token=" in said and "close the window" in said):  # the window's process may say something, too
            line = process.stdout.readline()
            assert line, said
            said += line
        child = child_of(process.pid)
        arguments, began = Path(f"/proc/{child}/cmdline").read_text(), process_start(child)
        assert kept_token(tmp_path) not in arguments, "everybody on the machine can read them"
        os.kill(child if who == "the window" else process.pid, signal.SIGKILL)
        assert process.wait(300) == (0 if who == "the window" else -signal.SIGKILL)
    deadline = time.monotonic() + 300
    while is_alive(child, began):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def child_of(pid):
    """The window's process, once it is there."""
    deadline = time.monotonic() + 300
    while True:
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            with suppress(OSError):  # a small program that has ended meanwhile
                if "window_process" in Path(f"/proc/{child}/cmdline").read_text():
                    return int(child)
        assert time.monotonic() < deadline
        time.sleep(0.02)
