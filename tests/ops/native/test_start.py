"""Starting the kernels never fails: what cannot be used is left out and named with its reason."""

from dataclasses import replace

import pytest
import torch

from mamba_slm.core.native import load_library
from mamba_slm.ops.kernels import installed_kernels, without_kernels
from mamba_slm.ops.native import attention as native_attention
from mamba_slm.ops.native import start, swiglu
from mamba_slm.ops.native.start import NATIVE_KERNELS, difference, start_all


@pytest.fixture(autouse=True)
def only_here(monkeypatch):
    monkeypatch.setattr(start, "NATIVE_KERNELS", {"swiglu": "mamba_slm.ops.native.swiglu:KERNELS"})
    with without_kernels():
        yield


def test_a_compilation_is_announced_and_happens_once(tmp_path, monkeypatch):
    monkeypatch.setenv("MAMBA_SLM_CACHE", str(tmp_path))
    load_library.cache_clear()
    said = []
    first, again = start_all(said.append), start_all(said.append)
    assert said == ["compiling CPU kernels, once for this machine: swiglu"]
    assert first == again
    assert str(first) == "kernels: swiglu compiled for this CPU and tested"
    assert ("swiglu", "cpu") in installed_kernels()


def test_without_a_compiler_the_reason_is_in_the_line(monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    started = start_all(lambda line: None)
    assert not started.used
    assert str(started) == "kernels: PyTorch's (native: there is no g++ (CXX names another one))"
    assert not installed_kernels()


def test_a_kernel_that_computes_something_else_is_not_installed(monkeypatch):
    wrong = replace(swiglu.KERNELS, self_test=lambda: difference(torch.exp, torch.sin, torch.ones(3)))
    monkeypatch.setattr(swiglu, "KERNELS", wrong)
    started = start_all(lambda line: None)
    assert not started.used and not installed_kernels()
    assert "WRONG on this machine, values are off" in str(started)


def test_a_kernel_that_the_processor_cannot_run_is_not_compiled(monkeypatch):
    monkeypatch.setattr(swiglu, "KERNELS", replace(swiglu.KERNELS, unsupported=lambda: "no vectors"))
    monkeypatch.setattr(start, "library", lambda name: pytest.fail("compiled"))
    assert start_all(lambda line: None).left == {"swiglu": "no vectors"}


def test_attention_is_left_to_pytorch_where_the_processor_has_no_avx_512(monkeypatch):
    monkeypatch.setattr(start, "NATIVE_KERNELS", {"attention": NATIVE_KERNELS["attention"]})
    monkeypatch.setattr(native_attention, "has_instructions", lambda *names: "avx512f" not in names)
    monkeypatch.setattr(start, "library", lambda name: pytest.fail("compiled"))
    started = start_all(lambda line: None)
    assert not started.used and not installed_kernels()
    assert "AVX-512, which this processor lacks" in started.left["attention"]


def test_a_difference_names_values_or_the_gradient():
    x = torch.linspace(1, 2, 5)
    assert difference(torch.exp, torch.exp, x) is None
    assert "values are off" in str(difference(torch.exp, torch.sin, x))
    wrong = difference(torch.mul, lambda a, b: a * b.detach() + 0 * b, x, x)
    assert "gradient 2 is off" in str(wrong)


def test_every_entry_of_the_table_has_operations(monkeypatch):
    monkeypatch.undo()
    for name, where in NATIVE_KERNELS.items():
        kernels = start.load("native kernel", name, {name: where})
        assert kernels.operations


def test_a_test_that_passed_here_is_repeated_only_when_asked_to(tmp_path, monkeypatch):
    monkeypatch.setenv("MAMBA_SLM_CACHE", str(tmp_path))
    tested = []
    monkeypatch.setattr(swiglu, "KERNELS", replace(swiglu.KERNELS, self_test=lambda: tested.append("once")))
    for keep, expected in ((True, 1), (True, 1), (False, 2)):
        assert start_all(lambda line: None, keep_results=keep).used == ("swiglu",)
        assert len(tested) == expected


def test_a_failure_is_never_kept(tmp_path, monkeypatch):
    monkeypatch.setenv("MAMBA_SLM_CACHE", str(tmp_path))
    monkeypatch.setattr(swiglu, "KERNELS", replace(swiglu.KERNELS, self_test=lambda: "values are off"))
    for _ in range(2):
        assert "values are off" in start_all(lambda line: None, keep_results=True).left["swiglu"]
