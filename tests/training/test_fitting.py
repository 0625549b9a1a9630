"""Promises about what fits: the engine, the rows at once, the flags that are named when memory runs out."""

import dataclasses

import pytest

from mamba_slm.core.errors import OutOfMemoryError
from mamba_slm.model.presets import preset
from mamba_slm.training.config import TrainConfig
from mamba_slm.training.fitting import candidates, demand_of, fitted, flags, hint_for, smaller, with_fitting_engine
from mamba_slm.training.out_of_memory import explained, is_out_of_memory
from mamba_slm.training.spread import Spread, why_not_shared

GIB = 2**30


def demand(name="125M", *, rows=16, processes=1, **settings):
    config = TrainConfig(context_tokens=2048, batch_tokens=2048 * 64, micro_batch_rows=rows, **settings)
    spread = Spread() if processes == 1 else Spread(engine="ddp", processes=processes)
    return demand_of(config, preset(name), spread, precision="bf16", on_gpu=True)


def needs(wanted):
    return wanted.memory().total


def test_each_step_down_needs_less_and_the_last_has_one_row_and_checkpointing():
    now, seen = demand(), []
    while now is not None:
        seen.append(needs(now))
        last, now = now, smaller(now)
    assert seen == sorted(seen, reverse=True) and len(seen) == 6
    assert last.rows_at_once == 1 and last.gradient_checkpointing


@pytest.mark.parametrize("gib", [12, 16, 24, 80])
def test_what_is_chosen_fits_and_settings_that_fit_stay_as_they_are(gib):
    wanted = demand()
    found = fitted(wanted, gib * GIB)
    assert found.fits(gib * GIB)
    assert (found == wanted) == wanted.fits(gib * GIB)
    if found.gradient_checkpointing and found.rows_at_once < wanted.rows_at_once:
        assert not dataclasses.replace(found, rows_at_once=found.rows_at_once + 1).fits(gib * GIB)


def test_what_cannot_fit_says_what_it_needs_and_its_largest_part():
    with pytest.raises(OutOfMemoryError, match=r"not even one row.*for optimizer") as caught:
        fitted(demand("13B"), 80 * GIB)
    assert caught.value.exit_code == 4 and "nothing fits" in caught.value.hint


def test_ddp_is_taken_where_a_whole_model_fits_and_fsdp_where_not():
    small, why = with_fitting_engine(demand(processes=8), 80 * GIB)
    assert small.spread.engine == "ddp" and "GiB" in why
    large, why = with_fitting_engine(demand("6.7B", rows=1, processes=8, gradient_checkpointing=True), 80 * GIB)
    assert large.spread.engine == "fsdp" and "shared out" in why
    assert with_fitting_engine(demand(processes=8), None)[0].spread.engine == "ddp"
    assert with_fitting_engine(demand(), GIB)[0].spread == Spread()


@pytest.mark.parametrize(
    "settings, reason", [({"precision": "fp16"}, "fp16"), ({"optimizer": "adamw8bit"}, "adamw8bit")]
)
def test_what_fsdp_cannot_share_out_stays_whole_and_no_flag_offers_what_is_refused(settings, reason):
    wanted = demand("6.7B", rows=1, processes=8, gradient_checkpointing=True)
    wanted = dataclasses.replace(wanted, **settings)
    found, why = with_fitting_engine(wanted, 80 * GIB)
    assert found.spread.engine == "ddp" and reason in why
    ways = [way for way in candidates(wanted) if way.spread.engine == "fsdp"]
    assert all(why_not_shared(way.optimizer, way.precision) is None for way in ways)
    assert not ways or all("--precision fp32" in flags(wanted, way) for way in ways)
    assert bool(ways) == (reason == "fp16")


def test_the_named_flags_fit():
    wanted = demand(processes=4)
    hint = hint_for(wanted, 20 * GIB)
    assert hint.startswith("these fit: --micro-batch-rows ")
    less = dataclasses.replace(wanted, rows_at_once=1, gradient_checkpointing=True)
    assert flags(wanted, less) == "--micro-batch-rows 1 --gradient-checkpointing"
    assert "what fits by the estimate did not" in hint_for(wanted, 800 * GIB)
    assert hint_for(wanted, None).startswith("nothing fits by flags alone")


def test_an_error_names_the_largest_part_and_only_memory_counts():
    error = explained(MemoryError(), demand(), 20 * GIB)
    assert "the largest part is activations with" in error.message and "--auto-fit" in error.hint
    assert is_out_of_memory(MemoryError())
    assert is_out_of_memory(RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes"))
    assert is_out_of_memory(RuntimeError("could not create a primitive"))  # oneDNN, under a limit of the process
    assert not is_out_of_memory(RuntimeError("shapes")) and not is_out_of_memory(ValueError("can't allocate"))
