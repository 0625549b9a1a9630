"""A browser for the tests of a file, and one trained run for all of a session."""

import shutil

import pytest

from dashboard.browser import chromium, dashboard, trained


@pytest.fixture(
    scope="module"
)  # Playwright's event loop runs in this thread as long as it lives: no other test could run one
def browser():
    with chromium() as found:
        yield found


@pytest.fixture(scope="session")
def home(tmp_path_factory):
    """A home with two real runs of `nano`; tests only read it."""
    folder = tmp_path_factory.mktemp("runs")
    trained(folder, "20260401-nano", 40)
    shutil.copytree(folder / "20260401-nano", folder / "20260402-nano")
    return folder


@pytest.fixture(scope="session")
def address(home):
    with dashboard(home) as (_, address):
        yield address
