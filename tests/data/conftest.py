"""Tokenizers and shards small enough to make for every test, a server for S3, and what stands in for Slurm."""

import itertools
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mamba_slm.data.shards import ShardWriter, TokenShards
from mamba_slm.text.train_tokenizer import train_tokenizer

SLURM = Path(__file__).with_name("engine") / "slurm_stand_in.py"
BUCKETS = itertools.count()
"""A number for each test: two may have one name."""
SERVER = """
import sys
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
server.start()
print(server.get_host_and_port()[1], flush=True)
sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def no_cluster_of_others(monkeypatch):
    """RAY_ADDRESS would send what starts a cluster of its own to that one."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)


@pytest.fixture(scope="session")
def tokenizer():
    """A tokenizer of bytes only."""
    return train_tokenizer(["x"], vocab_size=260)


@pytest.fixture
def write_shards(tmp_path):
    """Write documents of the given lengths, every token of all of them different, and open the folder."""

    def write(name: str, lengths: list[int], *, first_token: int = 10, **settings) -> TokenShards:
        settings = {"tokenizer_fingerprint": "t", "vocab_size": 1 << 20, **settings}
        with ShardWriter(Path(tmp_path) / name, **settings) as writer:
            for length in lengths:
                writer.append(np.arange(first_token, first_token + length), text_bytes=3 * length)
                first_token += length
        return TokenShards.open(tmp_path / name)

    return write


@pytest.fixture(scope="session")
def endpoint():
    """A server in a process of its own: its libraries warn, and patch others."""
    server = subprocess.Popen(
        [sys.executable, "-c", SERVER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    with server:
        assert server.stdout is not None and server.stdin is not None
        yield f"http://127.0.0.1:{int(server.stdout.readline())}"
        server.stdin.close()


@pytest.fixture
def bucket(endpoint, monkeypatch):
    """An empty bucket; gives its address."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    s3fs = pytest.importorskip("s3fs")
    s3fs.S3FileSystem.clear_instance_cache()
    name = f"bucket{next(BUCKETS)}"
    s3fs.S3FileSystem(use_listings_cache=False).mkdir(name)
    yield f"s3://{name}"
    s3fs.S3FileSystem.clear_instance_cache()


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    """Slurm's three commands; gives the folder of the jobs."""
    commands, jobs = tmp_path / "bin", tmp_path / "jobs"
    commands.mkdir()
    jobs.mkdir()
    for name in ("sbatch", "squeue", "scancel"):
        (commands / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" "{SLURM}" {name} "$@"\n')
        (commands / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{commands}:{os.environ['PATH']}")
    monkeypatch.setenv("SLURM_STAND_IN", str(jobs))
    monkeypatch.setenv("PYTHONPATH", str(SLURM.parents[2]))
    return jobs
