import pytest

from mamba_slm.ops.kernels import installed_kernels, without_kernels
from mamba_slm.ops.native.library import missing_for_native
from mamba_slm.ops.native.start import start_all


@pytest.fixture
def native_kernels():
    """Every native kernel installed for one test, and gone after it."""
    if missing := missing_for_native():
        pytest.skip(missing)
    with without_kernels():
        started = start_all(lambda line: None)
        assert not started.left, started
        yield installed_kernels()
