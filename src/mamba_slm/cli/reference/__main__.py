"""Write every page: `python -m mamba_slm.cli.reference docs/reference`."""

from __future__ import annotations

import sys
from pathlib import Path

from mamba_slm.cli.reference.pages import PAGES
from mamba_slm.core.files import write_text_atomic

if __name__ == "__main__":
    for make in PAGES.values():
        for name, text in make().items():
            path = Path(sys.argv[1]) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            write_text_atomic(path, text)
