"""Says what to install where the libraries of the server are absent: import it before anything of theirs."""

from mamba_slm.core.optional import require

for name in ("fastapi", "uvicorn", "httptools"):
    require(name, extra="serve", purpose="`mamba-slm serve`")
