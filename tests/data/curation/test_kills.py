"""`mamba-slm data curate` under kill -9 of a random worker or of itself, here, on Ray, on Slurm: no byte differs."""

import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from data.curation.prose import good_prose, write_jsonl
from data.curation.test_curate import bytes_of
from data.engine.driver import holder_of

COMMAND = Path(sys.executable).with_name("mamba-slm")
KILLS = 20
NEVER_BEGAN = "worker processes cannot be started: the worker was killed by SIGKILL"


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Web pages in many files, some of them twice, one file broken, and settings that make many parts of them."""
    folder = tmp_path_factory.mktemp("corpus")
    texts = good_prose(600)
    for number in range(12):
        some = texts[number * 50 : (number + 1) * 50]
        write_jsonl(folder / "web" / f"{number:02}.jsonl", [*some, *texts[:3], some[0].replace("the", "a", 1)])
    (folder / "web" / "broken.jsonl").write_bytes(b'{"text": "x"\n\x00\xff\n' * 100)
    (folder / "config.yaml").write_text("part_bytes: 50000\n")
    return folder


def start(folder: Path, out: Path, *words: str) -> subprocess.Popen[bytes]:
    """The command, in the folder of the input, so that names are the same."""
    command = [COMMAND, "data", "curate", "web", "--kind", "web", "--config", "config.yaml"]
    return subprocess.Popen(
        [*command, "--on-error", "skip", "--out", str(out), *words],
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


@pytest.fixture(scope="module")
def undisturbed(corpus, tmp_path_factory):
    out = tmp_path_factory.mktemp("undisturbed") / "out"
    with start(corpus, out, "--workers", "1") as process:
        assert process.stderr is not None
        said = process.stderr.read()
    assert process.returncode == 0, said
    return bytes_of(out)


def workers_of(process: subprocess.Popen[bytes], work: Path) -> list[int]:
    """Its worker processes, wherever they are."""
    with contextlib.suppress(OSError):
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        named = [holder_of(path) for path in (work / "running").glob("*")]
        is_worker = [
            pid for pid in map(int, children) if b"data.engine.worker" in Path(f"/proc/{pid}/cmdline").read_bytes()
        ]
        return [*is_worker, *(pid for pid in named if pid is not None)]
    return []


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("engine", "pauses"), [("local", (0.02, 0.8)), ("ray", (0.1, 2.0)), ("slurm", (0.1, 1.0))])
def test_after_twenty_kills_every_byte_is_the_same(tmp_path, corpus, undisturbed, cluster, engine, pauses):
    source, victims = random.Random(7), ["engine", "worker", "worker", "worker"] * (KILLS // 4)
    out = tmp_path / "out"
    while True:
        words = ["--engine", engine, "--workers", source.choice("23")]
        with start(corpus, out, *words, *(["--slurm.poll-seconds", "0.1"] if engine == "slurm" else [])) as process:
            assert process.stderr is not None
            while victims and is_running(process, source.uniform(*pauses)):
                if workers := workers_of(process, tmp_path / "out.work"):
                    who = victims.pop()
                    with contextlib.suppress(ProcessLookupError):
                        if who == "engine" and engine == "local" and source.random() < 0.5:
                            os.killpg(process.pid, signal.SIGKILL)  # with all its workers
                        else:
                            os.kill(process.pid if who == "engine" else source.choice(workers), signal.SIGKILL)
            said = process.stderr.read().decode()
        if process.returncode == 0:
            assert bytes_of(out) == undisturbed
            if not victims:
                break
            shutil.rmtree(out)  # it was faster than the killer: from the beginning
        else:  # killed, or given up: on a busy machine this test kills workers before they have begun
            assert process.returncode == -signal.SIGKILL or (process.returncode == 3 and NEVER_BEGAN in said), said


def is_running(process: subprocess.Popen[bytes], seconds: float) -> bool:
    """Whether it still runs after a while."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(seconds)
        return False
    return True
