"""Guesses grow while they are right, and stop for a while when they are not; they never stop for good."""

from hypothesis import given
from hypothesis import strategies as st

from mamba_slm.generation.speculative.pace import LONGEST_REST, Pace


@given(st.integers(1, 9), st.lists(st.floats(0, 1), max_size=60))
def test_there_are_at_most_so_many_and_never_none_for_long(most, shares):
    pace, without = Pace(most), 0
    for share in shares:
        asked = pace.ask()
        assert 0 <= asked <= most
        without = 0 if asked else without + 1
        assert without <= LONGEST_REST
        pace.told(guessed=asked, right=round(share * asked))


def test_what_is_always_right_is_asked_for_in_full():
    pace = Pace(6)
    for _ in range(5):
        assert pace.ask() == 6
        pace.told(guessed=6, right=6)


def test_what_is_always_wrong_costs_few_guesses():
    pace, guessed = Pace(8), 0
    for _ in range(160):
        asked = pace.ask()
        guessed += asked
        pace.told(guessed=asked, right=0)
    assert guessed <= 8 + 160 // LONGEST_REST + 4


def test_one_right_guess_ends_the_rests():
    pace = Pace(4)
    for _ in range(3):
        while not pace.ask():
            pass
        pace.told(guessed=1, right=0)
    while not pace.ask():
        pass
    pace.told(guessed=1, right=1)
    assert pace.ask() == 2
