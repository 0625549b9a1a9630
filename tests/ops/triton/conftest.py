import importlib.util
import sys

import pytest
import torch

GPU = torch.cuda.is_available()
HAS_TRITON = importlib.util.find_spec("triton") is not None


@pytest.fixture
def device():
    """Where kernels run: a GPU, or the CPU in Triton's interpreter, which `tests/conftest.py` asks for."""
    if not HAS_TRITON:
        pytest.skip("triton is not installed")
    if GPU:
        return torch.device("cuda")
    from mamba_slm.ops.triton.language import INTERPRETED

    assert INTERPRETED, f"triton was loaded without its interpreter by one of {len(sys.modules)} modules"
    return torch.device("cpu")


@pytest.fixture
def installed(device):
    """Install the kernels of one module, by its name in `TRITON_KERNELS`, until the test is over; no self-test."""
    from mamba_slm.core.registry import load
    from mamba_slm.ops.kernels import install_kernel, without_kernels
    from mamba_slm.ops.triton.start import TRITON_KERNELS

    def install(name):
        for operation, kernel in load("GPU kernel", name, TRITON_KERNELS).operations.items():
            install_kernel(operation, device.type, kernel)

    with without_kernels():
        yield install
