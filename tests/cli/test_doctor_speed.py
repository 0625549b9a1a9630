"""Advice follows from measurements: precision, threads, other programs, how threads wait, compiling."""

import os
import subprocess
import sys
import sysconfig
import time

import pytest
import torch

from mamba_slm.cli.examination import compilers, settings, speed, steps, timing
from mamba_slm.cli.examination.compilers import CompileGain
from mamba_slm.cli.examination.settings import WaitingSpeed
from mamba_slm.cli.examination.speed import ALL_CORES, ONE_THREAD, Speeds
from mamba_slm.cli.examination.steps import StepsRequest
from mamba_slm.runs.machine import usable_cores
from mamba_slm.training.compiling import missing_for_compile


def speeds(*, fp32=1.0, bf16=1.0, one=None, every=None, **others):
    """Measurements with these seconds per step, in every round."""
    ways = {"fp32": fp32, "bf16": bf16, ONE_THREAD: one, ALL_CORES: every}
    return Speeds(
        rates={"fp32": 1e11, "bf16": 3e11},
        step_seconds={way: [seconds] * 3 for way, seconds in ways.items() if seconds is not None},
        **{"automatic_precision": "fp32", "threads": 2, "cores": 2, **others},
    )


def said(measured, judge):
    """What a check says of measurements that it has something to say of."""
    check = judge(measured)
    assert check is not None
    return check


# precision ----------------------------------------------------------------------------------------------------------


def test_bf16_that_pays_is_said_to_and_the_automatic_choice_with_it():
    check = said(speeds(fp32=1.5, bf16=1.0, automatic_precision="bf16"), speed.precision_check)
    assert check.status == "ok"
    assert check.text.startswith("bf16 training pays here: 1.5x as fast as fp32 (nano, ")
    assert "3.0x in matrix products" in check.text
    assert check.text.endswith("--precision auto is bf16")
    assert check.measured["bf16_times_as_fast_in_step"] == 1.5


@pytest.mark.parametrize(
    ("fp32", "bf16", "automatic", "better", "loss"),
    [(1.0, 2.0, "bf16", "fp32", "2.0x"), (3.0, 1.0, "fp32", "bf16", "3.0x")],
)
def test_an_automatic_choice_that_is_slower_here_is_noted_with_its_cost(fp32, bf16, automatic, better, loss):
    check = said(speeds(fp32=fp32, bf16=bf16, automatic_precision=automatic), speed.precision_check)
    assert (check.status, check.hint) == ("note", f"mamba-slm train --precision {better}")
    assert check.cost == f"--precision auto is {automatic}: a step takes {loss} as long (measured)"


def test_a_difference_within_the_noise_is_no_advice():
    check = said(speeds(fp32=1.0, bf16=1.02, automatic_precision="bf16"), speed.precision_check)
    assert (check.status, check.hint) == ("ok", "")
    assert "equally fast" in check.text


# threads and others -------------------------------------------------------------------------------------------------


def test_threads_that_help_and_threads_that_hurt():
    good = said(speeds(fp32=1.0, one=1.7), speed.threads_check)
    assert (good.status, good.text) == ("ok", "2 threads train 1.7x as fast as one")
    bad = said(speeds(fp32=2.0, one=1.0), speed.threads_check)
    assert (bad.status, bad.hint) == ("note", "mamba-slm train --threads 1")
    assert bad.cost == "a step takes 2.0x as long as with one thread (measured)"
    assert speed.threads_check(speeds()) is None, "one core has nothing to compare"


def test_cores_that_torch_does_not_use_cost_what_was_measured():
    check = settings.thread_count_check(1, 4, speeds(fp32=3.0, every=1.0, threads=1, cores=4))
    assert (check.status, check.hint) == ("note", "export OMP_NUM_THREADS=4")
    assert check.cost == "a training step takes 3.0x as long as with all cores (measured)"
    unmeasured = settings.thread_count_check(1, 4, None)
    assert unmeasured.cost.startswith("not measured")
    useless = settings.thread_count_check(1, 4, speeds(fp32=1.0, every=1.0, threads=1, cores=4))
    assert (useless.status, useless.cost.partition(":")[0]) == ("ok", "nothing here")
    assert settings.thread_count_check(4, 4, None).status == "ok"


