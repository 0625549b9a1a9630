"""The form of a further training in a real browser: what is learned, what is reached, and the start."""

import shutil

import pytest

from dashboard.browser import Visit, dashboard, held, last_job, until
from dashboard.made_pairs import conversations

pytestmark = pytest.mark.slow


def test_mask_reach_and_estimate_follow_what_is_typed_and_the_run_begins(browser, home, tmp_path):
    shutil.copytree(home / "20260401-nano", tmp_path / "20260401-nano")
    conversations(tmp_path / "talk.jsonl")
    with dashboard(tmp_path) as (_, address):
        visit = Visit(browser, address)
        page = visit.go("/tune")
        page.get_by_text("the model is missing").wait_for()
        assert page.locator("#start").is_disabled()
        page.locator("[name=model]").fill("20260401-nano")
        page.get_by_text("there is nothing to learn from").wait_for()
        page.locator("[name=data]").fill("talk.jsonl")
        until(page, "Boolean(tuneState.example)")
        learned = page.locator("#example .learned").all_inner_texts()
        assert "".join(learned).startswith("Home.") and "fox" in page.locator("#example").inner_text()
        before = page.locator("#which").inner_text()
        page.get_by_label("The example after").click()
        until(page, "tuneState.example.number === 1")
        assert page.locator("#which").inner_text() != before
        page.locator("[name=train_on]").select_option("all")
        until(
            page,
            "tuneState.plan.settings.train_on === 'all' && document.querySelectorAll('#example .learned').length > 9",
        )

        assert page.locator("#layers span[data-on=no]").count() == 0
        page.get_by_text("More settings").click()
        page.locator("[name=targets]").fill("q_proj")
        kinds = "[...document.querySelectorAll('#layers span[data-on=yes]')].map(layer => layer.textContent)"
        until(page, f"{kinds}.length > 0 && {kinds}.every(kind => kind === '*')")
        page.locator("[name=targets]").fill("q_prj")
        page.locator("#problem", has_text="q_prj").wait_for()
        page.locator("[name=targets]").fill("")
        page.locator("[name=rank]").fill("2")
        page.locator("[name=max_steps]").fill("1")
        until(page, "tuneState.plan.steps === 1 && !document.querySelector('#start').disabled")

        shared = page.url
        page.goto("about:blank")
        page.goto(shared)
        until(page, "tuneState.plan?.settings.rank === 2 && Boolean(tuneState.example)")
        page.get_by_role("button", name="Start").click()
        with held(last_job(tmp_path).pid):
            page.locator("#jobs .state", has_text="running").wait_for()
            page.get_by_role("button", name="End it").click()
            page.locator("#message", has_text="asked to end").wait_for()
        until(page, "/stopped|done|failed/.test(document.querySelector('#jobs .state').textContent)")
        visit.assert_clean()
        visit.context.close()
