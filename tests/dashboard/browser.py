"""A real Chromium, a real dashboard, and a real run of `nano`."""

import os
import random
import re
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from mamba_slm.runs.jobs import list_jobs

CHROMIUM = "/usr/bin/chromium"
FLAGS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]
PATIENCE_SECONDS = 300  # only what never happens waits for so long
TWO_FRAMES = "new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => done(true))))"
SIZES = {"phone": (390, 844), "laptop": (1366, 768), "wide": (2200, 1200)}
QUICK = {
    "context_tokens": 128, "batch_tokens": 512, "vocab_size": 300, "device": "cpu", "threads": 1, "kernels": "torch",
    "log_every_steps": 1, "sample_every_steps": 10, "validate_every_steps": 10, "save_every_steps": 10,
    "learning_rate": 3e-3, "prompts": "Once",
}  # fmt: skip
TEXT = "".join(
    f"Once there was a {who} who met a {other} near the {place}. They talked, laughed and went home.\n\n"
    for who in ("fox", "cat", "girl", "king", "bird", "tailor", "miller")
    for other in ("bear", "wolf", "boy", "queen", "fish", "baker")
    for place in ("river", "mill", "wood", "sea", "tower")
)


def train_words(home, steps, *more):
    """The words of a training of `nano` that takes seconds."""
    settings = [f"--{name.replace('_', '-')}={value}" for name, value in QUICK.items()]
    text = home / "text.txt"
    text.write_text(TEXT * 3, encoding="utf-8")
    return ["mamba-slm", "train", "nano", "--data", str(text), "--max-steps", str(steps), *settings, *more]


def trained(home, name, steps):
    """A finished run."""
    words = train_words(home, steps, "--out", str(home / name))
    done = subprocess.run([sys.executable, "-m", "mamba_slm.cli.main", *words[1:]], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return home / name


@contextmanager
def dashboard(*homes, port=0, more=()):
    """A dashboard in a process of its own: yields (process, address with the token)."""
    command = [sys.executable, "-m", "mamba_slm.cli.main", "dashboard", "--no-open", "--port", str(port), *more]
    for home in homes:
        command += ["--home", str(home)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=homes[0])
    assert process.stdout is not None
    try:
        yield process, process.stdout.readline().strip()
    finally:
        process.kill()
        process.communicate()


def quiet_port():
    """A free port that nobody is given who does not ask for this one: free again, too, while a dashboard is dead."""
    first = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    while True:
        port = random.SystemRandom().randrange(first // 2, first)
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) != 0:
                return port


@contextmanager
def chromium():
    """The browser of this machine."""
    if not Path(CHROMIUM).exists():
        pytest.skip(f"{CHROMIUM} is not installed")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS, timeout=1000 * PATIENCE_SECONDS)
        yield browser
        browser.close()


class Visit:
    """A page, with all that went wrong in it and everything that it asked for."""

    def __init__(self, browser, address, *, size="laptop", theme="light"):
        width, height = SIZES[size]
        self.context = browser.new_context(
            viewport={"width": width, "height": height}, color_scheme=theme, reduced_motion="reduce"
        )
        self.context.set_default_timeout(1000 * PATIENCE_SECONDS)
        self.page = self.context.new_page()
        found = re.match(r"http://[^/]+", address)
        assert found is not None, f"the dashboard said {address!r}"
        self.origin = found[0]
        self.requested, self.problems = [], []
        self.context.on("request", lambda request: self.requested.append(request.url))
        self.page.on("pageerror", lambda error: self.problems.append(f"error: {error}"))
        self.page.on("console", self._console)
        self.page.on("dialog", lambda dialog: self.problems.append(f"dialog: {dialog.message}"))
        self.page.goto(address)

    def _console(self, message):
        if message.type in ("error", "warning"):
            self.problems.append(f"{message.type}: {message.text}")

    def go(self, path):
        self.page.goto(f"{self.origin}/{path.lstrip('/')}")
        return self.page

    def assert_clean(self):
        """No error, no message of the policy, no request to anybody else."""
        assert not self.problems
        assert not [url for url in self.requested if not url.startswith((self.origin, "data:"))]


def until(page, expression, *, seconds=PATIENCE_SECONDS):
    """Wait until an expression is true in a page (Playwright's own way needs eval, which the policy forbids).

    An expression that raises is not true yet: the page's script may not have run, or a link may be leading away.
    """
    from playwright.sync_api import Error

    deadline = time.monotonic() + seconds
    while True:
        try:
            found = page.evaluate(expression)
            if found:
                return
        except Error as error:
            if page.is_closed():
                raise
            found = error
        assert time.monotonic() < deadline, f"never true: {expression}, at last {found!r}"
        page.wait_for_timeout(50)


def last_job(home):
    """The newest job of a home, once it runs."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not (jobs := list_jobs(home)) or jobs[-1].state != "running":
        assert time.monotonic() < deadline, jobs
        time.sleep(0.02)
    return jobs[-1]


@contextmanager
def held(pid):
    """A process stands still, so that it does not end before a page was looked at."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def artefacts():
    """Where pictures go that somebody should look at."""
    folder = Path(os.environ.get("MAMBA_SLM_ARTEFACTS") or Path(__file__).parents[2] / "build" / "dashboard")
    folder.mkdir(parents=True, exist_ok=True)
    return folder
