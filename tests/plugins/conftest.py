"""The example packages, installed as a user installs them, but without network and into a folder of their own."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
PACKAGES = ("mamba-slm-rg-lru", "mamba-slm-task-spelling")


@pytest.fixture(scope="session")
def installed(tmp_path_factory):
    """A folder for sys.path with both packages in it."""
    root = tmp_path_factory.mktemp("examples")
    for name in PACKAGES:
        shutil.copytree(EXAMPLES / name, root / name)  # or else building would write into the repository
    target = root / "site"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    folders = [str(root / name) for name in PACKAGES]
    done = subprocess.run([*pip, "--target", str(target), *folders], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return target
