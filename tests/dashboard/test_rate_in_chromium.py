"""From twenty ratings to a training on them, with the keyboard alone."""

import json
import shutil

import pytest

from dashboard.browser import Visit, dashboard, until
from dashboard.made_pairs import pairs_to_rate
from dashboard.made_runs import EVIL
from mamba_slm.runs.preferences.rows import Answer, Pair
from mamba_slm.runs.preferences.store import PreferenceSet

pytestmark = pytest.mark.slow
RATINGS = 20


def press(page, keys):
    """Keys that lead to a rating or take one back, and the answer of the server to them."""
    before = page.evaluate("rateState.now.turn")
    for key in keys:
        page.keyboard.press(key)
    until(page, f"!rateState.busy && rateState.now.turn !== {json.dumps(before)}")


def tab_to(page, name):
    for _ in range(80):
        if page.evaluate("document.activeElement.name") == name:
            return
        page.keyboard.press("Tab")
    raise AssertionError(f"the keyboard does not reach {name}")


def test_twenty_ratings_become_a_training_with_dpo_by_keys_alone(browser, home, tmp_path):
    shutil.copytree(home / "20260401-nano", tmp_path / "20260401-nano")
    preferences = pairs_to_rate(tmp_path)
    with dashboard(tmp_path) as (_, address):
        visit = Visit(browser, address)
        page = visit.go("/")
        page.locator("main").wait_for()
        page.keyboard.press("g")
        page.keyboard.press("a")
        page.wait_for_url("**/rate**")
        until(page, "Boolean(window.rateState?.now?.shown)")
        assert "runs/one" not in page.locator("#compare").inner_text(), "nobody is named while they are compared"
        for _ in range(RATINGS):
            likes_left = page.locator("#left").inner_text().startswith("Home")
            press(page, "1" if likes_left else "5")
        assert len(preferences.ratings()) == RATINGS
        assert "of 24" in page.locator("#count").inner_text()
        said = page.locator("#figures").inner_text()
        assert "100%" in said and "left side chosen" in said and "n=20" in said, "agreement, sides and how many"

        page.keyboard.press("t")
        page.wait_for_url("**/tune**")
        until(page, "Boolean(tuneState.plan?.steps && tuneState.example)")
        assert "align 20260401-nano dpo --data prefs:" in page.locator("#command code").inner_text()
        assert "chosen" in page.locator("#example").inner_text()
        tab_to(page, "max_steps")
        page.keyboard.type("2")
        tab_to(page, "name")
        page.keyboard.type("liked")
        until(page, "tuneState.plan.name === 'liked' && tuneState.plan.steps === 2")
        page.keyboard.press("Control+Enter")
        page.locator("#jobs .state", has_text="done").wait_for(timeout=900_000)
        page.get_by_role("link", name="Compare before and after, blindly").press("Enter")
        until(page, "document.querySelector('#command code')?.textContent.includes('liked-after')")
        made = page.locator("#command code").inner_text()
        assert f"--model 20260401-nano --model {tmp_path}/liked --prompts prefs:" in made
        visit.assert_clean()
        visit.context.close()
    record = json.loads((tmp_path / "liked" / "data.json").read_text())
    rated = {rating.pair for rating in preferences.ratings()}
    assert record["sources"] == [{"path": f"prefs:{preferences.path}", "examples": len(rated)}]
    assert (tmp_path / "liked" / "adapter" / "adapter_config.json").is_file()


def test_skip_undo_and_edit_by_keys_and_answers_that_stay_text(browser, tmp_path):
    preferences = PreferenceSet.open_or_create("talk", tmp_path, seed=3)
    preferences.add_pairs(
        Pair(({"role": "user", "content": EVIL},), (Answer(f"{EVIL} {n}", "one"), Answer(f"b {n}", EVIL)))
        for n in range(4)
    )
    with dashboard(tmp_path) as (_, address):
        visit = Visit(browser, address)
        page = visit.go("/rate")
        until(page, "Boolean(window.rateState?.now?.shown)")
        first = page.evaluate("rateState.now.shown")
        press(page, "s")
        assert preferences.ratings()[0].choice == "skip"
        press(page, "u")
        assert page.evaluate("rateState.now.shown") == first and preferences.ratings() == []
        page.keyboard.press("e")
        page.keyboard.press("4")
        assert page.locator("#editor textarea").input_value() == first["right"]
        page.keyboard.press("Escape")
        assert preferences.ratings() == [] and page.locator("#editor").is_hidden()
        page.keyboard.press("e")
        page.keyboard.press("2")
        page.keyboard.type("1 good answer: ")  # keys of choices are letters like others while somebody writes
        press(page, ["Control+Enter"])
        (rating,) = preferences.ratings()
        assert rating.choice == "left" and "1 good answer: " in (rating.edited or "")
        page.locator("#who summary").click()
        assert EVIL in page.locator("#duels").inner_text()
        assert page.locator("main img, main script").count() == 0 and "owned" not in page.title()

        other = Visit(browser, address)
        second = other.go(page.url.split("/", 3)[3])
        until(second, "Boolean(window.rateState?.now?.shown)")
        press(second, "3")
        page.keyboard.press("3")
        page.get_by_text("no longer the one").wait_for()
        assert len(preferences.ratings()) == 2, "the pair of the other page is not rated twice"
        assert any("409" in problem for problem in visit.problems)
        other.assert_clean()
        for each in (visit, other):
            each.context.close()
