"""No test touches the machine: a home of its own, no network beyond loopback, a fixed seed, one torch thread."""

import os
import random
import sys
from collections import Counter
from pathlib import Path

import hypothesis
import pytest

from mamba_slm.cli import console
from mamba_slm.core.network import forbid_network

SEED = 1234
hypothesis.settings.register_profile(
    "untimed",
    deadline=None,  # how long an example takes says nothing about the code, and how long it takes to draw one neither
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
    derandomize=os.environ.get("MAMBA_SLM_CI") == "1",  # new examples are sought elsewhere: a change is no lottery
)
hypothesis.settings.load_profile("untimed")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch is loaded: test processes share the cores
if not os.path.exists("/dev/nvidiactl"):
    os.environ.setdefault("TRITON_INTERPRET", "1")  # before triton is loaded: GPU kernels run on CPU tensors
os.environ["MAMBA_SLM_CACHE"] = str(Path(__file__).parents[1] / ".pytest_cache" / "mamba-slm")
"""Machine code is compiled once for all tests; its names are hashes of what it depends on."""
TRAINED = ("trained_model", "trained_tiny")
"""What trained_model.py makes."""
TRAINING_TIMEOUT_SECONDS = 3600  # about 150 s on two idle cores, three times in turn where others train first
MAY_BE_ABSENT = ("gpu", "processor")
"""Marks of tests that need what no package can bring."""


@pytest.fixture(autouse=True)
def nothing_outside_is_touched(tmp_path_factory, monkeypatch):
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("MAMBA_SLM_HOME", str(home))
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("NO_COLOR", "1")
    forbid_network()
    console.configure(quiet=False)


@pytest.fixture(autouse=True)
def the_same_every_time():
    """Seed what is already loaded; a test that never imports torch or numpy does not pay for them."""
    random.seed(SEED)
    numpy, torch = sys.modules.get("numpy"), sys.modules.get("torch")
    if numpy is not None:
        numpy.random.seed(SEED)
    if torch is not None:
        torch.manual_seed(SEED)
        torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def no_kernel_outlives_its_test():
    """A program that a test runs may install kernels for its whole process, which goes on with other tests."""
    yield
    kernels = sys.modules.get("mamba_slm.ops.kernels")
    if kernels is not None:
        kernels.uninstall_kernels()


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items):
    """Slow files in several processes: first one of each that trains a model for all, then those with a test of many
    minutes that waits for nobody, then those of many tests.

    Whoever needs such a model waits for the process that trains it, which takes minutes: better nobody needs it yet.
    Nor should one process be left alone with a long test at the end.
    """
    for item in items:
        if any(name in item.fixturenames for name in TRAINED):
            assert item.get_closest_marker("slow"), f"{item.nodeid} trains a model, so it must be marked slow"
            item.add_marker(pytest.mark.timeout(TRAINING_TIMEOUT_SECONDS))
    if "PYTEST_XDIST_WORKER" not in os.environ:
        return
    sizes = Counter(item.path for item in items)
    trains = {name: item.path for item in reversed(items) for name in TRAINED if name in item.fixturenames}
    long = {item.path for item in items if item.get_closest_marker("long")}
    if trains or long:
        items.sort(key=lambda item: (item.path not in trains.values(), item.path not in long, -sizes[item.path]))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """Under MAMBA_SLM_CI=1 what a test needs is there, so a skip hides a failure; only hardware may be absent."""
    report = yield
    skipped = report.skipped and not hasattr(report, "wasxfail")
    if skipped and os.environ.get("MAMBA_SLM_CI") == "1" and not any(map(item.get_closest_marker, MAY_BE_ABSENT)):
        report.outcome = "failed"
        report.longrepr = f"skipped, which MAMBA_SLM_CI=1 does not allow: {report.longrepr}"
    return report
