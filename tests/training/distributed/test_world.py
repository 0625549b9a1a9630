import pytest

from mamba_slm.core.errors import ConfigError
from mamba_slm.training.distributed.world import FailedElsewhereError, alone
from training.distributed.rank_program import rank_after_joining, world_here
from training.distributed.ranks import answers_of, in_ranks, loaded


def talk(long):
    world = world_here()
    words = world.agree(lambda: ["decided", "x" * long])
    with_failure = None
    try:
        world.agree(refuse if world.is_first else None)
    except (ConfigError, FailedElsewhereError) as error:
        with_failure = (type(error).__name__, error.message)
    summed, any_flag = world.sum(1.5, world.rank), world.any(world.rank == 1)
    gathered = world.gather({"rank": world.rank, "text": "ä" * world.rank})
    world.close()
    return words, with_failure, summed, any_flag, gathered


def refuse():
    raise ConfigError("it does not fit")


def test_processes_begin_with_what_takes_long_to_import():
    assert in_ranks(loaded, 2, ("torch", "mamba_slm.training.trainer")) == [["torch", "mamba_slm.training.trainer"]] * 2


@pytest.mark.parametrize("long", [3, 5000])
def test_the_first_decides_and_all_add_up(long):
    for rank, (words, failure, summed, any_flag, gathered) in enumerate(in_ranks(talk, 2, long)):
        assert words == ["decided", "x" * long]
        assert failure == (("ConfigError", "FailedElsewhereError")[rank], "it does not fit")
        assert summed == [3.0, 1.0] and any_flag
        assert gathered == [{"rank": 0, "text": ""}, {"rank": 1, "text": "ä"}]


def test_a_world_of_one_needs_nothing():
    world = alone()
    assert world.agree(lambda: world) is world
    assert world.sum(1.0, 2.0) == [1.0, 2.0] and world.gather("a") == ["a"] and not world.any(False)


def test_a_process_that_does_not_come_is_named():
    ((good, message),) = answers_of(rank_after_joining, 2, 1.0, ranks=[0])
    assert not good and "waited 1" in message and "process 1 did not come" in message


def test_an_address_where_nobody_listens_is_named():
    ((good, message),) = answers_of(rank_after_joining, 2, 1.0, ranks=[1])
    assert not good and "could not reach process 0 at localhost:" in message
