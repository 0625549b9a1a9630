"""The site builds strictly, leads nowhere that is not there, and asks nobody for anything."""

import re
from html.parser import HTMLParser

import pytest

from docs.site import REPOSITORY, build, run_mkdocs

LOADING = {
    "script": "src",
    "img": "src",
    "iframe": "src",
    "source": "src",
    "video": "src",
    "audio": "src",
    "embed": "src",
}
"""Elements that fetch what an attribute names; `link` fetches unless its rel only says where something is."""
ASKED_BY_THE_THEME = {
    "https://unpkg.com/mermaid@11/dist/mermaid.min.js",  # on pages with diagrams of Mermaid, which the site has none of
    "https://unpkg.com/resize-observer-polyfill",  # in browsers without ResizeObserver: before 2020
}


class Loaded(HTMLParser):
    """The addresses that a page makes a browser fetch, and its classes."""

    def __init__(self):
        super().__init__()
        self.addresses, self.classes = [], set()

    def handle_starttag(self, tag, attrs):
        values = {name: value or "" for name, value in attrs}
        self.classes |= set(values.get("class", "").split())
        if tag in LOADING and LOADING[tag] in values:
            self.addresses.append(values[LOADING[tag]])
        elif tag == "link" and values.get("rel") not in ("canonical", "next", "prev"):
            self.addresses.append(values.get("href", ""))
        self.addresses += re.findall(r"url\(([^)]+)\)", values.get("style", ""))


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    return build(tmp_path_factory.mktemp("site"), folder=REPOSITORY)


def loaded(path):
    page = Loaded()
    page.feed(path.read_text(encoding="utf-8"))
    return page


def is_elsewhere(address):
    return re.match(r"\s*['\"]?(?:[a-z]+:)?//", address) is not None


def test_every_page_of_docs_is_in_the_site_and_links_nowhere_that_is_not_there(site):
    """mkdocs.yml makes each of these an error of the build: pages without a line in `nav`, links, anchors."""
    pages = {path.relative_to(REPOSITORY / "docs").with_suffix(".html") for path in (REPOSITORY / "docs").rglob("*.md")}
    assert pages and all((site / page).is_file() for page in pages)


def test_no_page_makes_a_browser_ask_another_machine(site):
    pages = {path: loaded(path) for path in site.rglob("*.html")}
    assert not [(str(path), found) for path, page in pages.items() for found in page.addresses if is_elsewhere(found)]
    assert not [path for path, page in pages.items() if "mermaid" in page.classes]


def test_no_style_and_no_script_asks_another_machine(site):
    styles = [path.read_text(encoding="utf-8") for path in site.rglob("*.css")]
    assert styles and not [
        found for text in styles for found in re.findall(r"(?:url\(|@import\s)([^);]+)", text) if is_elsewhere(found)
    ]
    scripts = "".join(path.read_text(encoding="utf-8") for path in (site / "assets").rglob("*.js"))
    assert set(re.findall(r"https?://(?:unpkg|cdn|fonts|[\w.]*jsdelivr)[^\"'`\s]*", scripts)) <= ASKED_BY_THE_THEME


def test_what_is_linked_outside_docs_is_a_page_of_the_site(site):
    guide = (site / "guides" / "serve.html").read_text(encoding="utf-8")
    assert 'href="../deploy/index.html"' in guide
    assert "upstream" in (site / "deploy" / "index.html").read_text(encoding="utf-8")
    assert "image" in (site / "deploy" / "vllm" / "compose.yaml.html").read_text(encoding="utf-8")


def test_a_page_without_a_place_and_a_link_to_nothing_fail_the_build(tmp_path):
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "index.md").write_text("# Home\n\n[gone](gone.md), [nothing](#nothing)\n", encoding="utf-8")
    (tmp_path / "docs" / "alone.md").write_text("# Alone\n", encoding="utf-8")
    settings = (REPOSITORY / "mkdocs.yml").read_text(encoding="utf-8")
    nav = re.sub(r"^nav:\n(?: .*\n)*", "nav:\n  - Home: index.md\n", settings, flags=re.MULTILINE)
    (tmp_path / "mkdocs.yml").write_text(nav.replace("hooks: [docs/_site/links.py]\n", ""), encoding="utf-8")
    done = run_mkdocs(folder=tmp_path)
    assert done.returncode != 0
    for complaint in ("alone.md", "gone.md", "#nothing"):
        assert complaint in done.stderr
