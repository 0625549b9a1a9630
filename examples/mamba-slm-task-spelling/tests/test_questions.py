"""The questions are pairs that differ, none of them twice, and the entry point leads to the task."""

from mamba_slm_task_spelling import SPELLING_PAIRS, questions

from mamba_slm.core.plugins import find_plugin


def test_every_question_has_two_sentences_that_differ():
    rows = questions()["test"]
    assert len(rows) == 20
    assert all(row["right"] != row["wrong"] for row in rows)
    assert len({row["right"] for row in rows}) == len(rows)


def test_the_task_is_found_under_its_name():
    plugin = find_plugin("tasks", "spelling_pairs")
    assert plugin is not None and plugin.load() is SPELLING_PAIRS
