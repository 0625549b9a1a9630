"""Who fits into memory beside whom, forecast from shorter lengths."""

from mamba_slm.evaluation.bench.cells import Cell
from mamba_slm.evaluation.bench.room import available_memory, forecast_peak, seating

GIB = 2**30


def row(contender, peak, loaded=0.5):
    return {"contender": contender, "peak_bytes": peak * GIB, "loaded_bytes": loaded * GIB}


def measured(tokens, *rows, task="train", precision="bf16", batch=1):
    return {"tokens": tokens, "task": task, "precision": precision, "batch": batch, "rows": list(rows)}


NAMES = ("ours", "granite", "llama")
LONG = Cell(task="train", tokens=8192, precision="bf16")
BEFORE = [
    measured(1024, row("ours", 2), row("granite", 3), row("llama", 2)),
    measured(4096, row("ours", 4), row("granite", 8), row("llama", 4.5)),
]


def test_the_peak_grows_along_a_line():
    rows = [{"tokens": tokens, **row("ours", peak)} for tokens, peak in ((1024, 2), (4096, 5))]
    assert forecast_peak(rows, 8192) == 9 * GIB
    assert forecast_peak(rows[:1], 2048) == 3.5 * GIB  # from 0.5 at no tokens
    assert forecast_peak([], 8192) is None


def test_what_fits_is_together_what_fits_alone_is_apart_and_the_rest_is_left_out():
    everything = seating(NAMES, LONG, BEFORE, 64 * GIB)
    assert everything.together == NAMES
    some = seating(NAMES, LONG, BEFORE, 18 * GIB)
    assert (some.together, some.apart) == (("ours", "llama"), ("granite",))
    few = seating(NAMES, LONG, BEFORE, 15 * GIB)
    assert (few.together, few.apart) == (("ours",), ("llama",))
    assert few.left_out == {"granite": "memory: 14.7 GiB forecast from shorter lengths, 15.0 available"}


def test_without_a_forecast_everybody_is_tried():
    assert seating(NAMES, LONG, [], 1 * GIB).together == NAMES
    assert seating(NAMES, LONG, BEFORE, None).together == NAMES
    others = [measured(4096, row("granite", 8), task="prefill"), measured(4096, row("granite", 8), batch=8)]
    assert seating(NAMES, LONG, others, 1 * GIB).together == NAMES


def test_the_system_says_what_is_available_or_nothing():
    available = available_memory()
    assert available is None or available > 1 << 20
