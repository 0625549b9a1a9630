"""`doctor --distributed`: processes of its own, or those of torchrun; a table, JSON, and exit code 6."""

import json
import subprocess
import sys

import pytest

from mamba_slm.cli.doctor_distributed import report
from mamba_slm.cli.main import main
from mamba_slm.training.distributed.finding import Finding

DOCTOR = ["-m", "mamba_slm.cli.main", "doctor", "--distributed", "--device", "cpu"]


def test_findings_are_a_table_with_what_to_do():
    findings = [
        Finding(name="sums", text="exact"),
        Finding(name="disk", status="fail", text="unseen " * 20, hint="mount it"),
        Finding(name="clocks", status="warn", text="differ"),
    ]
    lines = list(report(findings))
    assert lines[0] == "✓ sums        exact" and "              mend it: mount it" in lines
    assert lines[-1] == "these processes cannot train together: disk must be mended first"
    assert list(report(findings[::2]))[-1] == "these processes can train together; look at clocks"
    assert max(map(len, lines)) <= 100


@pytest.mark.parametrize(
    ("words", "size", "said"),
    [
        (["--nproc", "1"], None, "--nproc must be at least 2"),
        ([], "1", "one process has nobody to talk to"),
        (["--timeout-seconds", "0"], "2", "--timeout-seconds must be > 0"),
    ],
)
def test_what_cannot_be_examined_is_refused(words, size, said, monkeypatch, capsys):
    if size:
        for name, value in {"RANK": "0", "WORLD_SIZE": size, "MASTER_ADDR": "localhost", "MASTER_PORT": "1"}.items():
            monkeypatch.setenv(name, value)
    assert main(["doctor", "--distributed", *words]) == 2
    assert said in capsys.readouterr().err


def test_a_wrong_address_is_named(monkeypatch, capsys):
    environment = {"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": "1"}
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert main(["doctor", "--distributed", "--device", "cpu", "--timeout-seconds", "1"]) == 1
    said = capsys.readouterr().err
    assert "process 1 of 2 could not reach process 0 at localhost:1 within 1" in said
    assert "MASTER_ADDR must be an address of the machine of process 0" in said


@pytest.mark.slow
def test_alone_it_starts_two_processes_and_they_can_train_together(tmp_path):
    done = subprocess.run(
        [sys.executable, *DOCTOR, "--json", "--folder", str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["ok"] and found["processes"] == 2
    assert {"sums", "all-reduce", "disk"} <= {finding["name"] for finding in found["findings"]}


@pytest.mark.slow
def test_under_torchrun_a_folder_that_cannot_be_used_fails(tmp_path):
    (tmp_path / "file").write_text("no folder")
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "3"]
    words = [*DOCTOR[:2], *DOCTOR[2:], "--folder", str(tmp_path / "file" / "runs")]
    done = subprocess.run([*torchrun, *words], capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert done.stdout.count("✗ disk") == 1 and "process 0 cannot use" in done.stdout
    assert "3 processes on 1 machine" in done.stdout
    assert "exitcode  : 6" in done.stderr
