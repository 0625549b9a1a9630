"""A copy of the repository sets itself up with `make` and works; needs the package index and about a minute."""

import json
import os
import subprocess
import zipfile
from pathlib import Path

import pytest

from promises.documents import REPOSITORY, repository_files

pytestmark = pytest.mark.slow


@pytest.fixture
def copy(tmp_path):
    """The files of the repository, as a fresh clone would have them."""
    for path in repository_files():
        target = tmp_path / path.relative_to(REPOSITORY)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
        target.chmod(path.stat().st_mode)
    return tmp_path


def output(*command, cwd):
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("MAMBA_SLM", "VIRTUAL_ENV"))
    }
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_make_sets_up_a_fresh_machine_and_the_package_it_installs_is_complete(copy):
    output("make", ".venv/.base-installed", cwd=copy)
    answer = json.loads(output(".venv/bin/mamba-slm", "doctor", "--json", "--no-measure", cwd=copy))
    assert answer["ok"], answer
    assert "is up to date" in output("make", ".venv/.base-installed", cwd=copy)

    output(".venv/bin/python", "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", ".", cwd=copy)
    (wheel,) = copy.glob("mamba_slm-*.whl")
    packed = {name for name in zipfile.ZipFile(wheel).namelist() if name.startswith("mamba_slm/")}
    sources = {
        str(Path(path).relative_to(copy / "src")) for path in (copy / "src" / "mamba_slm").rglob("*") if path.is_file()
    }
    assert {name for name in sources if "__pycache__" not in name} == packed
