"""A browser gets the token from a file of its owner's, never as an argument of a process."""

import os
import re
import signal
import subprocess
import sys
import time

import httpx
import pytest

from dashboard.made_runs import TOKEN
from mamba_slm.dashboard.opening import FILE, browser_at

BROWSER = """\
#!/bin/sh
echo "$@" > {folder}/arguments
"""


@pytest.fixture
def browser(tmp_path):
    """One that writes down what it was started with."""
    program = tmp_path / "browser"
    program.write_text(BROWSER.format(folder=tmp_path))
    program.chmod(0o755)
    return program


def test_the_token_is_in_no_argument_of_the_browser_and_the_file_with_it_is_private_and_goes(tmp_path, browser):
    home = tmp_path / "runs"
    command = [sys.executable, "-m", "mamba_slm.cli.main", "dashboard", "--home", str(home), "--port", "0"]
    environment = os.environ | {"BROWSER": f"{browser} %s", "DISPLAY": ":99", "MAMBA_SLM_DASHBOARD_TOKEN": TOKEN}
    environment.pop("SSH_CONNECTION", None)
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            deadline = time.monotonic() + 200
            while not (tmp_path / "arguments").is_file() or not (tmp_path / "arguments").read_text().strip():
                assert time.monotonic() < deadline and process.poll() is None
                time.sleep(0.05)
            given = (tmp_path / "arguments").read_text().strip()
            assert TOKEN not in given and given == (home / FILE).resolve().as_uri()
            assert (home / FILE).stat().st_mode & 0o777 == 0o600
            found = re.search(r"url=([^\"]+)", (home / FILE).read_text())
            assert found is not None
            address = found[1]
            assert address.endswith(f"?token={TOKEN}")
            elsewhere = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}  # as a browser says it
            answer = httpx.get(address, headers=elsewhere, timeout=200)
            assert answer.status_code == 303 and "set-cookie" in answer.headers
        finally:
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=200)
    assert not (home / FILE).exists()


def test_where_nothing_can_be_written_the_browser_gets_the_address_without_the_token(tmp_path, monkeypatch):
    shown = []
    monkeypatch.setattr("webbrowser.open", shown.append)
    (tmp_path / "file").write_text("")
    with browser_at("http://localhost:8888/", TOKEN, home=tmp_path / "file"):
        assert shown == ["http://localhost:8888/"]
