"""A model is measured from the page, and two are compared down to single answers."""

import shutil

import pytest

from dashboard.browser import TWO_FRAMES, Visit, dashboard, until
from dashboard.made_evaluations import make_evaluation
from dashboard.made_runs import EVIL

pytestmark = pytest.mark.slow


def test_a_model_is_measured_from_the_page_and_its_numbers_appear(browser, home, tmp_path):
    shutil.copytree(home / "20260401-nano", tmp_path / "20260401-nano")
    (tmp_path / "held-out.txt").write_text("Once there was a fox who met a bear near the river.\n\n" * 60)
    with dashboard(tmp_path) as (_, address):
        visit = Visit(browser, address)
        page = visit.go(f"/evaluate#model={tmp_path / '20260401-nano'}")
        page.get_by_text("no benchmark was chosen").wait_for()
        assert page.locator("#start").is_disabled()
        page.get_by_role("button", name="The ten").click()
        until(page, "evaluateState.plan?.command?.includes('--benchmarks all')")
        page.locator("[name=what]").select_option("texts")
        page.locator("[name=texts]").fill("held-out.txt")
        until(page, "evaluateState.plan?.command?.includes('--perplexity held-out.txt')")
        page.get_by_text("More settings").click()
        page.locator("[name=by_position]").select_option("on")
        page.locator("[name=more]").fill("--window 128 --device cpu --threads 1")
        until(page, "evaluateState.plan?.command?.endsWith('--threads 1')")
        command = page.locator("#command code").inner_text()
        page.locator("#start").click()
        page.locator("#jobs .state", has_text="done").wait_for()
        assert page.locator("#jobs .command code").inner_text() == command
        page.locator("#list tr", has_text="perplexity of texts: ").get_by_text("bits/byte").wait_for()
        assert page.locator("#list b").inner_text() == "20260401-nano", "the run, not the folder of its weights"
        page.locator("#jobs").get_by_role("button", name="Show the results").click()
        page.get_by_role("columnheader", name="bits/byte").wait_for()
        bits = page.evaluate("evaluateState.shown.summary.texts[0].bits_per_byte")
        assert 0 < bits < 8 and str(bits)[:4] in page.locator("#scores-body").inner_text()
        assert page.get_by_role("heading", name="by the place in a window").is_visible()
        visit.assert_clean()
        visit.context.close()


def test_two_models_are_compared_down_to_the_answers_that_changed_and_the_address_shows_it_again(browser, tmp_path):
    make_evaluation(tmp_path / "a", model="runs/before", every=3, text=EVIL)
    make_evaluation(tmp_path / "b", model="runs/after", every=2, questions=60)
    with dashboard(tmp_path) as (_, address):
        visit = Visit(browser, address)
        page = visit.go("/evaluate")
        page.get_by_label("show a").check()
        row = page.locator("#scores-body tbody tr").first
        row.get_by_text("35.0% ± 15.0 ≈").wait_for()
        row.get_by_role("button", name="Wrong answers of arc_easy").click()
        page.locator("#answer-list .card").nth(19).wait_for()
        assert EVIL in page.locator("#answer-list").inner_text() and "owned" not in page.title()
        assert "what is number 1?" in page.locator("#answer-list .asked-text").first.inner_text()
        assert page.locator("#answers-count").inner_text() == "1 to 20 of 26 wrong, 40 asked"
        page.locator("#answers-after").focus()
        page.keyboard.press("Enter")
        until(page, "document.querySelectorAll('#answer-list .card').length === 6")
        page.get_by_label("beside b").check()
        page.get_by_text("+15.0% ±").wait_for()
        assert "≈" in page.locator("#scores-body .verdict").inner_text(), "40 questions tell no such difference"
        page.get_by_role("button", name="Changed answers of arc_easy").click()
        until(page, "evaluateState.answers?.answers[0]?.beside && evaluateState.answers.count === 20")
        page.locator("#which").select_option("worse")
        until(page, "evaluateState.answers.count === 7")
        shared = page.url
        page.goto("about:blank")
        page.goto(shared)
        until(page, "evaluateState.answers?.count === 7 && evaluateState.differences")
        assert page.locator("#which").input_value() == "worse"
        held = []
        page.route("**/api/evaluations/one?at=0%2Fa%2F*", lambda route: held.append(route))
        page.goto("about:blank")
        visit.go("/evaluate#show=0/a/results.json")
        page.get_by_label("show b").check()
        until(page, "evaluateState.shown?.name === 'b'")
        with page.expect_response("**/api/evaluations/one?at=0%2Fa%2F*") as late:
            held[0].continue_()
        late.value.finished()
        until(page, TWO_FRAMES)
        assert page.evaluate("evaluateState.shown.name") == "b", "an answer that came late shows nothing"
        visit.assert_clean()
        visit.context.close()


def test_up_to_four_evaluations_stand_beside_each_other_and_the_address_holds_them(browser, tmp_path):
    for number, name in enumerate(("one", "two", "three", "four", "five")):
        make_evaluation(tmp_path / name, model=f"runs/{name}", every=2 + number % 3)
    with dashboard(tmp_path) as (_, address):
        visit = Visit(browser, address)
        page = visit.go("/evaluate")
        page.get_by_label("show one").check()
        for name in ("two", "three", "four"):
            page.get_by_label(f"beside {name}").check()
        page.locator("#scores-body th", has_text="four").wait_for()
        names = page.locator("#scores-body thead th").all_inner_texts()
        assert names == ["benchmark", "one", "two", "three", "four"]
        page.get_by_label("beside five").click()
        page.get_by_text("At most 4 evaluations").wait_for()
        shared = page.url
        page.goto("about:blank")
        page.goto(shared)
        page.locator("#scores-body th", has_text="four").wait_for()
        assert page.locator("#scores-body .command code").count() == 3
        page.get_by_role("button", name="Only two beside the first").click()
        page.locator("#scores-body th", has_text="verdict").wait_for()
        assert not page.get_by_label("beside three").is_checked()
        visit.assert_clean()
        visit.context.close()
