"""Whatever happens to tasks, each is done or set aside in the end, within its budget."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.engine.work import tasks_in
from mamba_slm.core.errors import DataError, SetupError
from mamba_slm.data.engine.ledger import Ledger, Reporting
from mamba_slm.data.engine.limits import EngineLimits
from mamba_slm.data.engine.outcome import Failure, Outcome, failure_of

LIMITS = EngineLimits(retry_seconds=0, attempts=3, deaths=4, shared_deaths=2)
NOWHERE = Path("/nowhere")
FAILURES = {
    "passing": Failure(kind="passing", text="Traceback\nValueError: x"),
    "input": failure_of(DataError("bad")),
    "died": Failure(kind="died", text="gone"),
}


def ledger_of(number: int, *, may_quarantine: bool = True) -> Ledger:
    return Ledger(
        tasks_in(NOWHERE, number),
        stage="s",
        may_quarantine=may_quarantine,
        limits=LIMITS,
        reporting=Reporting(),
    )


@given(st.integers(0, 8), st.integers(1, 4), st.randoms(use_true_random=False))
def test_every_task_ends_once_and_the_lonely_run_alone(number, workers, source):
    ledger = ledger_of(number)
    running: list[int] = []
    failures: dict[int, list[str]] = {index: [] for index in range(number)}
    done = set()
    while not ledger.is_over:
        while len(running) < workers and (index := ledger.take()) is not None:
            if source.random() < 0.1:
                ledger.put_back(index)
                continue
            running.append(index)
        assert not any(failures[index].count("died") >= 2 for index in running) or len(running) == 1
        if not running:
            continue
        index = running.pop(source.randrange(len(running)))
        assert index not in done
        how = source.choice(["done", *FAILURES])
        if how == "done":
            done.add(index)
            ledger.note(index, Outcome(seconds=1.0))
        else:
            failures[index].append(how)
            ledger.note(index, Outcome(seconds=1.0, failure=FAILURES[how]))
    aside = {int(one.task.name) for one in ledger.result()}
    assert done | aside == set(range(number)) and not done & aside
    for index, happened in failures.items():
        assert happened.count("died") <= 4 and len(happened) - happened.count("died") <= 3
        exhausted = happened.count("died") == 4 or len(happened) - happened.count("died") == 3 or "input" in happened
        assert (index in aside) == exhausted
    assert ledger.progress(ledger.started).done == len(done)


@pytest.mark.parametrize(
    ("kind", "error", "said"),
    [("passing", SetupError, "ValueError: x"), ("input", DataError, "bad"), ("died", SetupError, "4 times: gone")],
)
def test_where_nothing_may_be_set_aside_the_last_failure_is_raised(kind, error, said):
    ledger = ledger_of(1, may_quarantine=False)
    with pytest.raises(error, match=said):
        while (index := ledger.take()) is not None:
            ledger.note(index, Outcome(seconds=1.0, failure=FAILURES[kind]))


def test_two_tasks_of_one_name_are_a_mistake():
    with pytest.raises(AssertionError, match="two tasks of s are called 000"):
        Ledger(
            tasks_in(NOWHERE, 1) * 2,
            stage="s",
            may_quarantine=False,
            limits=LIMITS,
            reporting=Reporting(),
        )


def test_the_pause_before_the_next_attempt_doubles():
    ledger = ledger_of(1)
    ledger.limits = EngineLimits(retry_seconds=100, attempts=3, sign_seconds=10**6)
    pauses = []
    for _ in range(2):
        assert ledger.take() == 0
        ledger.note(0, Outcome(seconds=1.0, failure=FAILURES["passing"]))
        assert ledger.take() is None
        pauses.append(round(ledger.seconds_to_wait(10**6)))
        ledger.later[0] = (0.0, 0)
    assert pauses == [100, 200]
