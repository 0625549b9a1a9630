"""What every page has: a palette, a list of keys, a navigation that fits a phone."""

import pytest

from dashboard.browser import Visit, dashboard, until
from dashboard.made_runs import EVIL, make_run

pytestmark = pytest.mark.slow


def test_pages_runs_and_actions_are_found_with_the_keyboard_alone(browser, tmp_path):
    from axe_playwright_python.sync_playwright import Axe

    make_run(tmp_path, "alpha")
    make_run(tmp_path, EVIL.replace("/", "∕"))
    with dashboard(tmp_path) as (_, address):
        visit = Visit(browser, address)
        page = visit.page
        page.keyboard.press("Control+k")
        box = page.get_by_role("combobox", name="Find a page, run or action")
        assert page.evaluate("document.activeElement.getAttribute('role')") == "combobox"
        page.keyboard.type("onerror")
        page.get_by_role("option").filter(has_text="run · done").wait_for()
        assert EVIL.replace("/", "∕") in page.get_by_role("option").inner_text() and "owned" not in page.title()
        found = Axe().run(page).response["violations"]
        assert not [each["id"] for each in found if each["impact"] in ("serious", "critical")]
        box.fill("no such thing")
        page.get_by_text("nothing has these letters").wait_for()
        page.keyboard.press("Enter")
        box.fill("dark")
        page.keyboard.press("Enter")
        until(page, "document.documentElement.dataset.theme === 'dark' && !document.querySelector('dialog')")
        page.keyboard.press("Control+k")
        page.keyboard.type("alpha")
        page.locator("[role=option]").get_by_text("run · done").wait_for()
        page.keyboard.press("Enter")
        page.wait_for_url("**/runs/0/alpha")
        page.keyboard.press("Control+k")
        page.keyboard.press("ArrowDown")
        second = page.locator("header nav a").nth(1)
        assert page.locator("[aria-selected=true] span").inner_text() == second.inner_text()
        page.keyboard.press("ArrowUp")
        page.keyboard.press("Escape")
        until(page, "!document.querySelector('dialog')")
        page.keyboard.press("?")
        keys = page.get_by_role("dialog", name="Keys")
        for words in ("Ctrl-K", "g c", "Chat"):
            assert words in keys.inner_text()
        assert not [each["id"] for each in Axe().run(page).response["violations"] if each["impact"] == "serious"]
        page.keyboard.press("Escape")
        page.keyboard.press("g")
        page.keyboard.press("c")
        page.wait_for_url("**/chat")
        page.locator("#message-text").press_sequentially("what? g h")
        assert page.locator("dialog").count() == 0, "who types is not asking for keys"
        visit.assert_clean()
        visit.context.close()


def test_on_a_phone_the_navigation_scrolls_and_shows_where_one_is(browser, tmp_path):
    make_run(tmp_path, "alpha")
    with dashboard(tmp_path) as (_, address):
        visit = Visit(browser, address, size="phone")
        for path in [link.get_attribute("href") for link in visit.page.locator("header nav a").all()]:
            page = visit.go(path)
            until(page, "document.querySelector('#theme').hasAttribute('aria-label')")  # the script has run
            box = page.locator("header nav a[aria-current]").bounding_box()
            assert box["x"] >= 0 and box["x"] + box["width"] <= 390, path
            assert page.locator("header").bounding_box()["height"] < 110
            page.locator("header nav a").last.focus()
            until(page, "document.activeElement.getBoundingClientRect().right <= innerWidth")
        visit.page.locator("#find").click()
        visit.page.get_by_role("dialog", name="Find").wait_for()
        visit.assert_clean()
        visit.context.close()
