"""Processes that do not belong together part before they begin, each with the reason."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from torch.distributed import TCPStore  # type: ignore[attr-defined]

from mamba_slm.core.errors import MambaSlmError
from mamba_slm.training.distributed.meeting import meet, objection_to, versions_here
from mamba_slm.training.distributed.place import Place
from mamba_slm.training.distributed.world import World

CARD = {"size": 2, "host": "a", "versions": {"mamba-slm": "1.0", "torch": "2.9", "Python": "3.11"}}


def met(torch_versions, sizes, ranks, timeout_seconds=200.0):
    """What is said to each of several processes that meet over a real store; threads stand for them."""
    server = TCPStore("localhost", 0, is_master=True, timeout=timedelta(seconds=200), wait_for_workers=False)

    def process(torch_version, size, rank):
        world = World(Place(rank=rank, size=size, port=server.port), timeout_seconds=timeout_seconds)
        world.store = TCPStore("localhost", server.port, is_master=False, timeout=timedelta(seconds=200))
        versions = {**versions_here(), "torch": torch_version}
        try:
            meet(world, timedelta(seconds=timeout_seconds), versions=versions)
        except MambaSlmError as error:
            return f"{type(error).__name__}: {error}"
        return ""

    with ThreadPoolExecutor(len(ranks)) as pool:
        return list(pool.map(process, torch_versions, sizes, ranks))


def test_processes_that_belong_together_meet():
    assert met(["2.9"] * 3, [3] * 3, [0, 1, 2]) == ["", "", ""]


def test_another_version_is_refused_by_the_first_process_and_told_to_the_others():
    first, second = met(["2.9", "2.8"], [2, 2], [0, 1])
    assert first.startswith("ConfigError: process 0 on ") and "process 1 torch 2.8" in first
    assert second == first.replace("ConfigError", "FailedElsewhereError")


def test_another_world_size_is_refused_at_once():
    first, second = met(["2.9", "2.9"], [2, 3], [0, 1])
    assert "has WORLD_SIZE 2, and process 1 on" in first and first.endswith("has 3")
    assert second.startswith("FailedElsewhereError")


def test_a_number_that_two_processes_have_is_named():
    answers = met(["2.9"] * 3, [3] * 3, [0, 1, 1], timeout_seconds=3.0)
    assert any("ConfigError: two processes of this job have RANK 1" in answer for answer in answers[1:])
    assert "process 2 did not come" in answers[0]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({}, None),
        ({"size": 4}, "process 0 on a has WORLD_SIZE 2, and process 1 on a has 4"),
        ({"versions": {**CARD["versions"], "mamba-slm": "1.1"}}, "process 0 on a runs mamba-slm 1.0, and process 1"),
        ({"versions": {"mamba-slm": "1.0"}}, "process 1 torch None (on a)"),
    ],
)
def test_what_may_differ_and_what_may_not(change, said):
    objection = objection_to([CARD, {**CARD, **change}])
    assert (objection is None) == (said is None)
    assert objection is None or said in objection.message
