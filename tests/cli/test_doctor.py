import importlib.metadata
import json
import os
import tomllib
from pathlib import Path

import pytest

from mamba_slm.cli import doctor
from mamba_slm.cli.main import main

REPOSITORY = Path(__file__).parents[2]


def test_this_machine_passes_in_a_few_lines(capsys):
    assert main(["doctor"]) == 0
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert err == ""
    assert {
        "python",
        "packages",
        "torch",
        "processor",
        "memory",
        "disk",
        "gpu",
        "compiler",
        "data",
        "track",
        "speed",
    } == {line.split()[1] for line in lines if line[0] in "✓⚠✗"}
    assert "GFLOP/s fp32" in lines[-1]
    assert "measured now" in lines[-1]
    assert "\033" not in out


def test_json_says_the_same_to_programs(capsys):
    assert main(["doctor", "--json", "--no-measure"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["ok"] is True
    assert {"name", "status", "text", "hint"} == set(answer["checks"][0])
    assert "speed" not in {check["name"] for check in answer["checks"]}


def test_something_missing_exits_3_and_shows_what_mends_it(capsys, monkeypatch):
    monkeypatch.setattr(doctor, "MIN_DISK_BYTES", 1 << 62)
    monkeypatch.setattr(doctor, "COMFORTABLE_DISK_BYTES", 1 << 62)
    assert main(["doctor", "--no-measure"]) == 3
    out = capsys.readouterr().out
    assert "✗ disk" in out
    assert "mend it: free some space, or export MAMBA_SLM_HOME=" in out


@pytest.mark.parametrize(("amount", "status"), [(9, "missing"), (10, "note"), (19, "note"), (20, "ok")])
def test_an_amount_is_judged_against_what_is_needed_and_what_is_comfortable(amount, status):
    check = doctor.amount_check("disk", amount, 10, 20, "text", "mend")
    assert check.status == status
    assert bool(check.hint) == (status != "ok")


def test_packages_are_compared_with_the_floors_of_the_metadata(monkeypatch):
    assert doctor.packages_check().status == "ok"
    declared = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["dependencies"]
    assert sorted(f"{name}>={floor}" for name, floor in doctor.required_packages()) == sorted(declared)

    monkeypatch.setattr(doctor, "required_packages", lambda: [("numpy", "999.0"), ("no-such-package", "1.0")])
    check = doctor.packages_check()
    assert check.status == "missing"
    assert "no-such-package is absent" in check.text
    assert f"numpy {importlib.metadata.version('numpy')} is older than 999.0" in check.text


def test_the_table_of_extras_is_that_of_the_package():
    extras = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert set(doctor.OPTIONAL) == set(extras) - {"dev"}
    for extra, (module, _) in doctor.OPTIONAL.items():
        assert any(requirement.startswith(module) for requirement in extras[extra])


def test_an_absent_extra_names_the_command_that_installs_it(monkeypatch):
    monkeypatch.setattr(doctor, "OPTIONAL", {"data": ("no_such_module", "reads .zst files")})
    (check,) = doctor.optional_checks()
    assert (check.status, check.hint) == ("note", "pip install 'mamba-slm[data]'")


def test_an_absent_compiler_is_a_note_not_an_error(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    check = doctor.compiler_check()
    assert check.status == "note"
    assert "--compile is not available" in check.text


@pytest.fixture
def nvidia_smi(tmp_path, monkeypatch):
    """Put a program on the PATH that answers as the driver's tool does."""

    def install(answer):
        program = tmp_path / "nvidia-smi"
        program.write_text(f"#!/bin/sh\ncat <<'END'\n{answer}\nEND\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")

    return install


def test_gpus_are_listed_with_memory_driver_and_the_peak_of_the_table(nvidia_smi):
    nvidia_smi("NVIDIA H100 80GB HBM3, 81559, 570.86.15\nSome New GPU, [N/A], 570.86.15")
    first, second = doctor.driver_gpus()
    assert first.startswith("NVIDIA H100 80GB HBM3, 79.6 GiB, driver 570.86.15, 989 TFLOP/s bf16 (")
    assert second == "Some New GPU, unknown memory, driver 570.86.15"


def test_a_gpu_that_torch_cannot_use_is_noted(nvidia_smi, monkeypatch):
    monkeypatch.setattr(doctor, "torch_has_cuda", lambda: False)  # so that the test also holds on a GPU machine
    nvidia_smi("NVIDIA H100 80GB HBM3, 81559, 570.86.15")
    check = doctor.gpu_check()
    assert check.status == "note"
    assert "built without CUDA" in check.text
