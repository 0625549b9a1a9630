"""Builds the site as `make site` does."""

import os
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]


def run_mkdocs(*more, folder):
    """mkdocs in a folder with an mkdocs.yml. Not with --quiet: then it counts no warnings, and is not strict."""
    return subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", *more],
        cwd=folder, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"}, capture_output=True, text=True, check=False,
    )  # fmt: skip


def build(out, *, folder):
    """The site in `out`; fails with what mkdocs says."""
    done = run_mkdocs("--site-dir", str(out), folder=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return out
