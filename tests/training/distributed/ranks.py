"""Runs a function in several processes that form a world, forked from a server that has imported torch once."""

import functools
import multiprocessing
import os
import sys
import traceback
from multiprocessing import forkserver
from unittest import mock

from ports import free_port

START = multiprocessing.get_context("forkserver")
START.set_forkserver_preload(["training.distributed.ranks", "training.distributed.rank_program", "deepspeed"])


@functools.cache
def start_server():
    """Start the server so that it finds what it shall import: it looks in `PYTHONPATH` only, and skips the rest."""
    with mock.patch.dict(os.environ, PYTHONPATH=os.pathsep.join(path for path in sys.path if path)):
        forkserver.ensure_running()


def start(function, *arguments):
    """A started process."""
    start_server()
    process = START.Process(target=function, args=arguments)
    process.start()
    return process


def loaded(names):
    """Which of these modules this process has loaded."""
    return [name for name in names if name in sys.modules]


def work(function, environment, arguments, answers):
    os.environ.update(environment)
    try:
        answers.send((True, function(*arguments)))
    except Exception as error:
        answers.send((False, f"{type(error).__name__}: {error}\n{traceback.format_exc()}"))


def environment_of(rank, size, port):
    return {"RANK": str(rank), "WORLD_SIZE": str(size), "MASTER_ADDR": "localhost", "MASTER_PORT": str(port),
            "LOCAL_RANK": str(rank), "LOCAL_WORLD_SIZE": str(size)}  # fmt: skip


def answers_of(function, size, *arguments, ranks=None, **changes):
    """(went well, result or error) of every rank; `ranks` starts some of them only."""
    port, started = free_port(), []
    for rank in range(size) if ranks is None else ranks:
        here, there = START.Pipe(duplex=False)
        environment = {**environment_of(rank, size, port), **changes}
        process = start(work, function, environment, arguments, there)
        there.close()
        started.append((process, here))
    answers = []
    for process, here in started:
        answers.append(answer_of(here))
        process.join()
    return answers


def answer_of(pipe):
    """(went well, result or error) of a process, which waits until it was taken."""
    try:
        return pipe.recv()
    except EOFError:
        return False, "the process died"


def in_ranks(function, size, *arguments):
    """The result of every rank."""
    answers = answers_of(function, size, *arguments)
    assert all(good for good, _ in answers), "\n".join(str(answer) for good, answer in answers if not good)
    return [answer for _, answer in answers]
