"""What the progress line is made of: peak, pace, memory, the line itself."""

import dataclasses

import pytest

from mamba_slm.training.memory import memory_bytes
from mamba_slm.training.pace import Pace
from mamba_slm.training.peak import Peak, measured_gemm_rate, peak_of
from mamba_slm.training.progress_line import progress_line
from mamba_slm.training.reports import StepReport
from mamba_slm.training.schedule import Limits

REPORT = StepReport(
    step=120, tokens=491_520, seconds=60.0, loss=4.314, learning_rate=2.9e-3, grad_norm=0.617, tokens_per_second=8000.0,
    mfu=None, memory_bytes=512 * 2**20,
)  # fmt: skip


def pace(**changes):
    settings = {"batch_tokens": 1000, "flops_per_token": 1e6, "peak": Peak(flops_per_second=1e11, how="measured")}
    return Pace(**{**settings, "limits": Limits(steps=10), **changes})


def test_the_line_is_the_one_that_was_promised():
    line = progress_line(
        REPORT, total_steps=800, tokens_per_second=8412, mfu=0.31, peak="145 GFLOP/s measured", eta_seconds=130
    )
    assert line == (
        "step 120/800  loss 4.31  lr 2.9e-03  norm 0.62  8,412 tok/s  MFU 31% (of 145 GFLOP/s measured)  "
        "mem 512 MiB  ETA 2 m 10 s"
    )


def test_what_is_not_known_is_called_unknown():
    line = progress_line(REPORT, total_steps=None, tokens_per_second=1, mfu=None, peak=None, eta_seconds=None)
    assert line.startswith("step 120  loss")
    assert "MFU unknown (no peak for this device)" in line and line.endswith("ETA unknown")


def test_a_line_covers_the_steps_since_the_one_before_and_not_the_time_between_them():
    meter = pace()
    assert meter.add(2.0) == 500
    meter.add(0.5)
    assert "800 tok/s  MFU 1%" in meter.line(REPORT, progress=0.2)
    meter.add(0.1)
    assert "10,000 tok/s  MFU 10%" in meter.line(REPORT, progress=0.3)


def test_the_time_left_leaves_out_what_the_first_step_took_to_set_up():
    meter = pace()
    meter.begin(progress=0.0, seconds=0.0)
    meter.add(90.0)
    meter.line(dataclasses.replace(REPORT, seconds=90.0), progress=0.1)
    meter.add(1.0)
    assert "ETA 8 s" in meter.line(dataclasses.replace(REPORT, seconds=91.0), progress=0.2)


def test_a_resumed_run_is_timed_from_where_it_was_resumed():
    meter = pace()
    meter.begin(progress=0.5, seconds=1000.0)
    assert meter.eta_seconds(progress=0.5, seconds=1000.0) is None
    assert meter.eta_seconds(progress=0.6, seconds=1002.0) == pytest.approx(8.0)


def test_the_number_of_steps_follows_from_the_limits():
    assert pace(limits=Limits(steps=10, tokens=4500)).total_steps() == 5
    assert pace(limits=Limits(tokens=10**6, steps=10)).total_steps() == 10
    assert pace(limits=Limits(seconds=5)).total_steps() is None


def test_mfu_is_the_models_flops_over_the_peak():
    assert pace().mfu(50_000) == pytest.approx(0.5)
    assert pace(peak=None).mfu(50_000) is None


def test_the_peak_of_a_cpu_is_measured_and_says_so():
    peak = peak_of("cpu", "fp32")
    assert 1e8 < peak.flops_per_second < 1e15
    assert str(peak).endswith("FLOP/s measured")
    assert measured_gemm_rate(precision="bf16", seconds=0.01) > 1e7
    assert str(Peak(flops_per_second=989e12, how="H100")) == "989 TFLOP/s H100"


def test_a_device_without_a_known_peak_has_none():
    assert peak_of("mps", "fp32") is None


def test_memory_is_that_of_this_process():
    before = memory_bytes("cpu")
    block = bytearray(64 * 2**20)
    assert memory_bytes("cpu") >= before + 32 * 2**20
    assert len(block) > 0
