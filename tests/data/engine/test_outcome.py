"""Errors reach the engine as what they are."""

import pytest

from mamba_slm.core.errors import (
    ConfigError,
    DataError,
    DiskFullError,
    MissingDependencyError,
    OutOfMemoryError,
    UnknownNameError,
)
from mamba_slm.data.engine.outcome import MOST_CHARACTERS, death, failure_of


def raised(error):
    try:
        raise error
    except Exception as caught:
        return failure_of(caught)


class Unsendable(Exception):
    def __init__(self, first, second):
        super().__init__(first)
        self.thread = second


@pytest.mark.parametrize(
    ("error", "kind", "type_there"),
    [
        (ValueError("a"), "passing", ValueError),
        (OSError(5, "Input/output error"), "passing", OSError),
        (OSError(28, "No space left on device"), "fatal", DiskFullError),
        (MissingDependencyError("a", hint="pip"), "fatal", MissingDependencyError),
        (DataError("a", hint="pip"), "input", DataError),
        (UnknownNameError("rule", "a", ["b"]), "input", ConfigError),
        (OutOfMemoryError("a"), "died", OutOfMemoryError),
        (MemoryError(), "died", MemoryError),
    ],
)
def test_an_error_keeps_its_type_its_hint_and_its_traceback(error, kind, type_there):
    failure = raised(error)
    there = failure.exception()
    assert (failure.kind, type(there)) == (kind, type_there)
    assert "in raised" in failure.text and failure.text in there.__notes__[0]
    assert getattr(there, "hint", None) == getattr(error, "hint", None) or kind == "fatal"


def test_what_cannot_be_sent_arrives_as_text():
    there = raised(Unsendable("what happened", lambda: 0)).exception()
    assert "Unsendable: what happened" in str(there)


def test_a_long_text_keeps_its_beginning_and_its_end():
    failure = raised(ValueError("x" * 10**6 + "end"))
    assert failure.text.startswith("Traceback") and failure.text.rstrip().endswith("end")
    assert len(failure.text) < MOST_CHARACTERS + 100
    assert failure.error is None


def test_every_death_has_words():
    assert death(None).text == "the worker is gone"
    assert death(-9).text == "the worker was killed by SIGKILL (no memory left?)"
    assert death(-99).text == "the worker was killed by signal 99"
    assert death(1, "last words\n").text == "last words\nthe worker ended with exit status 1"
