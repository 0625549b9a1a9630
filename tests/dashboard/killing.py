"""Kills tab, dashboard, job worker and run in a random order that a seed fixes, and says what metrics and page show."""

import os
import random
import signal
import time
from contextlib import suppress

from dashboard.browser import PATIENCE_SECONDS, Visit, dashboard, quiet_port, train_words, until
from mamba_slm.runs.jobs import list_jobs, start_job
from mamba_slm.runs.lock import live_owner
from mamba_slm.runs.metrics import read_metrics

COMPLETE = "runState.series.step.every((step, i) => step === i + 1)"
NAME = "20260401-nano"
KINDS = ("tab", "dashboard", "worker", "run")


def steps_of(run):
    return [row["step"] for row in read_metrics(run / "metrics.jsonl", kind="train")]


def grows(run, more, *, seconds=PATIENCE_SECONDS):
    """Wait for further steps, or for the end of the run."""
    wanted, deadline = len(steps_of(run)) + more, time.monotonic() + seconds
    while len(steps_of(run)) < wanted and live_owner(run) is not None:
        assert time.monotonic() < deadline, "the run stands still"
        time.sleep(0.05)


def kill_at_random(browser, folder, *, seed, kills, steps):
    """Train `steps` steps of `nano` and watch it while `kills` times (4 or more) something is killed and brought back.

    Returns: what was killed, in order; the steps of metrics.jsonl; the steps that a page opened at the end shows.
    """
    chosen = random.Random(seed)
    run, killed = folder / NAME, []
    start_job(train_words(folder, steps, "--out", str(run)), home=folder, folder=folder, run=run)
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not (run / "metrics.jsonl").exists() or len(steps_of(run)) < 3:
        assert time.monotonic() < deadline, list_jobs(folder)[-1].log_file.read_text()
        time.sleep(0.05)
    port = quiet_port()
    todo = [*KINDS, *chosen.choices(KINDS, k=kills - len(KINDS))]
    chosen.shuffle(todo)
    while True:
        with dashboard(folder, port=port) as (process, address):
            visit = Visit(browser, address)
            page = visit.go(f"/runs/0/{NAME}")
            while todo:
                until(page, f"window.runState?.series?.step.length > 0 && {COMPLETE}")
                what = todo.pop()
                grows(run, chosen.randrange(1, 6))
                killed.append(what)
                if what == "tab":
                    visit.context.close()
                    visit = Visit(browser, address)
                    page = visit.go(f"/runs/0/{NAME}")
                elif what == "dashboard":
                    process.kill()
                    break
                elif what == "worker":
                    job = list_jobs(folder)[-1]
                    if job.state == "running":
                        kill(job.pid)
                else:
                    owner = live_owner(run)
                    if owner is not None:
                        kill(owner.pid)
                    resume(page)
            else:
                end(page, run)
                shown = page.evaluate("runState.series.step")
                visit.context.close()
                return killed, steps_of(run), shown
            visit.context.close()


def kill(pid):
    """Kill a process, unless it has just ended by itself."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def resume(page):
    """Press the button that continues a run which its page shows as gone, unless it had ended."""
    until(page, "['crashed', 'done'].includes(document.querySelector('#state').textContent)")
    if page.locator("#state").inner_text() == "crashed":
        page.get_by_role("button", name="Resume").click()
        until(page, "['running', 'done'].includes(document.querySelector('#state').textContent)")


def end(page, run):
    """Wait until the page shows the run's end."""
    until(page, "document.querySelector('#state').textContent === 'done'", seconds=3 * PATIENCE_SECONDS)
    until(page, f"runState.series.step.length === {len(steps_of(run))}")
