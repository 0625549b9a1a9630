"""Promises of what is measured on ratings, and of the verdicts they come to."""

import pytest

from mamba_slm.core.errors import ConfigError, DataError
from mamba_slm.runs.preferences.rows import Answer, Pair, Rating
from mamba_slm.runs.preferences.statistics import measure
from mamba_slm.runs.preferences.verdicts import (
    CSV_FIELDS,
    labelled_rows,
    preference_rows,
    rating_rows,
    verdicts,
)

A, B = "left", "right"


def pair(number, models=("a", "b"), texts=("short", "a longer one")):
    prompt = ({"role": "user", "content": f"question {number}"},)
    return Pair(prompt, (Answer(texts[0], models[0]), Answer(texts[1], models[1])))


def rated(number, choice, *, swapped=False, rater="me", repeat=False, edited=None, seconds=2.0):
    return Rating(id=f"{number}{choice}{rater}{repeat}", pair=pair(number).id, rater=rater, choice=choice,
                  swapped=swapped, is_repeat=repeat, edited=edited, seconds=seconds)  # fmt: skip


def test_wins_ties_and_bad_pairs_are_counted_for_the_models_whatever_their_side():
    pairs = [pair(0), pair(1), pair(2), pair(3), pair(4, ("b", "a"))]
    ratings = [rated(0, A), rated(1, B, swapped=True), rated(2, "tie"), rated(3, "both-bad"), rated(4, "left-much")]
    ratings[4] = Rating(**{**vars(ratings[4]), "pair": pairs[4].id})
    found = measure(pairs, ratings)
    (duel,) = found.duels
    assert duel.models == ("a", "b")
    assert (duel.wins.hits, duel.wins.count, duel.ties, duel.both_bad) == (2, 3, 1, 1)
    assert (found.left.hits, found.left.count) == (2, 3)
    assert found.choices == {"left": 1, "right": 1, "tie": 1, "both-bad": 1, "left-much": 1}


def test_whoever_presses_the_same_key_twice_does_not_agree_with_himself():
    ratings = [rated(0, A), rated(1, A), rated(2, "tie"), rated(3, A)]
    ratings += [rated(0, A, swapped=True, repeat=True), rated(1, "right-much", swapped=True, repeat=True)]
    ratings += [rated(2, "tie", swapped=True, repeat=True), rated(3, "skip", swapped=True, repeat=True)]
    found = measure([pair(n) for n in range(4)], ratings)
    assert (found.self_agreement.hits, found.self_agreement.count) == (2, 3)
    assert found.choices == {"left": 3, "tie": 1}  # repetitions do not count twice


def test_two_raters_are_compared_and_long_answers_noticed():
    ratings = [rated(0, A), rated(0, A, rater="you"), rated(1, B), rated(1, A, rater="you")]
    found = measure([pair(0), pair(1)], ratings)
    assert (found.rater_agreement.hits, found.rater_agreement.count) == (1, 2)
    assert (found.longer.hits, found.longer.count) == (1, 4)


def test_ratings_that_nobody_looked_at_say_nothing_about_sides_or_time():
    found = measure([pair(0)], [rated(0, A, seconds=None)])
    assert found.left.count == 0
    assert found.seconds is None
    assert found.duels[0].wins.count == 1


def test_nothing_rated_gives_empty_shares():
    found = measure([pair(0)], [])
    assert found.duels == ()
    assert found.as_json()["left"] == {"share": None, "interval": [0.0, 1.0], "hits": 0, "count": 0}


def test_a_verdict_needs_a_majority_and_the_agreement_asked_for():
    pairs = [pair(n) for n in range(5)]
    ratings = [rated(0, A), rated(0, B, rater="you")]
    ratings += [rated(1, A), rated(1, A, rater="you"), rated(1, B, rater="they")]
    ratings += [rated(2, "skip"), rated(4, "both-bad")]
    strict, loose = verdicts(pairs, ratings), verdicts(pairs, ratings, min_agreement=0)
    assert [(one.pair.id, one.outcome) for one in strict.reached] == [(pairs[4].id, "both-bad")]
    assert strict.left_out == {"agreement below 70%": 2, "skipped": 1, "not rated": 1}
    assert [one.outcome for one in loose.reached] == ["first", "both-bad"]
    assert loose.left_out == {"agreement below 50%": 1, "skipped": 1, "not rated": 1}
    with pytest.raises(ConfigError, match=r"0 … 1"):
        verdicts(pairs, ratings, min_agreement=7)


def test_the_rows_of_other_programs_hold_what_was_liked_and_what_was_not():
    pairs = [pair(n) for n in range(4)]
    ratings = [rated(0, A), rated(1, A, swapped=True, edited="better"), rated(2, "both-bad"), rated(3, "tie")]
    found = verdicts(pairs, ratings)
    rows, left_out = preference_rows(found)
    said = [(row["prompt"][0]["content"], row["chosen"][0]["content"], row["rejected"][0]["content"]) for row in rows]
    assert said == [("question 0", "short", "a longer one"), ("question 1", "better", "short")]
    assert left_out == {"both bad": 1, "tie": 1}
    rows, left_out = labelled_rows(found)
    assert [(row["completion"][0]["content"], row["label"]) for row in rows] == [
        ("short", True), ("a longer one", False), ("better", True), ("short", False), ("short", False),
        ("a longer one", False),
    ]  # fmt: skip
    assert left_out == {"tie": 1}


def test_every_rating_is_a_row_of_the_table():
    rows = rating_rows([pair(0)], [rated(0, A, swapped=True), rated(0, "skip", repeat=True), rated(9, A)])
    assert [tuple(row) for row in rows] == [CSV_FIELDS] * 2
    assert [(row["outcome"], row["choice"], row["shown_left"]) for row in rows] == [
        ("second", "A", "second"), ("skip", "skip", "first"),
    ]  # fmt: skip


def test_rows_survive_the_disk_and_damaged_ones_are_named():
    assert Pair.from_row(pair(1).to_row(), "here") == pair(1)
    rating = rated(1, A, edited="x")
    assert Rating.from_row(rating.to_row(), "here") == rating
    with pytest.raises(DataError, match=r"pairs\.jsonl:7 is no pair"):
        Pair.from_row({"prompt": [], "answers": [{"text": "x", "model": ""}], "origin": ""}, "pairs.jsonl:7")
    with pytest.raises(DataError, match="unknown choice 'up'"):
        Rating.from_row({**rating.to_row(), "choice": "up"}, "ratings.jsonl:1")