def test_other_programs_are_noted_with_the_slowdown_that_follows():
    check = speed.sharing_check(speeds(cores_share=0.4))
    assert check.status == "note"
    assert "40% of the time of 2 cores is left" in check.text
    assert check.cost.startswith("the quick start takes at least 2.5x as long (measured")
    assert speed.sharing_check(speeds(cores_share=0.97)).status == "ok"


def test_the_share_of_the_cores_falls_when_others_compute():
    cores = usable_cores()
    endless = [sys.executable, "-c", "print(flush=True)\nwhile True: pass"]
    others = [subprocess.Popen(endless, stdout=subprocess.PIPE) for _ in range(4 * cores)]
    try:
        for other in others:
            assert other.stdout is not None and other.stdout.read(1), "it computes"
        share = timing.share_of_cores(cores, seconds=0.5)
    finally:
        for other in others:
            other.kill()
        for other in others:
            other.communicate()
    assert 0 < share < 0.6


def test_ways_are_timed_in_turns_until_the_limit():
    calls = []
    ways = {"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}
    found = timing.seconds_of(ways, rounds=2, limit_seconds=60)
    assert calls == ["a", "b"] * 3
    assert [len(seconds) for seconds in found.values()] == [2, 2]
    slow = timing.seconds_of({"a": lambda: time.sleep(0.01)}, rounds=1000, limit_seconds=0.03)
    assert 1 <= len(slow["a"]) < 10
    assert len(timing.seconds_of({"a": lambda: None}, rounds=9, limit_seconds=-1)["a"]) == 1


def test_the_step_that_is_timed_trains():
    step = steps.training_step(precision="fp32")
    losses = [step() for _ in range(3)]
    assert losses[0] > losses[1] > losses[2]


def test_steps_are_timed_until_the_limit_and_at_least_once():
    few = steps.time_steps(StepsRequest(precision="fp32", threads=1, limit_seconds=0))
    assert len(few.seconds) == 1
    assert few.first_seconds > 0
    assert len(steps.time_steps(StepsRequest(precision="fp32", threads=1, steps=2, limit_seconds=60)).seconds) == 2


def test_measuring_leaves_the_number_of_threads_as_it_was():
    torch.set_num_threads(2)
    found = speed.measure_speeds("cpu")
    assert torch.get_num_threads() == 2
    assert set(found.step_seconds) >= {"fp32", "bf16", ONE_THREAD}
    assert {check.name for check in speed.speed_checks(found)} == {"products", "precision", "threads", "sharing"}


# settings -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("environment", "status"),
    [
        ({"GOMP_SPINCOUNT": "5000"}, "ok"),
        ({"OMP_WAIT_POLICY": "PASSIVE"}, "ok"),
        ({}, "ok"),
        ({"OMP_WAIT_POLICY": "active"}, "note"),
        ({"GOMP_SPINCOUNT": "infinite"}, "note"),
        ({"GOMP_SPINCOUNT": "infinite", "OMP_WAIT_POLICY": "passive"}, "ok"),
    ],
)
def test_threads_that_never_sleep_are_noted(environment, status):
    check = settings.waiting_check(environment, ["libgomp"], {})
    assert check.status == status
    assert ("unset" in check.hint) == (status == "note")


