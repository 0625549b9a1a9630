"""Promises of rating: every pair once, sides balanced, repetitions exchanged, everything survives and can be undone."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mamba_slm.core.errors import ConfigError, UnknownNameError, UsageError
from mamba_slm.runs.preferences.choices import CHOICES, outcome_of
from mamba_slm.runs.preferences.rows import Answer, Pair, Rating
from mamba_slm.runs.preferences.session import REPEAT_DISTANCE, RatingSession, next_shown
from mamba_slm.runs.preferences.store import PreferenceSet, list_sets


def pair(number):
    prompt = ({"role": "user", "content": f"question {number}"},)
    return Pair(prompt, (Answer(f"one {number}", "a"), Answer(f"two {number}", "b")), f"file, line {number}")


def made_set(tmp_path, count=20, seed=3):
    preferences = PreferenceSet.open_or_create("talk", tmp_path, seed=seed)
    preferences.add_pairs(pair(number) for number in range(count))
    return preferences


def played(count, choices, *, repeats, seed=0):
    """What a rater sees who makes these choices, one after the other."""
    pairs, ratings, seen = [pair(number) for number in range(count)], [], []
    for number, choice in enumerate(choices):
        shown = next_shown(pairs, ratings, rater="me", seed=seed, repeats=repeats)
        if shown is None:
            break
        seen.append(shown)
        ratings.append(Rating(id=str(number), pair=shown.pair.id, rater="me", choice=choice,
                              swapped=shown.swapped, is_repeat=shown.is_repeat))  # fmt: skip
    return seen, next_shown(pairs, ratings, rater="me", seed=seed, repeats=repeats)


@settings(max_examples=40)
@given(
    st.integers(0, 24),
    st.lists(st.sampled_from(list(CHOICES)), min_size=40, max_size=40),
    st.floats(0, 1),
    st.integers(0, 99),
)
def test_every_pair_comes_once_and_again_only_as_asked(count, choices, repeats, seed):
    seen, rest = played(count, choices, repeats=repeats, seed=seed)
    new = [shown for shown in seen if not shown.is_repeat]
    again = [shown for shown in seen if shown.is_repeat]
    assert rest is None or len(seen) == 40
    assert len({shown.pair.id for shown in new}) == len(new)
    if rest is None:
        assert len(new) == count
    assert len({shown.pair.id for shown in again}) == len(again) <= repeats * len(new)
    for number, shown in enumerate(seen):
        if shown.is_repeat:
            before = next(n for n, earlier in enumerate(seen) if earlier.pair.id == shown.pair.id)
            assert number - before > REPEAT_DISTANCE
            assert seen[before].swapped is not shown.swapped
            assert choices[before] != "skip"
    for start in range(0, len(new) - 1, 2):
        assert new[start].swapped is not new[start + 1].swapped


def test_the_order_is_drawn_from_the_seed_and_the_rater():
    orders = [[shown.pair.id for shown in played(12, ["tie"] * 12, repeats=0, seed=seed)[0]] for seed in (1, 1, 2)]
    assert orders[0] == orders[1] != orders[2]
    assert orders[0] != [pair(number).id for number in range(12)]


@pytest.mark.parametrize("name", CHOICES)
def test_exchanging_the_sides_exchanges_what_a_choice_means(name):
    turned = {"first": "second", "second": "first"}
    plain = outcome_of(name, swapped=False)
    assert outcome_of(name, swapped=True) == turned.get(plain, plain)


def test_a_choice_is_on_disk_before_the_next_pair_is_shown_and_another_session_goes_on(tmp_path):
    now = iter(range(0, 1000, 7))
    session = RatingSession(made_set(tmp_path), clock=lambda: next(now))
    first = session.shown
    session.choose("left", edited="better")
    kept = PreferenceSet.open("talk", tmp_path).ratings()
    assert [(one.pair, one.choice, one.edited, one.seconds) for one in kept] == [(first.pair.id, "left", "better", 7)]
    assert RatingSession(PreferenceSet.open("talk", tmp_path)).shown == session.shown
    assert RatingSession(PreferenceSet.open("talk", tmp_path), rater="you").num_rated == 0


def test_taking_back_shows_the_same_pair_again_also_in_a_later_session(tmp_path):
    session = RatingSession(made_set(tmp_path))
    shown = [session.shown]
    for choice in ("left", "skip"):
        session.choose(choice)
        shown.append(session.shown)
    session.undo()
    assert session.shown == shown[1]
    later = RatingSession(PreferenceSet.open("talk", tmp_path))
    later.undo()
    assert later.shown == shown[0]
    assert later.undo() is None
    assert PreferenceSet.open("talk", tmp_path).ratings() == []
    assert len(PreferenceSet.open("talk", tmp_path).ratings_file.read_text().splitlines()) == 4  # nothing is deleted


def test_a_kill_in_the_middle_of_a_line_loses_that_choice_only(tmp_path):
    preferences = made_set(tmp_path)
    session = RatingSession(preferences)
    session.choose("left")
    session.choose("right")
    whole = preferences.ratings_file.read_bytes()
    preferences.ratings_file.write_bytes(whole[:-9])
    assert [rating.choice for rating in preferences.ratings()] == ["left"]
    RatingSession(preferences).choose("tie")
    assert [rating.choice for rating in preferences.ratings()] == ["left", "tie"]


def test_the_same_pair_is_kept_once_in_whatever_order_its_answers_come(tmp_path):
    preferences = made_set(tmp_path, count=2)
    turned = Pair(pair(0).prompt, pair(0).answers[::-1])
    assert preferences.add_pairs([turned, pair(1), pair(2)]) == 1
    with preferences.pairs_file.open("a") as file:  # as a second process would
        file.write(preferences.pairs_file.read_text().splitlines()[1] + "\n")
    assert [found.origin for found in preferences.pairs()] == ["file, line 0", "file, line 1", "file, line 2"]


def test_what_cannot_be_said_is_refused(tmp_path):
    session = RatingSession(made_set(tmp_path, count=1))
    with pytest.raises(ConfigError, match="there is no choice 'up'"):
        session.choose("up")
    with pytest.raises(UsageError, match="only an answer that was liked"):
        session.choose("tie", edited="x")
    session.choose("tie")
    with pytest.raises(UsageError, match="nothing left"):
        session.choose("tie")
    with pytest.raises(ConfigError, match=r"in 0 … 1, got 1\.5"):
        RatingSession(session.preferences, repeats=1.5)


def test_sets_are_found_by_name_and_a_wrong_name_is_answered(tmp_path):
    with pytest.raises(UnknownNameError) as none:
        PreferenceSet.open("talk", tmp_path)
    assert "prefs rate talk" in none.value.hint
    made_set(tmp_path)
    assert [found.name for found in list_sets(tmp_path)] == ["talk"]
    with pytest.raises(UnknownNameError, match="did you mean 'talk'"):
        PreferenceSet.open("tolk", tmp_path)
    with pytest.raises(ConfigError, match="not a usable name"):
        PreferenceSet.open_or_create("../talk", tmp_path)
