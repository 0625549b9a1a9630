"""Processor, memory, GPUs and disks, from what Linux and nvidia-smi write."""

import os
from pathlib import Path

import pytest

from mamba_slm.dashboard.reading.gpus import GpuReader, asked
from mamba_slm.dashboard.reading.machine_load import MachineLoad, disks, memory_in_use, processor_ticks

SMI = """#!/bin/sh
case "$1" in
  *compute-apps*) echo "4242, 1024"; echo "4242, 512"; echo "77, [N/A]";;
  *) echo "0, NVIDIA H200, 78, 61000, 143771, 71, 412.5"; echo "1, Old, [N/A], 10, 100, [N/A], [N/A]"; echo "said";;
esac
"""


@pytest.fixture
def smi(tmp_path, monkeypatch):
    program = tmp_path / "nvidia-smi"
    program.write_text(SMI)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}/usr/bin{os.pathsep}/bin")
    return program


def test_what_nvidia_smi_says_is_bytes_and_shares_and_what_it_does_not_say_is_none(smi):
    found = asked()
    first, second = found.cards
    assert (first["name"], first["busy_share"], first["celsius"], first["watts"]) == ("NVIDIA H200", 0.78, 71, 412.5)
    assert (first["used_bytes"], first["total_bytes"]) == (61000 * 2**20, 143771 * 2**20)
    assert (second["busy_share"], second["watts"], second["used_bytes"]) == (None, None, 10 * 2**20)
    assert found.bytes_by_pid == {4242: 1536 * 2**20}


def test_a_driver_that_fails_is_a_problem_that_is_said(smi):
    smi.write_text("#!/bin/sh\nexit 9\n")
    assert "does not answer" in (asked().problem or "")


def test_no_driver_is_no_gpu_and_no_problem(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    found = GpuReader().read()
    assert (found.cards, found.problem) == ([], None)


def test_ticks_are_busy_without_idle_and_waiting(tmp_path):
    (tmp_path / "stat").write_text("cpu  100 20 30 800 50 0 0 0 7 7\ncpu0 1 2 3\n")
    assert processor_ticks(tmp_path) == (150, 1000)
    assert processor_ticks(tmp_path / "absent") is None


def test_memory_is_that_of_the_container_where_it_has_a_limit(tmp_path):
    (tmp_path / "meminfo").write_text("MemTotal:  1000 kB\nMemAvailable:  400 kB\n")
    assert memory_in_use(tmp_path, tmp_path) == (600 * 1024, 1000 * 1024)
    for name, text in (("memory.max", "500000"), ("memory.current", "300000"), ("memory.stat", "inactive_file 100000")):
        (tmp_path / name).write_text(text)
    assert memory_in_use(tmp_path, tmp_path) == (200_000, 500_000)
    (tmp_path / "memory.max").write_text("max")
    assert memory_in_use(tmp_path, tmp_path)[1] == 1000 * 1024


def test_a_file_system_is_shown_once_and_a_folder_that_is_gone_not_at_all(tmp_path):
    (row,) = disks([tmp_path, tmp_path, tmp_path / "gone"])
    assert row["path"] == str(tmp_path) and 0 < row["free_bytes"] <= row["total_bytes"]
    assert disks([Path("/nowhere")]) == []


def test_many_pages_are_one_look():
    load = MachineLoad()
    assert load.brief() is load.brief()
    assert len(load.points(0)) == 1 and load.points(load.brief()["at"]) == []
