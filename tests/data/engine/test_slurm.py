"""Job arrays run the same tasks to the same bytes; the script is executed, by what stands in for Slurm."""

import sys

import pytest

from data.engine.work import always, contents, task_of, tasks_in, write_unless
from mamba_slm.core.errors import CheckFailedError, ConfigError, DataError, SetupError
from mamba_slm.data.engine.here import HereEngine
from mamba_slm.data.engine.ledger import Reporting
from mamba_slm.data.engine.limits import EngineLimits
from mamba_slm.data.engine.slurm import SlurmEngine
from mamba_slm.data.engine.slurm_job import SlurmConfig, script_of
from mamba_slm.data.engine.wave import read_wave

QUICK = SlurmConfig(poll_seconds=0.05)
LIMITS = EngineLimits(retry_seconds=0, attempts=2, deaths=2, stalled_seconds=3)
SILENT = EngineLimits(retry_seconds=0, silent_seconds=5)


@pytest.mark.parametrize("max_elements", [1000, 2])
def test_an_array_writes_what_this_process_would(tmp_path, cluster, max_elements):
    HereEngine().run(tasks_in(tmp_path / "expected"), stage="write")
    config = SlurmConfig(poll_seconds=0.05, max_elements=max_elements)
    with SlurmEngine(2, folder=tmp_path / "work", slurm=config) as engine:
        assert engine.run(tasks_in(tmp_path / "out"), stage="write") == ()
        engine.for_stage("again")(tasks_in(tmp_path / "out"))
    assert contents(tmp_path / "out") == contents(tmp_path / "expected")
    assert len(list(cluster.iterdir())) == 2
    assert sorted(path.name for path in (tmp_path / "work").iterdir()) == ["manifest.jsonl", "running", "slurm"]
    assert not list((tmp_path / "work" / "slurm").iterdir())


def test_what_dies_is_submitted_again_and_what_is_poisonous_is_set_aside(tmp_path, cluster):
    out, said = tmp_path / "out", []
    tasks = tasks_in(out, 3)
    tasks[1] = task_of(out, "001", write_unless, text="text 1", marker=tmp_path / "marker", trouble="killed")
    tasks += [task_of(out, name, always, trouble=name) for name in ("bad input", "segfault", "waits for ever")]
    reporting = Reporting(say=said.append)
    with SlurmEngine(6, folder=tmp_path / "work", slurm=QUICK, limits=LIMITS, reporting=reporting) as engine:
        found = engine.run(tasks, stage="write", may_quarantine=True)
    assert [(one.task.name, one.attempts) for one in found] == [
        ("bad input", 1),
        ("segfault", 2),
        ("waits for ever", 2),
    ]
    assert "line 3 is no JSON" in found[0].error
    assert "Segmentation fault" in found[1].error
    assert "the task did nothing" in found[2].error
    HereEngine().run(tasks_in(tmp_path / "expected", 3), stage="write")
    assert contents(out) == contents(tmp_path / "expected")
    assert any(line.startswith("write: task 001 is tried again") for line in said)


def test_a_stopped_element_is_cancelled(tmp_path, cluster):
    task = task_of(tmp_path, "out", write_unless, text="text", marker=tmp_path / "marker", trouble="stopped")
    with SlurmEngine(1, folder=tmp_path / "work", slurm=QUICK, limits=SILENT) as engine:
        assert engine.run([task], stage="write") == ()
    assert (tmp_path / "out" / "text").read_text() == "text"


def test_an_error_is_raised_as_it_was_and_ends_the_job(tmp_path, cluster):
    tasks = [task_of(tmp_path, name, always, trouble=name) for name in ("bad input", "waits for ever")]
    with (
        SlurmEngine(2, folder=tmp_path / "work", slurm=QUICK) as engine,
        pytest.raises(DataError, match="line 3 is no JSON"),
    ):
        engine.run(tasks, stage="write")
    assert [path.name for path in cluster.glob("*/cancelled")] == ["cancelled"]


def test_jobs_whose_tasks_never_begin_are_no_endless_loop(tmp_path, cluster, monkeypatch):
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with (
        SlurmEngine(2, folder=tmp_path / "work", slurm=QUICK, limits=LIMITS) as engine,
        pytest.raises(SetupError, match="jobs end before their tasks begin"),
    ):
        engine.run(tasks_in(tmp_path / "out"), stage="write")


def test_a_refusal_is_passed_on_with_the_script(tmp_path, cluster):
    config = SlurmConfig(partition="REFUSE")
    with (
        SlurmEngine(2, folder=tmp_path / "work", slurm=config) as engine,
        pytest.raises(SetupError, match=r"refuses .*array.sh: sbatch: error: invalid partition"),
    ):
        engine.run(tasks_in(tmp_path / "out"), stage="write")


def test_without_slurm_that_is_said(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with SlurmEngine(1, folder=tmp_path / "work") as engine, pytest.raises(SetupError, match="no sbatch") as failure:
        engine.run(tasks_in(tmp_path / "out"), stage="write")
    assert "login node" in (failure.value.hint or "")


def test_the_script_says_what_was_asked(tmp_path):
    config = SlurmConfig(partition="cpu", account="me", options=("--constraint=avx512",))
    text = script_of(config, name="n", folder=tmp_path, elements=7, workers=3, checksum="abc")
    for line in ("--partition=cpu", "--account=me", "--constraint=avx512", "--array=0-6%3", "--mem=4G"):
        assert f"#SBATCH {line}\n" in text
    assert "export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}\n" in text
    with pytest.raises(ConfigError, match="'cpu' is no option"):
        SlurmConfig(options=("cpu",))
    with pytest.raises(ConfigError, match="max_elements must be at least 1"):
        SlurmConfig(max_elements=0)


def test_tasks_that_were_changed_are_not_read(tmp_path):
    (tmp_path / "tasks").write_bytes(b"cos\nsystem\n(S'exit'\ntR.")
    with pytest.raises(CheckFailedError, match="is not what was written"):
        read_wave(tmp_path, "0" * 64)
