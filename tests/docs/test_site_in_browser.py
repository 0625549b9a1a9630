"""The site opened from the disk in a real browser: search works, nobody is asked for anything, pages fit the screen."""

import pytest

from dashboard.browser import chromium
from docs.site import REPOSITORY, build

PAGES = ("index.html", "quick-start.html", "reference/config.html", "reference/errors.html", "reference/crossover.html")
SIZES = {"phone": (390, 844), "laptop": (1280, 800)}


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    return build(tmp_path_factory.mktemp("site"), folder=REPOSITORY)


@pytest.fixture(scope="module")
def browser():
    with chromium() as found:
        yield found


class Opened:
    """A page from the disk, with what it asked for and what went wrong."""

    def __init__(self, browser, *, size="laptop", theme="light"):
        width, height = SIZES[size]
        context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=theme)
        context.set_default_timeout(300_000)
        self.page, self.problems = context.new_page(), []
        context.on("request", lambda one: self.problems.append(one.url) if not one.url.startswith(LOCAL) else None)
        self.page.on("pageerror", lambda error: self.problems.append(str(error)))
        self.page.on("console", lambda one: self.problems.append(one.text) if one.type == "error" else None)


LOCAL = ("file:", "data:")


@pytest.mark.slow
def test_search_finds_a_page_and_a_setting(browser, site):
    opened = Opened(browser)
    for words, found in (("prefix cache", "Serve a model"), ("warmup_share", "Settings"), ("misses", "Metrics")):
        opened.page.goto((site / "guides" / "chat.html").as_uri() + f"?q={words}")
        result = opened.page.locator(".md-search-result__item h1", has_text=found).first
        result.wait_for(state="attached", timeout=300_000)
    assert not opened.problems


@pytest.mark.slow
@pytest.mark.parametrize(("size", "theme"), [("phone", "dark"), ("laptop", "light")])
def test_pages_fit_their_width_and_show_their_figures(browser, site, size, theme):
    opened = Opened(browser, size=size, theme=theme)
    for name in PAGES:
        opened.page.goto((site / name).as_uri())
        wide = "document.documentElement.scrollWidth > document.documentElement.clientWidth"
        assert not opened.page.evaluate(wide), name
        assert opened.page.evaluate("[...document.images].every(image => image.naturalWidth > 0)"), name
    assert not opened.problems
