"""A browser for the tests of a file, and one trained run for all of a session."""

import os
import shutil

import pytest

from dashboard.browser import chromium, dashboard, trained
from dashboard.made_evaluations import make_evaluation
from dashboard.made_pairs import conversations, pairs_to_rate
from mamba_slm.runs.jobs import cancel_job, end_job, list_jobs


@pytest.fixture(autouse=True)
def no_job_goes_on(tmp_path):
    """What a test started ends with it, also where the test failed."""
    yield
    for folder in (tmp_path, *(entry for entry in tmp_path.iterdir() if entry.is_dir())):
        for job in list_jobs(folder):
            if not cancel_job(job) and job.pid != os.getpid():  # which some tests write down as that of a job
                end_job(job)


@pytest.fixture(
    scope="module"
)  # Playwright's event loop runs in this thread as long as it lives: no other test could run one
def browser():
    with chromium() as found:
        yield found


@pytest.fixture(scope="session")
def home(tmp_path_factory):
    """A home with two real runs of `nano`, two evaluations, conversations and pairs to rate; tests only read it."""
    folder = tmp_path_factory.mktemp("runs")
    trained(folder, "20260401-nano", 40)
    shutil.copytree(folder / "20260401-nano", folder / "20260402-nano")
    for name, every in {"first": 3, "second": 2}.items():
        make_evaluation(folder / "evaluations" / name, model=f"runs/{name}", every=every, tasks=("arc_easy", "piqa"))
    conversations(folder / "talk.jsonl")
    pairs_to_rate(folder)
    return folder


@pytest.fixture(scope="session")
def address(home):
    with dashboard(home) as (_, address):
        yield address
