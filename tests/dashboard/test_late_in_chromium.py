"""What the server answers late, after something else was asked for, draws nothing old over what is new."""

import time

import pytest

from dashboard.browser import PATIENCE_SECONDS, TWO_FRAMES, Visit, dashboard, until
from dashboard.made_models import make_model
from dashboard.made_runs import append, make_run, train_row
from mamba_slm.runs.layout import RunDirectory

pytestmark = pytest.mark.slow


@pytest.fixture
def home(tmp_path):
    for name, rate in (("alpha", 0.001), ("beta", 0.003)):
        make_run(tmp_path, name, steps=30, config=f"train:\n  learning_rate: {rate}\n")
    return tmp_path


@pytest.fixture
def visit(browser, home):
    with dashboard(home) as (_, address):
        found = Visit(browser, address)
        yield found
        found.assert_clean()
        found.context.close()


class Late:
    """The first request to an address from now on: `answer` asks the server, `arrive` tells the page what it said."""

    def __init__(self, page, address):
        self.page, self.routes = page, []
        page.route(address, lambda route: self.routes.append(route), times=1)

    def asked(self):
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not self.routes:
            assert time.monotonic() < deadline
            self.page.wait_for_timeout(20)

    def answer(self):
        self.asked()
        self.said = self.routes[0].fetch()

    def arrive(self):
        url = self.routes[0].request.url
        with self.page.expect_response(lambda response: response.url == url) as found:
            self.routes[0].fulfill(response=self.said)
        found.value.finished()
        until(self.page, TWO_FRAMES)


def test_settings_of_the_runs_that_were_chosen_before_are_not_shown(visit):
    page = visit.go("/runs")
    late = Late(page, "**/api/compare?run=0%2Falpha")
    page.get_by_label("Choose alpha").check()
    late.answer()
    page.get_by_label("Choose beta").check()
    page.get_by_role("cell", name="0.003").wait_for()
    late.arrive()
    assert page.get_by_role("cell", name="0.003").count() == 1
    assert page.locator("#legend li").all_inner_texts() == ["alpha", "beta"]


def test_a_window_that_was_left_is_not_shown(visit):
    page = visit.go("/runs/0/alpha")
    until(page, "window.runState?.versions.log && document.querySelector('#chart-loss').chart.area")
    late = Late(page, "**/series?*first=*")
    page.evaluate("document.querySelector('#chart-loss').chart.zoomed(5, 9)")
    late.answer()
    with page.expect_response("**/series?most=600") as whole:
        page.locator("#chart-loss").press("Escape")
    whole.value.finished()
    late.arrive()
    assert page.evaluate("runState.series.step.length") == 30


def test_a_row_that_comes_while_a_window_is_read_is_shown_once(visit, home):
    page = visit.go("/runs/0/alpha")
    until(page, "window.runState?.versions.log && document.querySelector('#chart-loss').chart.area")
    run = RunDirectory(home / "alpha")
    late = Late(page, "**/live?after=*")
    late.asked()
    append(run, train_row(31))
    page.locator("#chart-loss").press("Escape")
    until(page, "runState.series.step.length === 31")
    append(run, train_row(32))
    late.answer()
    late.arrive()
    until(page, "runState.series.step.at(-1) === 32")
    assert page.evaluate("runState.series.step") == list(range(1, 33))


def test_keys_that_were_listed_before_one_was_made_do_not_hide_it(visit):
    late = Late(visit.page, "**/api/keys/list")
    page = visit.go("/serve")
    late.answer()
    page.get_by_label("Name", exact=True).fill("ada")
    page.get_by_role("button", name="Add a key").click()
    page.locator("#key-rows tr", has_text="ada").wait_for()
    late.arrive()
    assert page.locator("#key-rows tr", has_text="ada").count() == 1


def test_models_that_were_listed_before_one_was_made_do_not_hide_it(visit, home):
    late = Late(visit.page, "**/api/models")
    page = visit.go("/models")
    late.answer()
    make_model(home / "gamma")
    page.evaluate("dispatchEvent(new Event('modelsChanged'))")
    page.locator("#found-rows").get_by_role("button", name="gamma").wait_for()
    late.arrive()
    assert page.locator("#found-rows").get_by_role("button", name="gamma").count() > 0
