"""Wheel and sdist: complete, the same bytes each time, and nothing that does not belong there."""

import os
import subprocess
import tarfile
import zipfile

import pytest

from deployed import DEPLOY, REPOSITORY, copy_of_sources
from mamba_slm import __version__
from promises.documents import repository_files

pytestmark = pytest.mark.slow
TOOLS = REPOSITORY / ".venv-package" / "bin"
EPOCH = 1_700_000_000


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Two times both, from two copies."""
    if not (TOOLS / "python").is_file():
        pytest.skip("needs build and twine: make package-tools")
    folders = []
    for name in ("one", "another"):
        sources = copy_of_sources(tmp_path_factory.mktemp(name))
        script = sources / "deploy" / "package" / "build.py"
        done = subprocess.run(
            [TOOLS / "python", script, sources / "dist"], cwd=sources, capture_output=True, text=True, check=False,
            env=os.environ | {"SOURCE_DATE_EPOCH": str(EPOCH)},
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        folders.append(sources / "dist")
    return folders


def test_the_same_sources_give_the_same_bytes(built):
    one, another = ({path.name: path.read_bytes() for path in folder.iterdir()} for folder in built)
    assert one.keys() == another.keys() == {f"mamba_slm-{__version__}{end}" for end in ("-py3-none-any.whl", ".tar.gz")}
    assert [name for name in one if one[name] != another[name]] == []


def test_the_wheel_holds_every_file_of_the_package_and_no_other(built):
    (wheel,) = built[0].glob("*.whl")
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    sources = {
        str(path.relative_to(REPOSITORY / "src"))
        for path in repository_files()
        if "src" in path.relative_to(REPOSITORY).parts[:1]
    }
    assert names == sources
    assert {name.rpartition(".")[2] for name in names} >= {"py", "js", "css", "cpp", "h", "yaml", "txt", "j2"}


def test_the_sdist_holds_what_the_wheel_is_made_of_and_neither_tests_nor_caches(built):
    (sdist,) = built[0].glob("*.tar.gz")
    with tarfile.open(sdist) as packed:
        members = packed.getmembers()
    top = {member.name.split("/")[1] for member in members if "/" in member.name}
    assert top == {"LICENSE", "PKG-INFO", "README.md", "pyproject.toml", "setup.cfg", "src"}
    assert not [member.name for member in members if "__pycache__" in member.name or member.name.endswith(".pyc")]
    assert {(member.mtime, member.uid, member.uname) for member in members} == {(EPOCH, 0, "")}


def test_an_index_would_take_both(built):
    done = subprocess.run(
        [TOOLS / "python", "-m", "twine", "check", "--strict", *built[0].iterdir()],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout


def test_an_audit_that_could_ask_nobody_does_not_say_that_all_is_well():
    if not (TOOLS / "python").is_file():
        pytest.skip("needs pip-audit: make package-tools")
    done = subprocess.run(
        [TOOLS / "python", DEPLOY / "package" / "audit.py", "osv"], capture_output=True, text=True, check=False,
        env=os.environ | {"HTTPS_PROXY": "http://127.0.0.1:9"},
    )  # fmt: skip
    assert done.returncode == 3 and "nothing was audited" in done.stderr
