"""Pages for what went wrong."""

from __future__ import annotations

from mamba_slm.core.errors import MambaSlmError
from mamba_slm.dashboard.page.layout import Place, page
from mamba_slm.dashboard.page.markup import tag


def error_page(place: Place, error: MambaSlmError, status: int) -> str:
    """What happened, and what one can do."""
    hint = tag("p", error.hint) if error.hint else None
    back = tag("p", tag("a", "All runs", href=place.url("runs")))
    return page(place, "?", f"Error {status}", tag("h1", f"Error {status}"), tag("p", error.message), hint, back)
