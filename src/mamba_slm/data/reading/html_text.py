"""HTML to text, by resiliparse."""

from __future__ import annotations

from mamba_slm.core.optional import require

BOILERPLATE = ("nav", "footer", "form", "button")


def plain_html(content: str, *, main_content: bool) -> str:
    """The visible text, with paragraphs, lists and preformatted text kept apart by line ends.

    Args:
        content: a page, or a part of one.
        main_content: leave out menus, side bars, footers and forms, which it finds by its own rules.

    Raises:
        MissingDependencyError: resiliparse is not installed.
    """
    library = require("resiliparse.extract.html2text", extra="data", purpose="turning HTML into text")
    skipped = list(BOILERPLATE) if main_content else None
    return library.extract_plain_text(
        content, main_content=main_content, alt_texts=False, preserve_formatting=True, skip_elements=skipped
    ).strip()
