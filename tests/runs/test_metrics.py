import pytest
from hypothesis import given
from hypothesis import strategies as st

from mamba_slm.core.errors import ConfigError, DataError
from mamba_slm.runs.metrics import MetricsWriter, downsample, last_row, read_metrics


def train_row(step: int, loss: float = 1.0) -> dict:
    return {"kind": "train", "step": step, "loss": loss}


def test_rows_come_back_in_order_and_by_kind(tmp_path):
    path = tmp_path / "metrics.jsonl"
    validation = {"kind": "validation", "step": 2, "loss": 0.9}
    with MetricsWriter(path) as writer:
        for row in (train_row(1), train_row(2), validation):
            writer.append(row)
    assert read_metrics(path) == [train_row(1), train_row(2), validation]
    assert read_metrics(path, kind="validation") == [validation]


def test_a_nan_loss_is_recorded_as_null_at_its_step(tmp_path):
    with MetricsWriter(tmp_path / "metrics.jsonl") as writer:
        writer.append(train_row(7, float("nan")))
    assert read_metrics(tmp_path / "metrics.jsonl") == [{"kind": "train", "step": 7, "loss": None}]


@pytest.mark.parametrize("step", [None, "7", 7.0, True])
def test_a_row_without_a_whole_step_is_refused(tmp_path, step):
    with (
        MetricsWriter(tmp_path / "metrics.jsonl") as writer,
        pytest.raises(ConfigError, match="needs a whole-number 'step'"),
    ):
        writer.append({"step": step})


@given(steps=st.lists(st.integers(0, 20), max_size=12), last=st.integers(0, 20))
def test_resuming_leaves_exactly_the_rows_up_to_the_checkpoint(tmp_path_factory, steps, last):
    path = tmp_path_factory.mktemp("metrics") / "metrics.jsonl"
    with MetricsWriter(path) as writer:
        for step in steps:
            writer.append(train_row(step))
        removed = writer.truncate_after(last)
        writer.append(train_row(99))
    kept = [step for step in steps if step <= last]
    assert removed == len(steps) - len(kept)
    assert [row["step"] for row in read_metrics(path)] == [*kept, 99]


def test_truncating_does_not_hide_damage_in_the_middle(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'nonsense\n{"step": 1}\n')
    with MetricsWriter(path) as writer, pytest.raises(DataError, match=r"metrics\.jsonl:1"):
        writer.truncate_after(0)


@given(
    kinds=st.lists(st.sampled_from(["train", "validation", "x" * 5000]), max_size=60),
    wanted=st.sampled_from(["train", "validation"]),
)
def test_the_last_row_of_a_kind_is_found_from_the_end(tmp_path_factory, kinds, wanted):
    path = tmp_path_factory.mktemp("metrics") / "metrics.jsonl"
    with MetricsWriter(path) as writer:
        for step, kind in enumerate(kinds):
            writer.append({"kind": kind, "step": step})
    with path.open("ab") as file:
        file.write(b'{"kind": "train", "st')
    expected = [{"kind": kind, "step": step} for step, kind in enumerate(kinds) if kind == wanted]
    assert last_row(path, kind=wanted) == (expected[-1] if expected else None)


def test_no_metrics_have_no_last_row(tmp_path):
    assert last_row(tmp_path / "absent", kind="train") is None


@given(losses=st.lists(st.none() | st.floats(-1e6, 1e6), max_size=200), max_rows=st.integers(4, 50))
def test_downsampling_keeps_extremes_ends_and_order(losses, max_rows):
    rows = [train_row(step, loss) for step, loss in enumerate(losses)]
    kept = downsample(rows, key="loss", max_rows=max_rows)
    usable = [row for row in rows if row["loss"] is not None]
    assert len(kept) <= max_rows
    assert [row["step"] for row in kept] == sorted({row["step"] for row in kept})
    if usable:
        assert (kept[0], kept[-1]) == (usable[0], usable[-1])
        for extreme in (min, max):
            assert extreme(row["loss"] for row in kept) == extreme(row["loss"] for row in usable)


def test_a_spike_of_one_step_is_still_visible_after_downsampling():
    rows = [train_row(step, 100.0 if step == 6031 else 2.0) for step in range(10_000)]
    assert 6031 in [row["step"] for row in downsample(rows, key="loss", max_rows=60)]


def test_downsampling_to_less_than_its_ends_and_one_bucket_is_refused():
    with pytest.raises(ConfigError, match="at least 4"):
        downsample([], key="loss", max_rows=3)
