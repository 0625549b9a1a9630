"""GPU kernels are installed when they are right on this machine; what is not is named with its reason."""

import subprocess
import sys

import pytest
import torch

from mamba_slm.core.registry import load
from mamba_slm.ops.kernels import Kernel, installed_kernels, without_kernels
from mamba_slm.ops.ssd import automatic_ssd_backend
from mamba_slm.ops.triton import start
from mamba_slm.ops.triton.start import TRITON_KERNELS, TritonKernels, install_what_passes, start_triton_kernels

ON_CPUS = [name for name in TRITON_KERNELS if name != "attention"]  # whose backward pass needs a GPU


def test_every_kernel_passes_its_self_test_and_the_scan_becomes_automatic(device):
    with without_kernels():
        assert automatic_ssd_backend("cuda")[0] == "chunked"
        started = install_what_passes(device, names=ON_CPUS)
        assert started.used == tuple(ON_CPUS)
        assert not started.left
        assert automatic_ssd_backend("cuda") == ("triton", "its kernels passed their self-test on this GPU")
        tables = [load("GPU kernel", name, TRITON_KERNELS).operations for name in ON_CPUS]
        assert installed_kernels() == {(name, "cuda"): kernel for table in tables for name, kernel in table.items()}
    assert automatic_ssd_backend("cuda")[0] == "chunked"


def raises(device):
    raise RuntimeError("\n  PTX was compiled with an unsupported toolchain\nmore")


WRONG = TritonKernels(
    operations={"double": Kernel(name="triton", run=lambda x: x, refuses=lambda x: None)},
    self_test=lambda device: "values are off by 1e-02",
)
RAISING = TritonKernels(operations=WRONG.operations, self_test=raises)


def test_what_is_wrong_or_does_not_compile_is_left_out_with_its_reason(device, monkeypatch):
    table = {name: f"{__name__}:{name}" for name in ("WRONG", "RAISING")} | {
        "absent": "mamba_slm.ops.triton.none:KERNELS"
    }
    monkeypatch.setattr(start, "TRITON_KERNELS", table)
    monkeypatch.setitem(sys.modules, __name__, sys.modules[__name__])
    with without_kernels():
        started = install_what_passes(device)
        assert not installed_kernels()
    assert started.used == ()
    assert started.left["WRONG"].startswith("WRONG on this GPU, values are off by 1e-02; please report")
    assert started.left["RAISING"].endswith("RuntimeError: PTX was compiled with an unsupported toolchain")
    assert "ModuleNotFoundError" in started.left["absent"]
    assert str(started).startswith("kernels: PyTorch's (WRONG: WRONG on this GPU")


def test_on_a_cpu_nothing_is_started_and_triton_is_not_loaded():
    code = """
import sys
from mamba_slm.ops.triton.start import start_triton_kernels
started = start_triton_kernels("cpu")
assert "triton" not in sys.modules
print(started)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "kernels: PyTorch's (triton: they are for GPUs, and the device is cpu)\n"


@pytest.mark.gpu
def test_on_this_gpu_every_kernel_is_right():
    if not torch.cuda.is_available():
        pytest.skip("there is no GPU here")
    with without_kernels():
        assert not start_triton_kernels("cuda").left
