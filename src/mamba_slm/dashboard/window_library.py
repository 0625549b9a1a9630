"""Says what to install where the library of the window is absent: import it before anything of its own."""

from mamba_slm.core.optional import require

require("PyQt6.QtWebEngineWidgets", extra="window", purpose="`mamba-slm dashboard --window`")
