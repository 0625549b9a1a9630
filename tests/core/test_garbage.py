"""No search for cycles while a package is imported, and one afterwards as before."""

import gc

import pytest

from mamba_slm.core.garbage import uncollected


@pytest.fixture(autouse=True)
def nothing_stays_frozen():
    yield
    gc.unfreeze()


def test_nothing_is_collected_within_and_what_is_there_is_not_searched_again():
    assert gc.isenabled()
    frozen = gc.get_freeze_count()
    with uncollected():
        assert not gc.isenabled()
    assert gc.isenabled()
    assert gc.get_freeze_count() > frozen


def test_an_error_turns_collecting_on_again_and_what_was_off_stays_off():
    with pytest.raises(ValueError, match="no"), uncollected():
        raise ValueError("no")
    assert gc.isenabled()
    gc.disable()
    try:
        with uncollected():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()