def test_settings_of_ones_own_are_measured_too_and_their_cost_is_beside_what_mamba_slm_sets():
    assert settings.ways_to_wait({"GOMP_SPINCOUNT": "5000"}) == settings.WAITING
    environment = {"OMP_WAIT_POLICY": "active"}
    assert settings.ways_to_wait(environment) == settings.WAITING | {"these settings": {}}
    assert settings.waiting_check(environment, ["libgomp"], {}).cost.startswith("not measured")
    waiting = {
        "as mamba-slm sets it": WaitingSpeed(now=1.0, beside_another=2.0),
        "these settings": WaitingSpeed(now=1.0, beside_another=9.0),
    }
    check = settings.waiting_check(environment, ["libgomp"], waiting)
    assert "takes 4.5x as long as with what mamba-slm sets (measured)" in check.cost


def test_a_spin_count_that_the_library_does_not_read_is_said_to_be_so():
    check = settings.waiting_check({"GOMP_SPINCOUNT": "5000"}, ["libiomp5"], {})
    assert "libiomp5 does not read GOMP_SPINCOUNT" in check.text


def test_ways_to_wait_are_compared_now_and_beside_one_more_program():
    waiting = {
        "as mamba-slm sets it": WaitingSpeed(now=1.0, beside_another=2.0),
        "OpenMP's default": WaitingSpeed(now=1.0, beside_another=8.0),
        "OMP_WAIT_POLICY=PASSIVE": "failed",
    }
    check = settings.waiting_check({"GOMP_SPINCOUNT": "5000"}, ["libgomp"], waiting)
    assert "with OpenMP's default a step is 1.00x as fast now, 0.25x beside one more busy program" in check.text
    assert check.measured["openmps_default_beside_another_seconds"] == 8.0


def test_passive_waiting_is_advised_where_it_is_faster_now_and_nothing_was_chosen():
    waiting = {
        "as mamba-slm sets it": WaitingSpeed(now=2.0, beside_another=2.0),
        "OMP_WAIT_POLICY=PASSIVE": WaitingSpeed(now=1.0, beside_another=1.0),
    }
    check = settings.waiting_check({"GOMP_SPINCOUNT": "5000"}, ["libgomp"], waiting)
    assert (check.status, check.hint) == ("note", "export OMP_WAIT_POLICY=PASSIVE")
    assert check.cost.startswith("a step takes 2.0x as long as with OMP_WAIT_POLICY=PASSIVE")
    assert settings.waiting_check({"OMP_WAIT_POLICY": "PASSIVE"}, ["libgomp"], waiting).status == "ok"


def test_what_holds_torch_back_is_noted_with_the_variable():
    found = settings.settings_checks(
        {"ATEN_CPU_CAPABILITY": "default", "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"},
        threads=2, cores=2, speeds=None, waiting={},
    )  # fmt: skip
    checks = {check.name: check for check in found}
    assert checks["ATEN_CPU_CAPABILITY"].hint == "unset ATEN_CPU_CAPABILITY"
    assert checks["tokenizers"].hint == "unset TOKENIZERS_PARALLELISM"
    assert checks["network"].text == "no downloads (HF_HUB_OFFLINE)"
    assert all(check.cost for check in found if check.status == "note")


def test_tokenizing_on_one_core_costs_what_was_measured_and_the_setting_stays(monkeypatch):
    environment = {"TOKENIZERS_PARALLELISM": "false"}
    check = settings.tokenizers_check(environment, 4, lambda: 3.0)
    assert check.cost == "tokenizing text takes 3.0x as long as on all cores (measured)"
    assert settings.tokenizers_check(environment, 4, None).cost.startswith("not measured")
    assert settings.tokenizers_check(environment, 1, None).status == "ok", "one core is all there is"
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "false")
    assert settings.tokenizing_gain() > 0
    assert os.environ["TOKENIZERS_PARALLELISM"] == "false"
    monkeypatch.delenv("TOKENIZERS_PARALLELISM")
    assert settings.tokenizing_gain() > 0
    assert "TOKENIZERS_PARALLELISM" not in os.environ


