"""Hardware: amounts against what is needed, instructions and what they mean, GPUs as the driver lists them."""

import os

import pytest

from mamba_slm.cli.examination import machine
from mamba_slm.cli.examination.installing import Installation

INSTALL = Installation(source="index", installer=("pip", "install"))


@pytest.mark.parametrize(("amount", "status"), [(9, "missing"), (10, "note"), (19, "note"), (20, "ok")])
def test_an_amount_is_judged_against_what_is_needed_and_what_is_comfortable(amount, status):
    check = machine.amount_check("disk", amount, 10, 20, "text", "mend")
    assert check.status == status
    assert bool(check.hint) == bool(check.cost) == (status != "ok")


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["avx2", "avx512f", "avx512_bf16"], "AVX2, AVX-512, AVX512-BF16: multiplies bf16 in hardware"),
        (["avx2", "fma"], "AVX2: none for bf16, which torch emulates: --precision auto is fp32"),
        (["asimd", "bf16", "i8mm"], "I8MM, BF16 (Arm): has bf16 instructions, but --precision auto is fp32"),
        ([], "not known"),
    ],
)
def test_the_instructions_that_matter_are_named_with_what_they_mean(flags, said):
    assert said in machine.instructions_check(flags).text


def test_what_is_said_about_bf16_is_what_training_chooses():
    from mamba_slm.training.precision import choose_precision

    flags = machine.cpu_flags()
    if not flags:
        pytest.skip("this system does not list them")
    chosen = choose_precision("auto", "cpu").value
    assert f"--precision auto is {chosen}" in machine.instructions_check(flags).text


def test_a_limit_on_cores_is_named(monkeypatch):
    monkeypatch.setattr(machine, "usable_cores", lambda: 3)
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    assert "3 cores usable of 64 (limited by affinity or the container)" in machine.processor_check().text


@pytest.fixture
def nvidia_smi(tmp_path, monkeypatch):
    """Put a program on the PATH that answers as the driver's tool does."""

    def install(answer):
        program = tmp_path / "nvidia-smi"
        program.write_text(f"#!/bin/sh\ncat <<'END'\n{answer}\nEND\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")

    return install


def test_gpus_are_listed_with_memory_driver_and_the_peak_of_the_table(nvidia_smi):
    nvidia_smi("NVIDIA H100 80GB HBM3, 81559, 570.86.15\nSome New GPU, [N/A], 570.86.15")
    first, second = machine.driver_gpus()
    assert first.startswith("NVIDIA H100 80GB HBM3, 79.6 GiB, driver 570.86.15, 989 TFLOP/s bf16 (")
    assert second == "Some New GPU, unknown memory, driver 570.86.15"


def test_a_gpu_that_torch_cannot_use_is_noted(nvidia_smi, monkeypatch):
    monkeypatch.setattr(machine, "torch_has_cuda", lambda: False)  # so that the test also holds on a GPU machine
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    nvidia_smi("NVIDIA H100 80GB HBM3, 81559, 570.86.15")
    check = machine.gpu_check(INSTALL)
    assert (check.status, check.about_speed) == ("note", True)
    assert "built without CUDA" in check.text
    assert check.cost == "the GPU is idle; not measured: torch cannot reach it"
    assert check.hint == "pip install --force-reinstall 'torch>=2.11'"


def test_a_gpu_that_is_hidden_on_purpose_is_not_blamed_on_torch(nvidia_smi, monkeypatch):
    monkeypatch.setattr(machine, "torch_has_cuda", lambda: False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    nvidia_smi("NVIDIA H100 80GB HBM3, 81559, 570.86.15")
    check = machine.gpu_check(INSTALL)
    assert check.hint == "unset CUDA_VISIBLE_DEVICES"


def test_a_gpu_that_torch_sees_but_cannot_compute_on_must_be_mended_and_the_rest_goes_on(nvidia_smi, monkeypatch):
    monkeypatch.setattr(machine, "torch_has_cuda", lambda: True)
    monkeypatch.setattr(machine, "gpu_failure", lambda: "CUDA error: no kernel image is available")
    nvidia_smi("NVIDIA B200, 183359, 570.86.15")
    check = machine.gpu_check(INSTALL)
    assert check.status == "missing"
    assert check.text.endswith("but torch cannot compute on it: CUDA error: no kernel image is available")
    assert check.hint == "pip install --force-reinstall 'torch>=2.11'"
    assert machine.working_device() == "cpu"


def test_what_a_failing_gpu_says_is_its_first_line():
    if machine.torch_has_cuda():
        assert machine.gpu_failure() is None
        assert machine.working_device() == "cuda"
    else:
        assert machine.gpu_failure(), "this torch has no CUDA at all"
        assert machine.working_device() == "cpu"
