import pytest

from mamba_slm.core.registry import load
from mamba_slm.ops.kernels import installed_kernels, without_kernels
from mamba_slm.ops.native.library import missing_for_native
from mamba_slm.ops.native.start import NATIVE_KERNELS, start_all


@pytest.fixture
def native_kernels():
    """Every native kernel installed for one test, and gone after it."""
    if missing := missing_for_native():
        pytest.skip(missing)
    with without_kernels():
        started = start_all(lambda line: None)
        unsupported = {name: load("native kernel", name, NATIVE_KERNELS).unsupported() for name in started.left}
        assert started.left == unsupported, started
        yield installed_kernels()
