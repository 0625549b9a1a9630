"""Freed memory is kept for the next need where the C library can be told so, and the user's own choice stands."""

import subprocess
import sys

import pytest

from mamba_slm.core import allocator
from mamba_slm.core.allocator import is_glibc, keep_freed_memory, users_choice

FAULTS_OF_FRESH_BLOCKS = """
import ctypes, resource, sys
from mamba_slm.core.allocator import keep_freed_memory
if sys.argv[1] == "keep":
    assert keep_freed_memory().is_kept
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.free.argtypes, size = ctypes.c_void_p, [ctypes.c_void_p], 64 * 2**20
def use():
    block = libc.malloc(ctypes.c_size_t(size))
    ctypes.memset(block, 1, size)
    libc.free(block)
use()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
use()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""

KEPT_AND_GIVEN_BACK = """
from pathlib import Path
from mamba_slm.core.allocator import freed_memory_kept
def resident():
    text = Path("/proc/self/status").read_text()
    return text.partition("VmRSS:")[2].split()[0]
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
with freed_memory_kept():
    block = libc.malloc(ctypes.c_size_t(64 * 2**20))
    ctypes.memset(block, 1, 64 * 2**20)
    libc.free(block)
    print(resident())
print(resident())
"""


@pytest.fixture(autouse=True)
def nothing_chosen(monkeypatch):
    """No allocator setting of the one who runs the tests, and no call that changes this process."""
    for name in (*allocator.VARIABLES, "GLIBC_TUNABLES", "LD_PRELOAD"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(allocator.ctypes, "CDLL", lambda name: FakeLibrary())


class FakeLibrary:
    """glibc as far as the module uses it; says yes."""

    gnu_get_libc_version = staticmethod(lambda: b"2.36")
    mallopt = staticmethod(lambda option, value: 1)


def test_on_glibc_freed_memory_is_kept():
    assert is_glibc()
    found = keep_freed_memory()
    assert found.is_kept
    assert str(found).startswith("freed memory is kept (")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("MALLOC_TRIM_THRESHOLD_", "131072"),
        ("MALLOC_MMAP_THRESHOLD_", "131072"),
        ("GLIBC_TUNABLES", "glibc.malloc.hugetlb=1"),
        ("LD_PRELOAD", "/usr/lib/libjemalloc.so.2"),
        ("LD_PRELOAD", "/opt/libtcmalloc_minimal.so:/opt/other.so"),
    ],
)
def test_the_users_choice_stands(monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    assert users_choice() == name
    found = keep_freed_memory()
    assert not found.is_kept
    assert str(found) == f"freed memory is left to the allocator ({name} is set)"


@pytest.mark.parametrize(("name", "value"), [("GLIBC_TUNABLES", "glibc.pthread.rseq=0"), ("LD_PRELOAD", "/x/other.so")])
def test_settings_of_other_things_are_no_choice(monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    assert users_choice() is None


def test_other_c_libraries_are_left_alone(monkeypatch):
    monkeypatch.setattr(allocator.ctypes, "CDLL", lambda name: object())
    assert not is_glibc()
    assert keep_freed_memory().reason == "the C library is not glibc"


def test_a_refusal_is_told(monkeypatch):
    monkeypatch.setattr(FakeLibrary, "mallopt", staticmethod(lambda option, value: 0))
    assert keep_freed_memory().reason == "this glibc refuses the setting"


def test_behind_the_block_it_is_given_back():
    if sys.platform != "linux":
        pytest.skip("glibc is Linux's C library")
    program = FAULTS_OF_FRESH_BLOCKS.partition("if sys")[0] + KEPT_AND_GIVEN_BACK
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    kept, given_back = map(int, ran.stdout.split())
    assert kept > 64 * 1024  # KiB
    assert given_back < kept - 60 * 1024


def test_a_freed_block_is_used_again_without_new_pages():
    if sys.platform != "linux":
        pytest.skip("glibc is Linux's C library")
    faults = {}
    for way in ("keep", "default"):
        ran = subprocess.run(
            [sys.executable, "-c", FAULTS_OF_FRESH_BLOCKS, way], capture_output=True, text=True, check=True
        )
        faults[way] = int(ran.stdout)
    pages = 64 * 2**20 // 4096
    assert faults["keep"] < pages / 50
    assert faults["default"] > faults["keep"]
