"""Packages and extras: floors of the metadata, absence, broken imports, and the command for this installation."""

import importlib.metadata
import json
import os
import platform
import re
import sys
import tomllib
from pathlib import Path

import pytest

from mamba_slm.cli.examination import imports, installing, libraries, packages
from mamba_slm.cli.examination.installing import Installation

PROJECT = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
INDEX = Installation(source="index", installer=("pip", "install"))


def test_the_floors_are_those_of_the_package():
    declared = [f"{name}>={floor}" for name, floor in packages.requirements().items()]
    assert sorted(declared) == sorted(PROJECT["dependencies"])


def test_the_table_of_extras_is_that_of_the_package():
    extras = PROJECT["optional-dependencies"]
    assert set(packages.OPTIONAL) == set(extras) - {"dev", "docs"}
    for extra in packages.OPTIONAL:
        floors = {f"{name}>={floor}" for name, floor in packages.requirements(extra).items()}
        own = [line.partition(";")[0] for line in extras[extra] if not line.startswith("mamba-slm[")]
        declared = {re.sub(r"\[.*\]|,<.*", "", line) for line in own}
        assert declared <= floors
    assert "transformers" in packages.requirements("finetune"), "an extra has what the extras it includes have"


def test_required_packages_are_compared_with_their_floors():
    assert packages.packages_check(INDEX, packages.requirements()).status == "ok"
    check = packages.packages_check(INDEX, {"numpy": "999.0", "no-such-package": "1.0"})
    assert (check.status, check.hint) == ("missing", "pip install --upgrade mamba-slm")
    assert "no-such-package is absent" in check.text
    assert f"numpy {importlib.metadata.version('numpy')} is older than 999.0" in check.text


@pytest.mark.parametrize("extra", packages.OPTIONAL)
def test_an_absent_extra_says_what_is_lost_and_the_command_that_installs_it(extra):
    check = packages.extra_check(extra, INDEX, {"no-such-package": "1.0"}, {})
    assert check.status == "note"
    assert check.text == f"absent; it {packages.OPTIONAL[extra][0]}"
    assert check.cost == f"{packages.OPTIONAL[extra][1]}; nothing else"
    assert check.hint == f"pip install 'mamba-slm[{extra}]'"


def test_an_extra_with_a_package_that_is_too_old_names_both_versions():
    check = packages.extra_check("hf", INDEX, {"numpy": "999.0"}, {})
    assert check.status == "note"
    assert check.text == f"numpy {importlib.metadata.version('numpy')} is older than 999.0"
    assert check.hint == "pip install 'mamba-slm[hf]'"


def test_an_extra_that_is_there_but_broken_is_installed_again():
    check = packages.extra_check("hf", INDEX, {"numpy": "1.0"}, {"numpy": "ImportError: no such symbol"})
    assert check.status == "note"
    assert check.text == "numpy cannot be imported: ImportError: no such symbol"
    assert check.hint == "pip install --force-reinstall numpy"


def test_a_complete_extra_lists_versions():
    check = packages.extra_check("data", INDEX, {"numpy": "1.0"}, {})
    assert (check.status, check.cost, check.hint) == ("ok", "", "")
    assert f"numpy {importlib.metadata.version('numpy')}" in check.text


# imports ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def broken_modules(tmp_path, monkeypatch):
    """Modules that raise, crash, print, or work; found by child processes, too."""
    sources = {
        "raises_import": "import no_such_module_at_all",
        "raises_other": "raise RuntimeError('first line\\nsecond line')",
        "crashes": "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)",
        "exits": "import os; os._exit(5)",
        "prints": "print('hello\\tdone')",
        "works": "",
    }
    for name, source in sources.items():
        (tmp_path / f"{name}.py").write_text(source)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return sources


def test_imports_that_fail_are_reported_with_their_first_line_and_a_crash_ends_nothing(broken_modules):
    found = imports.broken_imports({f"package-{name}": name for name in broken_modules})
    assert found == {
        "package-raises_import": "ModuleNotFoundError: No module named 'no_such_module_at_all'",
        "package-raises_other": "RuntimeError: first line",
        "package-crashes": "the interpreter crashes (signal 11)",
        "package-exits": "the interpreter ends with code 5",
    }


def test_an_import_that_never_ends_is_given_up(tmp_path, monkeypatch):
    (tmp_path / "hangs.py").write_text("import time; time.sleep(60)")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(imports, "TIMEOUT_SECONDS", 0.5)
    assert imports.broken_imports({"hangs": "hangs"}) == {"hangs": "not done after 0 seconds"}


def test_a_folder_of_the_same_name_here_is_not_the_package(tmp_path, monkeypatch):
    (tmp_path / "json.py").write_text("raise RuntimeError")
    monkeypatch.chdir(tmp_path)
    assert imports.broken_imports({"json": "json"}) == {}


# packages with GPU kernels ------------------------------------------------------------------------------------------


def test_without_a_gpu_nothing_is_missed(monkeypatch):
    monkeypatch.setattr(libraries, "installed_version", lambda name: None)
    monkeypatch.setattr(libraries, "is_present", lambda module: False)
    checks = libraries.gpu_package_checks(INDEX, has_gpu=False, broken={})
    assert [check.name for check in checks] == list(libraries.GPU_PACKAGES)
    assert {(c.status, c.text, c.cost, c.hint) for c in checks} == {("ok", "absent", "nothing here: needs a GPU", "")}


