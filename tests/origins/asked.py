"""Programs that stay: the server and the dashboard, started as a user does, asked over a socket, and ended."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import threading
import urllib.request
from typing import Any

from origins.workshop import Workshop

SERVE = "serve runs/base --port 0 --name base --runtime torch"
PROMPT = {"prompt": "def " * 24, "max_tokens": 4, "temperature": 0}


def served(workshop: Workshop) -> dict[str, Any]:
    """What `mamba-slm serve` answers: a completion, the same again, eight at once, its metrics, and how it ends."""
    if "served" not in workshop.values:
        workshop.outcome("runs show runs/base")
        with started(SERVE, workshop) as process:
            url = address(process, r"at (http://127\.0\.0\.1:\d+)/v1")
            first, again = post(f"{url}/v1/completions", PROMPT), post(f"{url}/v1/completions", PROMPT)
            at_once = post(f"{url}/v1/completions", {**PROMPT, "n": 8, "temperature": 1.0})
            metrics = get(f"{url}/metrics")
            process.send_signal(signal.SIGTERM)
        workshop.values["served"] = {
            "first": first, "again": again, "at_once": at_once, "metrics": metrics, "code": process.returncode,
        }  # fmt: skip
    return workshop.values["served"]


def dashboard(workshop: Workshop) -> str:
    """What `mamba-slm dashboard` offers to chat with, as its page asks it."""
    workshop.outcome("runs show runs/base")
    flags = "dashboard --no-open --port 0 --home runs --token 0123456789abcdef0123456789abcdef"
    with started(flags, workshop) as process:
        url = address(process, r"(http://\S+)")
        page = get(url.replace("/?", "/api/chat/models?"))
        process.send_signal(signal.SIGTERM)
    return page


def started(line: str, workshop: Workshop) -> subprocess.Popen[str]:
    """The command as a process of this Python, in the folder of the workshop."""
    command = [sys.executable, "-m", "mamba_slm.cli.main", *line.split()]
    return subprocess.Popen(command, cwd=workshop.folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def address(process: subprocess.Popen[str], pattern: str) -> str:
    """Read what the program says until it says where it listens; later lines are read away."""
    assert process.stdout is not None
    said = []
    for line in process.stdout:
        said.append(line)
        if found := re.search(pattern, line):
            threading.Thread(target=process.stdout.read, daemon=True).start()
            return found[1]
    raise AssertionError("".join(said))


def post(url: str, body: dict[str, Any]) -> Any:
    """A JSON answer."""
    request = urllib.request.Request(url, json.dumps(body).encode(), headers={"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=120) as answer:
        return json.load(answer)


def get(url: str) -> str:
    """A text; cookies are kept over redirections."""
    opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
    with opener.open(url, timeout=60) as answer:
        return answer.read().decode()
