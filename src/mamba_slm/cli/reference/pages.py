"""Which pages there are, and what makes them."""

from __future__ import annotations

from collections.abc import Callable

from mamba_slm.cli.reference.commands import command_pages
from mamba_slm.cli.reference.errors import errors_page
from mamba_slm.cli.reference.formats import formats_page
from mamba_slm.cli.reference.http_api import http_page
from mamba_slm.cli.reference.metrics import metrics_page
from mamba_slm.cli.reference.python_api import python_page
from mamba_slm.cli.reference.settings import settings_page

PAGES: dict[str, Callable[[], dict[str, str]]] = {
    "commands": command_pages,
    "settings": lambda: {"config.md": settings_page()},
    "python": lambda: {"python-api.md": python_page()},
    "http": lambda: {"http-api.md": http_page()},
    "metrics": lambda: {"metrics.md": metrics_page()},
    "formats": lambda: {"formats.md": formats_page()},
    "errors": lambda: {"errors.md": errors_page()},
}
"""What is made together -> file below docs/reference -> its text."""