# compilers ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def programs(tmp_path, monkeypatch):
    """An empty PATH, to which programs are added by name."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)

    def add(name, script):
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)

    return add


def test_an_absent_compiler_costs_only_compile_and_has_a_command(programs, monkeypatch):
    programs("apt-get", "")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    check = compilers.compiler_check(trial=True)
    assert check.status == "note"
    assert check.text == "no C++ compiler"
    assert check.cost == "--compile is not available, nothing else needs it; not measured: needs a compiler"
    assert check.hint == "sudo apt-get install g++"
    assert missing_for_compile("cpu") is not None, "training says the same"


def test_absent_headers_are_installed_for_this_python(programs, monkeypatch, tmp_path):
    programs("apt-get", "")
    programs("g++", "")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(sysconfig, "get_path", lambda name: str(tmp_path))
    check = compilers.compiler_check(trial=False)
    assert check.text == "no Python headers"
    assert check.hint == f"apt-get install python{sys.version_info.major}.{sys.version_info.minor}-dev"
    assert missing_for_compile("cpu") is not None


def test_a_compiler_that_is_there_but_fails_is_noted_with_its_first_error(programs):
    programs("g++", "echo 'trial.cpp: note: hm' >&2; echo 'trial.cpp:2:10: fatal error: omp.h' >&2; exit 1")
    check = compilers.compiler_check(trial=True)
    assert check.status == "note"
    assert check.text.endswith("fails on a program of four lines: trial.cpp:2:10: fatal error: omp.h")
    assert compilers.compiler_check(trial=False).status == "ok", "not tried"


def test_the_compiler_of_this_machine_is_tried_for_real():
    if compilers.cxx_compiler() is None or not compilers.has_python_headers():
        pytest.skip("no C++ compiler, or no Python headers")
    assert compilers.compiler_check(trial=True).status == "ok"
    assert missing_for_compile("cpu") is None


def test_whether_compiling_pays_is_said_with_the_steps_it_takes():
    paying = CompileGain(compile_seconds=30, eager_seconds=0.3, compiled_seconds=0.2)
    assert "1.5x as fast after 30 s of compiling: it pays after 300 steps" in compilers.gain_phrase(paying)
    losing = CompileGain(compile_seconds=30, eager_seconds=0.2, compiled_seconds=0.21)
    assert compilers.gain_phrase(losing).startswith("--compile does not pay: 0.95x")


def test_nvcc_is_looked_for_only_beside_a_gpu(programs):
    assert compilers.nvcc_check(has_nvidia_gpu=False) is None
    assert said(True, lambda gpu: compilers.nvcc_check(has_nvidia_gpu=gpu)).cost.startswith("nothing here")
    programs("nvcc", "")
    assert said(True, lambda gpu: compilers.nvcc_check(has_nvidia_gpu=gpu)).text.endswith(
        "nvcc; nothing in this version needs it"
    )


# other processes ----------------------------------------------------------------------------------------------------


def test_a_step_in_another_process_fails_with_its_last_line():
    failed = steps.time_steps_elsewhere(
        StepsRequest(precision="no such precision", threads=1), environment={}, timeout_seconds=600
    )  # fmt: skip
    assert isinstance(failed, str)
    assert "no such precision" in failed
    late = steps.time_steps_elsewhere(
        StepsRequest(precision="fp32", threads=1), environment={}, timeout_seconds=0.1
    )  # fmt: skip
    assert late == "not done after 0 seconds"


@pytest.mark.slow
def test_every_way_to_wait_is_timed_in_processes_of_their_own():
    found = settings.measure_waiting(settings.WAITING, precision="fp32", threads=1)
    assert set(found) == set(settings.WAITING)
    for waiting in found.values():
        assert isinstance(waiting, WaitingSpeed), waiting
        assert waiting.now > 0 and waiting.beside_another > 0


@pytest.mark.slow
def test_a_compiled_step_is_timed_beside_the_plain_one():
    gain = compilers.measure_compile(precision="fp32", threads=1)
    assert isinstance(gain, CompileGain), gain
    assert gain.compile_seconds > gain.compiled_seconds > 0
    assert "as fast after" in compilers.compiler_check(trial=False, gain=gain).text
