"""A hook of mkdocs: what the pages link to outside docs/ becomes part of the site.

A page links as it would for a reader of the repository: `../../deploy/README.md`, `../../src/mamba_slm/core/errors.py`.
Markdown files become pages under their path in the repository, other files a page that shows their text, folders the
list of what is in them. The link of the page is then turned to that page; a link to nothing is left as it is, and the
strict build refuses it.
"""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.pages import Page

REPOSITORY = Path(__file__).parents[2]
DOCS = REPOSITORY / "docs"
INCLUDED = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md", "LICENSE")
"""Pages of the site whether or not anything links to them."""
NOT_SEARCHED = ("log.md", "CHANGELOG.md")
"""Long, and about what was: they would be half of the index, and stand above the pages that say what is."""
LANGUAGES = {".py": "python", ".yml": "yaml", ".yaml": "yaml", ".json": "json", ".toml": "toml", ".sh": "bash"}
LINK = re.compile(r"(\]\()([^)#:\s]+)(#[^)\s]*)?(\))")
CODE = re.compile(r"^ *(```+|~~~+).*?^ *\1 *$|(`+)(?!`).+?(?<!`)\2(?!`)", flags=re.MULTILINE | re.DOTALL)


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Add a page for everything outside docs/ that a page links to, and for what those link to in turn."""
    waiting = [path for page in files.documentation_pages() if (path := origin(page))]
    waiting += [REPOSITORY / name for name in INCLUDED]
    seen = set(waiting)
    while waiting:
        path = waiting.pop()
        if not path.is_relative_to(DOCS):
            files.append(page_of(path, config))
        if path.suffix == ".md":
            new = {target for target in targets(path) if target not in seen and not target.is_relative_to(DOCS)}
            seen |= new
            waiting += sorted(new)
    return files


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn links between docs/ and the rest of the repository to where the pages stand in the site."""
    if page.file.src_uri in NOT_SEARCHED:
        page.meta["search"] = {"exclude": True}
    source = origin(page.file)
    if source is None:
        return markdown
    here = posixpath.dirname(page.file.src_uri)

    def turned(link: re.Match[str]) -> str:
        target = resolved(source, link[2])
        if target is None:
            return link[0]
        return f"{link[1]}{posixpath.relpath(place(target), here or '.')}{link[3] or ''}{link[4]}"

    return outside_code(markdown, lambda text: LINK.sub(turned, text))


def origin(file: File) -> Path | None:
    """The Markdown file that a page was made from; None for a page that was made here."""
    path = Path(file.abs_src_path) if file.abs_src_path else None
    return path.resolve() if path and path.suffix == ".md" else None


def targets(path: Path) -> Iterator[Path]:
    """What a Markdown file links to and exists in the repository."""
    found: list[Path | None] = []
    outside_code(
        path.read_text(encoding="utf-8"),
        lambda text: found.extend(resolved(path, link[2]) for link in LINK.finditer(text)) or text,
    )
    yield from (target for target in found if target)


def resolved(source: Path, link: str) -> Path | None:
    """The file or folder of the repository that a link in `source` names; None when there is none."""
    target = Path(os.path.normpath(source.parent / link))
    return target if target.exists() and target.is_relative_to(REPOSITORY) else None


def place(path: Path) -> str:
    """Where a file of the repository stands among the sources of the site."""
    if path.is_relative_to(DOCS):
        return path.relative_to(DOCS).as_posix()
    name = path.relative_to(REPOSITORY).as_posix()
    if name == "README.md":
        return "readme.md"  # a README is the first page of its folder, and here docs/index.md is
    return name if path.suffix == ".md" else f"{name}/index.md" if path.is_dir() else f"{name}.md"


def page_of(path: Path, config: MkDocsConfig) -> File:
    """The page for a file or folder outside docs/."""
    name = path.relative_to(REPOSITORY).as_posix()
    linked = InclusionLevel.NOT_IN_NAV
    if path.suffix == ".md":
        return File.generated(config, place(path), abs_src_path=str(path), inclusion=linked)
    if path.is_dir():
        inside = "\n".join(f"- `{inner.name}{'/' * inner.is_dir()}`" for inner in sorted(path.iterdir()))
        return File.generated(config, place(path), content=f"# {name}/\n\n{inside}\n", inclusion=linked)
    text = path.read_text(encoding="utf-8").rstrip()
    fence = "`" * (3 + max((len(run) for run in re.findall(r"`{3,}", text)), default=0))
    shown = f"# {name}\n\n{fence}{LANGUAGES.get(path.suffix, 'text')}\n{text}\n{fence}\n"
    return File.generated(config, place(path), content=shown, inclusion=linked)


def outside_code(markdown: str, change: Callable[[str], str]) -> str:
    """Markdown with everything outside of code changed."""
    pieces, end = [], 0
    for code in CODE.finditer(markdown):
        pieces += [change(markdown[end : code.start()]), code[0]]
        end = code.end()
    return "".join([*pieces, change(markdown[end:])])
