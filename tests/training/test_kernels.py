"""A run computes with the kernels it asks for, says which, and leaves none behind."""

import pytest
import torch

from mamba_slm.core.errors import ConfigError, SetupError
from mamba_slm.ops.kernels import installed_kernels, without_kernels
from mamba_slm.ops.native import start
from mamba_slm.ops.native.library import missing_for_native
from mamba_slm.training.kernels import kernels_in_use


@pytest.fixture
def no_compiler(monkeypatch):
    monkeypatch.setattr(start, "_started", None)
    monkeypatch.setenv("CXX", "no-such-compiler")


def nobody(line):
    raise AssertionError(line)


def test_automatically_it_takes_what_can_be_had_until_the_run_ends():
    if missing := missing_for_native():
        pytest.skip(missing)
    with without_kernels():
        before = torch.get_rng_state()
        with kernels_in_use("auto", "cpu", lambda line: None) as line:
            assert ("ssd_scan", "cpu") in installed_kernels()
            assert "scan" in line
        assert not installed_kernels()
        assert torch.equal(torch.get_rng_state(), before)
        with kernels_in_use("native", "cpu", nobody):  # a second run neither compiles nor tests
            assert ("ssd_scan", "cpu") in installed_kernels()


def test_pytorchs_operations_on_request():
    with kernels_in_use("torch", "cpu", nobody) as line:
        assert not installed_kernels()
        assert line == "kernels: PyTorch's (asked for)"


def test_without_a_compiler_it_goes_on_and_says_why(no_compiler):
    with kernels_in_use("auto", "cpu", nobody) as line:
        assert not installed_kernels()
        assert "g++" in line


def test_kernels_that_were_asked_for_and_cannot_be_had_are_an_error(no_compiler):
    with pytest.raises(SetupError, match=r"g\+\+"), kernels_in_use("native", "cpu", nobody):
        pass


def test_an_unknown_choice_is_refused():
    with pytest.raises(ConfigError, match="fastest"), kernels_in_use("fastest", "cpu", nobody):  # type: ignore[arg-type]
        pass
