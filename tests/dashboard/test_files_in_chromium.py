"""Choosing a file with the keyboard, and sending one, in a real browser."""

import pytest

from dashboard.browser import SIZES, Visit, artefacts, dashboard, until
from dashboard.made_runs import make_run

pytestmark = pytest.mark.slow


def test_a_file_is_chosen_with_the_keyboard_and_another_one_sent(browser, tmp_path):
    from axe_playwright_python.sync_playwright import Axe

    make_run(tmp_path)
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "tales.txt").write_text("Once upon a time.\n" * 100)
    letter = tmp_path.parent / f"{tmp_path.name}-letter.txt"
    letter.write_text("Dear all.\n" * 1000)
    with dashboard(tmp_path) as (_, address):
        visit = Visit(browser, address)
        page = visit.go("/train")
        until(page, "Boolean(window.trainState?.plan)")
        data = page.locator("[name=data]")
        data.focus()
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        until(page, "document.querySelectorAll('#files-list .row').length === 2")
        page.keyboard.press("ArrowDown")
        page.keyboard.press("Enter")  # the second folder: texts
        until(page, "document.querySelector('#files-list .row:last-of-type')?.textContent.includes('above')")
        assert not [
            each for each in Axe().run(page).response["violations"] if each["impact"] in ("serious", "critical")
        ]
        page.screenshot(path=artefacts() / "files-laptop.png")
        page.keyboard.press("End")
        page.keyboard.press("Enter")
        assert data.input_value() == "texts/tales.txt"
        until(page, "trainState.plan.command.includes('--data texts/tales.txt') && trainState.plan.problem === null")

        page.locator(".browse").click()
        page.locator("#files-upload").set_input_files(letter)
        until(page, "!document.querySelector('#files').open")
        assert data.input_value().splitlines()[1].endswith(".uploads/" + letter.name)
        assert (tmp_path / ".uploads" / letter.name).read_text() == letter.read_text()

        slow = []
        page.route("**/api/files?path=*uploads*", lambda route: slow.append(route))
        page.locator(".browse").click()
        page.locator("#files-path").fill("../..")
        while not slow:
            page.wait_for_timeout(20)
        slow[0].continue_()
        page.locator("#files-list .row", has_text=letter.name).wait_for()
        page.keyboard.press("Enter")  # what was typed before the list came is still there, and so is the focus
        until(page, "document.querySelector('#files-said').textContent.includes('not below the folders')")
        width, height = SIZES["phone"]
        page.set_viewport_size({"width": width, "height": height})
        page.screenshot(path=artefacts() / "files-phone.png")
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        page.keyboard.press("Escape")
        visit.problems[:] = [each for each in visit.problems if "status of 400" not in each]  # that was the point
        visit.assert_clean()
        visit.context.close()
