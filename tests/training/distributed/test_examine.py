"""Processes that can train together pass; a wrong sum, a strange clock, a slow link or another disk is named."""

import socket
import time
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from torch import distributed

from mamba_slm.training.distributed import network
from mamba_slm.training.distributed.examine import examine_world
from mamba_slm.training.distributed.facts import judge_processes, judge_variables, judge_versions, numbers
from mamba_slm.training.distributed.network import check_sums, judge_clocks, judge_links, judge_work, measure_clocks
from mamba_slm.training.distributed.shared_disk import check_disk
from training.distributed.rank_program import world_here
from training.distributed.ranks import in_ranks

NAMES = [
    *("processes", "versions", "variables", "sums", "all-reduce", "links", "barrier", "clocks", "speed", "disk"),
]
FACT = {
    "host": "a", "device": "cuda:0", "device_name": "H100", "device_id": "x", "threads": 1, "cores": 8,
    "versions": {"torch": "2.9", "NCCL": "2.28"}, "variables": {"NCCL_DEBUG": "WARN"},
}  # fmt: skip


def examine_here(folder):
    world, lines = world_here(), []
    findings = examine_world(world, folder=folder, say=lines.append)
    world.close()
    return findings, lines


def test_two_processes_of_one_machine_can_train_together(tmp_path):
    folder = tmp_path / "runs"
    (findings, lines), (others, _) = in_ranks(examine_here, 2, folder)
    assert [finding.name for finding in findings] == NAMES
    assert all(finding.status != "fail" for finding in findings)  # a crowded machine may have slow links
    assert others == findings
    assert "2 processes have come" in lines[0]
    assert f"2 processes on 1 machine ({socket.gethostname()}: 0-1)" in findings[0].text
    measured = {name: value for finding in findings for name, value in finding.measured.items()}
    assert all(value > 0 for name, value in measured.items() if name != "spread_seconds")
    assert not folder.exists()


class FaultyBroadcast:
    """torch.distributed, whose broadcast loses what arrived."""

    def __getattr__(self, name):
        return getattr(distributed, name)

    def broadcast(self, tensor, src):
        distributed.broadcast(tensor, src)
        tensor.zero_()


class ClockAhead:
    """The module `time` of a machine that is five seconds ahead."""

    def __getattr__(self, name):
        return getattr(time, name)

    def time(self):
        return time.time() + 5.0


def find_faults(folders):
    """What is found when process 1 adds wrongly, has another time, or sees another disk."""
    world = world_here()
    if world.rank == 1:
        network.distributed, network.time = FaultyBroadcast(), ClockAhead()
    sums = check_sums(world)
    network.distributed = distributed
    clocks, offset = measure_clocks(world)
    network.time = time
    disks = [check_disk(world, Path(pair[world.rank]), wait_seconds=0.2) for pair in folders]
    world.close()
    return sums, clocks, offset, disks


def test_a_fault_in_one_process_is_found_by_all_and_named(tmp_path):
    one, other = tmp_path / "one", tmp_path / "other"
    one.mkdir()
    (tmp_path / "file").write_text("no folder")
    folders = [(one, other), (tmp_path / "file" / "runs",) * 2]
    for rank, (sums, clocks, offset, (unseen, impossible)) in enumerate(in_ranks(find_faults, 2, folders)):
        assert sums.status == "fail" and sums.text == "wrong result of broadcast in process 1"
        assert clocks.status == "warn" and abs(offset - (0.0, 5.0)[rank]) < 0.5
        assert unseen.status == "fail"
        assert "process 1 cannot use" in unseen.text and "did not appear within 0.2 s" in unseen.text
        assert impossible.status == "fail" and "process 0 cannot use" in impossible.text
    assert not list(one.iterdir()) and not other.exists()


def test_a_clock_far_from_the_others_is_named():
    assert "process 2 stands out" in judge_clocks([0.0, 0.1, 9.0, -0.1]).text
    assert judge_clocks([0.0, 0.2, -0.3]).status == "ok"


def test_slow_links_and_slow_processes_are_named():
    assert "but 3 B/s from 2 to 0" in judge_links([10.0, 10.0, 3.0]).text
    assert judge_links([10.0, 9.0, 6.0]).status == "ok"
    assert judge_work([10.0, 10.0, 3.0]).text.startswith("process 2 computes at 30%")
    assert judge_work([10.0, 9.0]).status == "ok"


def test_processes_that_share_a_gpu_or_have_different_ones():
    assert judge_processes([FACT, {**FACT, "device_id": "y"}]).status == "ok"
    shared = judge_processes([FACT, FACT])
    assert shared.status == "fail" and "processes 0-1 share one GPU" in shared.text
    assert judge_processes([FACT, {**FACT, "device_id": "y", "device_name": "A100"}]).status == "warn"
    uneven = judge_processes([FACT, {**FACT, "device_id": "y"}, {**FACT, "host": "b"}])
    assert uneven.status == "warn" and "(a: 0-1; b: 2)" in uneven.text


def test_versions_and_variables_that_differ():
    assert judge_versions([FACT, FACT]).status == "ok"
    other = judge_versions([FACT, FACT, {**FACT, "versions": {"torch": "2.9", "NCCL": "2.27"}}])
    assert other.status == "fail" and other.text == "process 0 and 2 differ: NCCL 2.28 and 2.27"
    assert judge_variables([FACT, FACT]).text == "equal everywhere: NCCL_DEBUG=WARN"
    assert "NCCL_DEBUG differ" in judge_variables([FACT, {**FACT, "variables": {}}]).text
    crowded = judge_variables([{**FACT, "device_name": "CPU", "threads": 8}] * 2)
    assert crowded.status == "warn" and crowded.hint == "export OMP_NUM_THREADS=4"


@given(st.sets(st.integers(0, 30)))
def test_numbers_in_short_say_exactly_those_numbers(ranks):
    spans = [span.split("-") for span in numbers(sorted(ranks)).split(", ") if span]
    assert {rank for span in spans for rank in range(int(span[0]), int(span[-1]) + 1)} == ranks
