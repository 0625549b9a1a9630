"""The first page leads on: from what broke, from what came out, and from nothing at all."""

import pytest

from dashboard.browser import Visit, dashboard, until
from dashboard.made_evaluations import make_evaluation
from dashboard.made_runs import EVIL, make_run

pytestmark = pytest.mark.slow


def test_who_begins_is_led_to_the_first_step_and_can_start_a_quick_run_with_the_keyboard(browser, tmp_path):
    with dashboard(tmp_path) as (_, address):
        visit = Visit(browser, address)
        page = visit.page
        until(page, "window.homeState?.steps[0].state === 'next'")
        assert page.locator("#next-command code").inner_text() == "mamba-slm data sources"
        page.locator("#quick").focus()
        page.keyboard.press("Enter")
        page.locator("#jobs .card", has_text="quickstart").wait_for()
        assert f"--out {tmp_path}/quickstart" in page.locator("#jobs .command code").inner_text()
        page.locator("#jobs .state", has_text="running").wait_for()
        page.get_by_role("button", name="End it").click()
        until(page, "document.querySelector('#jobs .state').dataset.state === 'stopped'")
        visit.assert_clean()
        visit.context.close()


def test_what_broke_and_what_came_out_are_one_step_away_and_stay_text(browser, tmp_path):
    run = make_run(tmp_path, state="failed", text=EVIL)
    for number in range(5):
        make_run(tmp_path, f"20260301-{number}", state="failed")
    make_run(tmp_path, "20260201-nano")
    make_evaluation(tmp_path / "evaluations" / "mine", model=str(run.path))
    with dashboard(tmp_path) as (_, address):
        visit = Visit(browser, address)
        page = visit.page
        broken = page.locator("#broken .card", has_text="20260401-nano")
        broken.wait_for()
        assert EVIL in broken.locator(".last").inner_text() and "owned" not in page.title()
        assert "--resume" in broken.locator(".command code").inner_text()
        until(page, "homeState.steps.map(step => step.state).join() === 'done,done,done,next,open,open'")
        page.locator("#path").get_by_role("link", name="Fine-tune").click()
        until(page, "location.pathname === '/tune' && document.querySelector('[name=model]')?.value.endsWith('-nano')")
        visit.go("/")
        page.get_by_role("link", name="2 more runs that broke").click()
        until(page, "document.querySelectorAll('#rows tr').length === 6")
        visit.go("/")
        page.get_by_text("arc_easy 35.0% ± 15.0 (n=40)").wait_for()
        page.get_by_role("link", name="mine is measured").click()
        page.locator("#scores-body tbody tr").first.wait_for()
        assert page.evaluate("evaluateState.shown.name") == "mine"
        visit.assert_clean()
        visit.context.close()
