"""C++ sources become libraries of this machine: once, whole or not at all, and with a reason where they cannot."""

import ctypes
import shutil
import subprocess
import sys

import pytest
import torch

from mamba_slm.core.errors import SetupError
from mamba_slm.core.native import library_path, load_library
from mamba_slm.ops.native.library import SOURCES


@pytest.fixture
def sources(tmp_path, monkeypatch):
    """A folder of sources, and an empty cache."""
    folder = tmp_path / "sources"
    folder.mkdir()
    shutil.copy(SOURCES / "simd.h", folder)
    monkeypatch.setenv("MAMBA_SLM_CACHE", str(tmp_path / "cache"))
    load_library.cache_clear()
    yield folder
    load_library.cache_clear()


def write(folder, text, name="answer"):
    (folder / f"{name}.cpp").write_text(f'#include "simd.h"\n#include <omp.h>\nextern "C" {{ {text} }}\n')


def test_a_source_is_compiled_once_and_again_when_it_changes(sources, tmp_path):
    write(sources, "int answer() { return 41; }")
    assert load_library(sources / "answer.cpp").answer() == 41
    (first,) = (tmp_path / "cache" / "native").iterdir()
    made = first.stat().st_mtime_ns
    load_library.cache_clear()
    assert load_library(sources / "answer.cpp").answer() == 41
    assert first.stat().st_mtime_ns == made
    write(sources, "int answer() { return 42; }")
    load_library.cache_clear()
    assert load_library(sources / "answer.cpp").answer() == 42
    assert len(list((tmp_path / "cache" / "native").iterdir())) == 2


def test_a_changed_header_makes_another_library(sources):
    write(sources, "int answer() { return 41; }")
    before = library_path(sources / "answer.cpp")
    (sources / "simd.h").write_text((sources / "simd.h").read_text() + "// changed\n")
    assert library_path(sources / "answer.cpp") != before


def test_a_source_that_does_not_compile_says_where_and_leaves_nothing(sources, tmp_path):
    write(sources, "int answer() { return nobody; }")
    with pytest.raises(SetupError, match=r"answer\.cpp:3:.*nobody") as failure:
        load_library(sources / "answer.cpp")
    assert "MAMBA_SLM_CACHE" in (failure.value.hint or "")
    assert not list((tmp_path / "cache" / "native").iterdir())


def test_without_a_compiler_the_reason_names_it(sources, monkeypatch):
    write(sources, "int answer() { return 41; }")
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(SetupError, match="no g\\+\\+") as failure:
        load_library(sources / "answer.cpp")
    assert "apt-get install g++" in (failure.value.hint or "")


def test_kernels_run_on_the_threads_of_pytorch(sources):
    write(
        sources,
        "int answer() { int n = 0;\n#pragma omp parallel\n#pragma omp single\nn = omp_get_num_threads(); return n; }",
    )
    before = openmp_runtimes()
    answer = load_library(sources / "answer.cpp").answer
    for threads in (1, 2):
        torch.set_num_threads(threads)
        assert answer() == threads
    assert any("torch" in path for path in before) and openmp_runtimes() == before  # other packages may have their own


def openmp_runtimes():
    with open("/proc/self/maps") as maps:
        return {line.split()[-1] for line in maps if "libgomp" in line or "libomp" in line}


def test_the_exponential_is_right_over_its_whole_range(sources):
    write(
        sources,
        "void answer(const float* x, float* y, long n)"
        "{ for (long i = 0; i < n; i += LANES) store(y + i, exp(load(x + i))); }",
    )
    x = torch.cat([torch.linspace(-100, 88.3, 4091), torch.tensor([-torch.inf, torch.nan, 0.0, -0.0, -1e30])])
    y = torch.empty_like(x)
    answer = load_library(sources / "answer.cpp").answer
    answer(ctypes.c_void_p(x.data_ptr()), ctypes.c_void_p(y.data_ptr()), ctypes.c_long(len(x)))
    expected = torch.where(x < -87.3, 0.0, x.double().exp())
    assert bool(y[-4].isnan()) and bool(x[-4].isnan())
    known = ~x.isnan()
    relative = (y.double() - expected).abs()[known] / expected.abs().clamp_min(1e-37)[known]
    assert float(relative.max()) < 3e-7


def test_bfloat16_is_rounded_as_pytorch_rounds_it(sources):
    write(
        sources,
        "void answer(const float* x, bf16* y, long n)"
        "{ for (long i = 0; i < n; i += LANES) store(y + i, load(x + i)); }",
    )
    bits = torch.randint(-(2**31), 2**31, (4096,), dtype=torch.int64).to(torch.int32)
    x = torch.cat([bits.view(torch.float32), torch.tensor([1.00390625, 1.01171875, -1.00390625, torch.inf] * 4)])
    x = x[x.isfinite() & (x.abs() > 1e-37) | x.isinf()]  # the instruction takes tiny numbers for zero
    x = x[: len(x) // 16 * 16]
    y = torch.empty_like(x, dtype=torch.bfloat16)
    load_library(sources / "answer.cpp").answer(
        ctypes.c_void_p(x.data_ptr()), ctypes.c_void_p(y.data_ptr()), ctypes.c_long(len(x))
    )
    assert torch.equal(y, x.to(torch.bfloat16))


def test_two_processes_may_compile_at_the_same_time(sources, tmp_path):
    program = "from mamba_slm.ops.native.library import library; print(library('swiglu')._name)"
    processes = [subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) for _ in range(2)]
    names = {process.communicate(timeout=600)[0] for process in processes}
    assert [process.returncode for process in processes] == [0, 0]
    assert len(names) == 1


def test_a_changed_header_in_another_folder_makes_another_library(sources, tmp_path):
    header = tmp_path / "other" / "far.h"
    header.parent.mkdir()
    header.write_text('#include "farther.h"\n')
    (header.parent / "farther.h").write_text("const int far_away = 7;\n")
    (sources / "answer.cpp").write_text('#include "../other/far.h"\nextern "C" { int answer() { return far_away; } }\n')
    before = library_path(sources / "answer.cpp")
    assert load_library(sources / "answer.cpp").answer() == 7
    (header.parent / "farther.h").write_text("const int far_away = 8;\n")
    assert library_path(sources / "answer.cpp") != before
