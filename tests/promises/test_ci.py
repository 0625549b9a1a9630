"""What `.ci/run` relies on: under MAMBA_SLM_CI=1 a skipped test is a failed one."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
TESTS = """
import pytest

def test_without_its_data():
    pytest.skip("no data here")

@pytest.mark.gpu
def test_without_a_gpu():
    pytest.skip("no GPU here")

@pytest.mark.processor
def test_without_wide_registers():
    pytest.skip("no AVX-512 here")

@pytest.mark.xfail(reason="known")
def test_known():
    assert False
"""


@pytest.mark.parametrize(("ci", "summary"), [("1", "1 failed, 2 skipped, 1 xfailed"), ("", "3 skipped, 1 xfailed")])
def test_a_skip_fails_only_in_ci_and_only_without_a_mark_of_absent_hardware(tmp_path, ci, summary):
    shutil.copy(REPOSITORY / "tests" / "conftest.py", tmp_path)
    (tmp_path / "test_some.py").write_text(TESTS)
    (tmp_path / "pytest.ini").write_text(
        "[pytest]\nmarkers =\n  gpu: needs a GPU\n  processor: needs its instructions\n"
    )
    environment = {**os.environ, "MAMBA_SLM_CI": ci, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "."],
        cwd=tmp_path, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert summary in done.stdout
    assert ("skipped, which MAMBA_SLM_CI=1 does not allow" in done.stdout) == (ci == "1")
    assert done.returncode == (1 if ci else 0)


def test_the_table_of_slow_groups_names_paths_that_exist_and_holds_every_slow_test():
    script = (REPOSITORY / ".ci" / "run").read_text(encoding="utf-8")
    rows = re.findall(r'^  "(\S+)\s*:\s*(.+)"$', script, flags=re.MULTILINE)
    assert rows
    for group, sources in rows:
        for path in [group, *sources.split()]:
            assert (REPOSITORY / path).exists(), path
    for path in (REPOSITORY / "tests").rglob("test_*.py"):
        if re.search(
            r"^\s*(@pytest\.mark\.slow|pytestmark = \[?pytest\.mark\.slow)",
            path.read_text(encoding="utf-8"),
            re.MULTILINE,
        ):
            name = str(path.relative_to(REPOSITORY))
            assert any(name.startswith(group) for group, _ in rows), f"{name} is in no slow group of .ci/run"
    for group, _ in rows:
        folder = REPOSITORY / group
        files = [folder] if folder.is_file() else list(folder.rglob("test_*.py"))
        assert any("mark.slow" in file.read_text(encoding="utf-8") for file in files), f"{group} has no slow test"


def test_the_script_is_valid_bash():
    subprocess.run(["bash", "-n", str(REPOSITORY / ".ci" / "run")], check=True)
