import json

from mamba_slm.runs import machine
from mamba_slm.runs.machine import gpu_names, hardware_summary, processor_name, usable_cores, usable_memory_bytes


def test_the_summary_is_plain_json_with_positive_numbers():
    summary = json.loads(json.dumps(hardware_summary()))
    assert summary["cores"] == usable_cores() >= 1
    assert summary["memory_bytes"] == usable_memory_bytes()
    assert summary["memory_bytes"] is None or summary["memory_bytes"] > 2**28
    assert summary["processor"] == processor_name() != ""
    assert summary["gpus"] == gpu_names()


def test_a_containers_limits_count(tmp_path, monkeypatch):
    monkeypatch.setattr(machine, "CGROUP", tmp_path)
    (tmp_path / "cpu.max").write_text("50000 100000\n")
    (tmp_path / "memory.max").write_text("1048576\n")
    assert usable_cores() == 1
    assert usable_memory_bytes() == 2**20
    free = tmp_path / "unlimited"
    free.mkdir()
    monkeypatch.setattr(machine, "CGROUP", free)
    (free / "cpu.max").write_text("max 100000\n")
    (free / "memory.max").write_text("max\n")
    assert usable_memory_bytes() != 2**20
