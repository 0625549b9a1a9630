"""Whatever is killed, in whatever order: the metrics have no gap and nothing twice, and so has the page."""

import pytest

from dashboard.killing import kill_at_random

pytestmark = pytest.mark.slow
STEPS = 60


@pytest.mark.parametrize("seed", [13])
def test_tab_dashboard_worker_and_run_are_killed_at_random_and_nothing_is_missing(browser, tmp_path, seed):
    killed, steps, shown = kill_at_random(browser, tmp_path, seed=seed, kills=5, steps=STEPS)
    assert set(killed) == {"tab", "dashboard", "worker", "run"}
    assert steps == shown == list(range(1, STEPS + 1))
