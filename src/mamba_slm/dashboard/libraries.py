"""Says what to install where the libraries of the dashboard are absent: import it before anything of theirs."""

from mamba_slm.core.optional import require

for name in ("starlette", "uvicorn", "httpx"):
    require(name, extra="dashboard", purpose="`mamba-slm dashboard`")
