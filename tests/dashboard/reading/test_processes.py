"""Who uses the machine, from /proc as Linux writes it."""

import os
import subprocess
import sys

import pytest

from mamba_slm.dashboard.reading.processes import Owner, Process, below, processes, who


def process(pid, parent=1, *, name="python", start="1", cpu=0.0, memory=100, threads=1):
    return Process(
        pid=pid, parent=parent, name=name, start=start, cpu_seconds=cpu, memory_bytes=memory, threads=threads
    )


def table(*rows):
    return {row.pid: row for row in rows}


def test_a_name_with_brackets_and_spaces_is_read_and_a_torn_line_passed_over(tmp_path):
    rest = " ".join(
        ["S", "7", *("0" for _ in range(9)), "150", "50", *("0" for _ in range(4)), "3", "0", "999", "0", "2"]
    )
    for pid, text in (("12", f"12 (a (b) c) {rest} 0\n"), ("13", "13 (torn) S 1"), ("self", "")):
        (tmp_path / pid).mkdir()
        (tmp_path / pid / "stat").write_text(text)
    (found,) = processes(tmp_path).values()
    assert (found.pid, found.parent, found.name, found.start, found.threads) == (12, 7, "a (b) c", "999", 3)
    assert found.cpu_seconds == 200 / os.sysconf("SC_CLK_TCK")
    assert found.memory_bytes == 2 * os.sysconf("SC_PAGE_SIZE")
    assert processes(tmp_path / "absent") == {}


def test_real_processes_are_found_with_what_they_started():
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        found = processes()
        assert child.pid in below(found, [os.getpid()])
        assert found[os.getpid()].memory_bytes > 2**20
        child.communicate(b"\n")


def test_a_process_counts_once_with_the_first_that_it_belongs_to():
    now = table(
        process(10), process(11, 10, cpu=3.0), process(12, 11, memory=50), process(20, memory=900, name="other")
    )
    before = table(process(10), process(11, 10, cpu=1.0), process(12, 11, start="another", cpu=99.0))
    owners = [Owner(what="job 1: train", pid=11, path="jobs/0/000001"), Owner(what="this dashboard", pid=10)]
    job, own, other = who(now, before, 2.0, owners, {12: 2**30, 20: 5})
    assert (job["what"], job["processes"], job["memory_bytes"], job["gpu_bytes"]) == ("job 1: train", 2, 150, 2**30)
    assert job["cores"] == 1.0, "a pid that another process had before begins at nothing"
    assert (own["processes"], own["gpu_bytes"]) == (1, None)
    assert (other["what"], other["is_ours"], other["gpu_bytes"]) == ("other", False, 5)


def test_the_first_look_has_no_shares_and_what_has_ended_is_not_listed():
    rows = who(table(process(5)), {}, None, [Owner(what="gone", pid=77), Owner(what="here", pid=5)], {})
    assert [(row["what"], row["cores"]) for row in rows] == [("here", None)]


@pytest.mark.parametrize("loop", [table(process(1, 2), process(2, 1)), table(process(3, 3))])
def test_parents_in_a_circle_end(loop):
    assert below(loop, loop) == set(loop)
