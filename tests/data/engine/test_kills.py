"""Kill -9 of a worker or of the engine itself, at any moment: the result is what it would have been."""

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from data.engine.stages import run_all
from data.engine.work import contents
from mamba_slm.data.engine.here import HereEngine
from mamba_slm.data.engine.limits import EngineLimits

MOMENTS = {"local": 1, "ray": 5, "slurm": 5}
"""How long tasks take: so long that some run whenever one ends."""
MOST_RUNS = 15
DRIVER = Path(__file__).with_name("driver.py")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    run_all(HereEngine(limits=EngineLimits(attempts=1)), folder)
    return contents(folder)


def start(kind: str, workers: int, folder: Path, stderr: int | None = None) -> subprocess.Popen[str]:
    """A process with an engine."""
    return subprocess.Popen(
        [sys.executable, str(DRIVER), kind, str(workers), str(folder), str(MOMENTS[kind])],
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
        env={**os.environ, "PYTHONPATH": str(DRIVER.parents[2])},
    )


def run_with_kills(kind: str, folder: Path, victims: list[str], seed: int) -> None:
    """Kill who runs, again and again, and start it anew with another number of workers; removes who was killed."""
    source = random.Random(seed)
    while True:
        ends = {0}
        workers = source.choice((1, 2, 3))
        driver = start(kind, workers, folder)
        with driver:
            assert driver.stdout is not None
            wait = source.randrange(6)
            for line in driver.stdout:
                pids = json.loads(line)
                if pids == "over":
                    assert driver.wait() in ends
                    return
                wait -= 1
                if wait < 0 and pids and victims:
                    wait = source.randrange(4)
                    who = victims.pop()
                    if who == "engine":
                        ends.add(-signal.SIGKILL)  # also of one that has just said that it is over
                    kill(driver.pid if who == "engine" else source.choice(pids))
            assert driver.wait() == -signal.SIGKILL


def kill_in_all(kind: str, folder: Path, kills: int, seed: int, expected: dict[str, bytes]) -> None:
    """`run_with_kills`, in another folder again where a fast machine was done too soon; each result is compared.

    Who is killed is settled before: how many workers there are to choose from differs from one machine to another, and
    with it all that a source of random numbers gives afterwards.
    """
    engines = round(0.3 * kills)
    victims = ["engine"] * engines + ["worker"] * (kills - engines)
    random.Random(seed).shuffle(victims)
    for turn in range(MOST_RUNS):
        run_with_kills(kind, folder / str(turn), victims, seed + turn)
        wait_for_jobs(folder / "jobs")
        assert outputs(folder / str(turn)) == expected
        if not victims:
            return
    raise AssertionError(f"{MOST_RUNS} runs ended before these could be killed: {victims}")


def wait_for_jobs(jobs: Path) -> None:
    """An engine that was killed while it submitted a job knows nothing of it; that job's tasks end a little later."""
    while not all((job / "over").exists() for job in jobs.glob("*")):
        time.sleep(0.05)


def kill(pid: int) -> None:
    """Kill -9."""
    with contextlib.suppress(ProcessLookupError):  # it was faster
        os.kill(pid, signal.SIGKILL)


def outputs(folder: Path) -> dict[str, bytes]:
    """All that was written except the manifest, which has seconds in it."""
    return {name: data for name, data in contents(folder).items() if not name.startswith(("work/", "bin/", "jobs/"))}


@pytest.mark.parametrize("seed", [1])
def test_after_some_kills_every_byte_is_the_same(tmp_path, undisturbed, seed):
    kill_in_all("local", tmp_path, 4, seed, undisturbed)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_after_twenty_kills_every_byte_is_the_same(tmp_path, undisturbed):
    kill_in_all("local", tmp_path, 20, 11, undisturbed)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("kind", ["ray", "slurm"])
def test_after_some_kills_on_a_cluster_every_byte_is_the_same(tmp_path, undisturbed, cluster, kind):
    """A killed engine leaves its job running on Slurm, and the next one follows it; Ray ends with it.

    Twenty kills on each of them: tests/data/curation/test_kills.py.
    """
    kill_in_all(kind, tmp_path, 8, 21, undisturbed)


def test_the_workers_of_a_killed_engine_end(tmp_path):
    """They hold the pipe that this test reads; it ends when the last of them does."""
    driver = start("local", 2, tmp_path, stderr=subprocess.STDOUT)
    with driver:
        assert driver.stdout is not None
        assert len(json.loads(driver.stdout.readline())) > 0
        kill(driver.pid)
        driver.stdout.read()
