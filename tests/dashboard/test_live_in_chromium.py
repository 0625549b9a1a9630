"""A page that watches a run while dashboard and run are killed: the curve has no gap and no row twice."""

import os
import signal
import time

import pytest

from dashboard.browser import PATIENCE_SECONDS, Visit, dashboard, quiet_port, train_words, until
from mamba_slm.runs.jobs import read_job, start_job
from mamba_slm.runs.lock import live_owner
from mamba_slm.runs.metrics import read_metrics

pytestmark = pytest.mark.slow
STEPS = 500  # it is stopped long before; a page shows each of 600
COMPLETE = "runState.series.step.every((step, i) => step === i + 1)"


def test_dashboard_and_run_are_killed_and_the_page_misses_nothing(browser, tmp_path):
    run = tmp_path / "20260401-nano"
    words = train_words(tmp_path, STEPS, "--out", str(run))
    job = start_job(words, home=tmp_path, folder=tmp_path, run=run)
    deadline = time.monotonic() + PATIENCE_SECONDS
    while len(read_metrics(run / "metrics.jsonl", kind="train")) < 12:
        assert time.monotonic() < deadline and read_job(job.path).state in ("waiting", "running"), (
            job.log_file.read_text()
        )
        time.sleep(0.1)

    port = quiet_port()
    with dashboard(tmp_path, port=port) as (first, address):
        visit = Visit(browser, address)
        page = visit.go("/runs/0/20260401-nano")
        until(page, "runState.series.step.length > 12 && document.querySelector('#state').textContent === 'running'")
        first.kill()
        first.wait()
        page.get_by_text("does not answer").wait_for()
        seen = page.evaluate("runState.series.step.length")

    while len(read_metrics(run / "metrics.jsonl", kind="train")) < seen + 5:
        assert live_owner(run) is not None, "the run goes on without the dashboard"
        time.sleep(0.1)
    with dashboard(tmp_path, port=port) as (_, address):
        until(page, f"runState.series.step.length > {seen} && {COMPLETE}")
        page.get_by_text("does not answer").wait_for(state="hidden")
        visit.problems.clear()  # the browser reported the refused connections

        owner = live_owner(run)
        assert owner is not None, "the run went on without the dashboard"
        os.kill(owner.pid, signal.SIGKILL)
        page.get_by_text("Stopped unexpectedly").wait_for()
        shown = page.locator("#resume-command code").inner_text()
        assert f"--resume {run}" in shown
        before = page.evaluate("runState.series.step.length")
        page.get_by_role("button", name="Resume").click()
        until(
            page,
            f"document.querySelector('#state').textContent === 'running' && runState.series.step.length > {before}",
        )
        assert page.evaluate(COMPLETE)

        page.get_by_role("button", name="Stop").click()
        until(page, "['stopped', 'done'].includes(document.querySelector('#state').textContent)")
        steps = [row["step"] for row in read_metrics(run / "metrics.jsonl", kind="train")]
        until(page, f"runState.series.step.length === {len(steps)}")
        assert page.evaluate("runState.series.step") == steps == list(range(1, len(steps) + 1))
        page.reload()
        until(page, f"window.runState?.series?.step.length === {len(steps)} && {COMPLETE}")
        visit.assert_clean()
        visit.context.close()
