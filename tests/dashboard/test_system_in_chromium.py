"""The machine in the browser, and a real examination of it."""

import re

import pytest

from dashboard.browser import Visit, dashboard, held, last_job, until

pytestmark = pytest.mark.slow


def test_the_machine_is_seen_on_every_page_and_examined_from_its_own(browser, tmp_path):
    with dashboard(tmp_path) as (_, address):
        visit = Visit(browser, address)
        page = visit.page
        page.locator("#machine", has_text="of").wait_for()
        page.locator("#machine").click()
        until(page, "systemState.points.length > 2 && document.querySelector('#chart-memory').chart.drawn")
        assert page.locator("#bars div").count() >= 3
        assert "this dashboard" in page.locator("#rows").inner_text()
        page.get_by_role("button", name="Examine").click()
        with held(last_job(tmp_path).pid):
            until(page, "document.querySelector('#examine').disabled")
            page.locator("#rows", has_text="job 1: doctor").wait_for()
        until(page, "Boolean(systemState.found.doctor?.checks)")
        page.get_by_text("Everything that was looked at").click()
        assert re.search("[✓!✗] memory", page.locator("#checks").inner_text()), "however much is free here now"
        page.locator("#examine:not(:disabled)").wait_for()
        visit.assert_clean()
        visit.context.close()