def test_with_a_gpu_each_says_what_it_is_for_and_how_to_get_it_and_invents_no_number(monkeypatch):
    monkeypatch.setattr(libraries, "installed_version", lambda name: None)
    monkeypatch.setattr(libraries, "is_present", lambda module: False)
    for check in libraries.gpu_package_checks(INDEX, has_gpu=True, broken={}):
        used = check.name in libraries.USED_BY_US
        assert check.status == ("note" if used else "ok")
        assert check.cost == (
            "not measured: needs the package" if used else "nothing: this version would not use it"
        )  # fmt: skip
        assert check.hint == f"pip install {check.name}"
        assert check.measured == {}


def test_a_package_that_is_there_but_unused_or_broken_is_said_to_be_so(monkeypatch):
    monkeypatch.setattr(libraries, "installed_version", lambda name: "1.5.0")
    whole = libraries.gpu_package_check("causal-conv1d", INDEX, has_gpu=True, broken=None)
    assert whole.text.startswith("1.5.0, not used by this version;")
    broken = libraries.gpu_package_check("triton", INDEX, has_gpu=True, broken="ImportError: undefined symbol")
    assert broken.status == "note"
    assert "cannot be imported: ImportError: undefined symbol" in broken.text
    assert broken.hint == "pip install --force-reinstall triton"


# the commands -------------------------------------------------------------------------------------------------------


class FakeDistribution:
    """Metadata of an installed package, as files."""

    def __init__(self, **files):
        self.files_by_name = files

    def read_text(self, name):
        return self.files_by_name.get(name.partition(".")[0])


@pytest.mark.parametrize(
    ("origin", "source"),
    [
        (None, "index"),
        ({"url": "file:///tmp/a%20b", "dir_info": {"editable": True}}, "checkout"),
        ({"url": "file:///tmp/a", "dir_info": {}}, "file"),
        ({"url": "file:///tmp/mamba_slm-0.1.0-py3-none-any.whl", "archive_info": {}}, "file"),
    ],
)
def test_where_the_package_came_from_is_read_from_its_metadata(monkeypatch, origin, source):
    fake = FakeDistribution(direct_url=None if origin is None else json.dumps(origin), INSTALLER="pip\n")
    monkeypatch.setattr(importlib.metadata, "distribution", lambda name: fake)
    found = installing.installation()
    assert found.source == source
    if source == "checkout":
        assert found.folder == Path("/tmp/a b")


def test_a_checkout_is_installed_again_with_its_pins_and_paths_as_typed_here(tmp_path, monkeypatch):
    (tmp_path / "constraints.txt").touch()
    checkout = Installation(source="checkout", folder=tmp_path, installer=("pip", "install"))
    assert checkout.extra("hf", []) == f"pip install -c {tmp_path}/constraints.txt -e '{tmp_path}[hf]'"
    monkeypatch.chdir(tmp_path)
    assert checkout.extra("hf", []) == "pip install -c constraints.txt -e '.[hf]'"
    assert checkout.itself() == "pip install -c constraints.txt -e ."
    assert checkout.packages(["torch>=2.11"]) == "pip install -c constraints.txt 'torch>=2.11'"


def test_a_wheel_is_on_no_index_so_its_extra_is_installed_by_content():
    wheel = Installation(source="file", installer=("uv", "pip", "install"))
    assert wheel.extra("data", ["zstandard>=0.23"]) == "uv pip install 'zstandard>=0.23'"
    assert wheel.packages(["a"], again=True) == "uv pip install --reinstall a"


@pytest.fixture
def programs(tmp_path, monkeypatch):
    """An empty PATH, to which programs are added by name."""
    monkeypatch.setenv("PATH", str(tmp_path))

    def add(*names):
        for name in names:
            (tmp_path / name).write_text("#!/bin/sh\n")
            (tmp_path / name).chmod(0o755)

    return add


def test_the_environment_of_uv_is_installed_into_with_uv(programs, monkeypatch):
    programs("uv")
    monkeypatch.setenv("VIRTUAL_ENV", sys.prefix)
    assert installing.installer_words("uv") == ("uv", "pip", "install")
    monkeypatch.delenv("VIRTUAL_ENV")
    assert installing.installer_words("uv")[:4] == ("uv", "pip", "install", "--python")
    assert installing.installer_words("pip")[0] != "uv"


def test_another_pip_on_the_path_is_not_used(programs, monkeypatch):
    programs("pip")
    monkeypatch.setattr(installing, "refuses_pip", lambda: False)
    assert installing.installer_words("pip")[-3:] == ("-m", "pip", "install")


def test_the_systems_own_python_gets_an_environment_first(programs, monkeypatch):
    monkeypatch.setattr(installing, "refuses_pip", lambda: True)
    words = installing.installer_words("pip")
    install = Installation(source="file", installer=words)
    assert install.packages(["a>=1"]) == "python3 -m venv .venv && .venv/bin/pip install 'a>=1'"


PACKAGES = {"apt-get": "g++", "dnf": "gcc-c++", "macOS": "xcode-select --install"}


@pytest.mark.parametrize(
    ("system", "found", "user", "command"),
    [
        ("Linux", ["apt-get", "dnf"], 1000, "sudo apt-get install g++"),
        ("Linux", ["dnf"], 1000, "sudo dnf install gcc-c++"),
        ("Linux", ["dnf"], 0, "dnf install gcc-c++"),
        ("Linux", [], 1000, "install a compiler"),
        ("Darwin", ["dnf"], 1000, "xcode-select --install"),
    ],
)
def test_the_systems_package_manager_is_the_one_that_is_there(programs, monkeypatch, system, found, user, command):
    programs(*found)
    monkeypatch.setattr(platform, "system", lambda: system)
    monkeypatch.setattr(os, "geteuid", lambda: user)
    assert installing.system_command(PACKAGES, otherwise="install a compiler") == command
