import pytest

from mamba_slm.core.errors import ConfigError
from mamba_slm.training.distributed.place import Place, find_place, rows_of_each

TORCHRUN = {"RANK": "3", "WORLD_SIZE": "8", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "node0",
            "MASTER_PORT": "29500", "TORCHELASTIC_USE_AGENT_STORE": "True"}  # fmt: skip


def test_without_a_launcher_this_is_the_only_process():
    assert find_place({"PATH": "/bin", "WORLD_SIZE": "4"}) == Place()


def test_the_variables_of_torchrun_say_which_process_this_is():
    place = find_place(TORCHRUN)
    assert (place.rank, place.size, place.local_rank, place.local_size) == (3, 8, 1, 2)
    assert (place.address, place.port, place.has_agent) == ("node0", 29500, True)


def test_deepspeed_has_another_name_for_the_processes_of_a_machine():
    others = {name: value for name, value in TORCHRUN.items() if name != "LOCAL_WORLD_SIZE"}
    assert find_place({**others, "LOCAL_SIZE": "4"}).local_size == 4
    assert find_place(others).local_size == 8


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"MASTER_ADDR": ""}, "MASTER_ADDR is not"),
        ({"RANK": "8"}, r"RANK is 8; with WORLD_SIZE 8 it lies in \[0, 7\]"),
        ({"RANK": "first"}, "RANK is 'first', not a whole number"),
    ],
)
def test_variables_that_cannot_be_are_named(change, says):
    with pytest.raises(ConfigError, match=says):
        find_place({**TORCHRUN, **change})


def test_rows_that_cannot_be_dealt_are_refused_with_the_numbers_that_can():
    assert rows_of_each(12, 4, context_tokens=32) == 3
    with pytest.raises(ConfigError, match=r"10 rows per step .* 4 processes") as refused:
        rows_of_each(10, 4, context_tokens=32)
    assert refused.value.hint == "use --batch-tokens 256 or 384, or a number of processes among 1, 2, 5, 10"
