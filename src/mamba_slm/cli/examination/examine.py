"""Every check in order. What is measured comes first, so that each check is a function of what was found."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable

from mamba_slm.cli.examination.check import SECTIONS, Check, Effort
from mamba_slm.cli.examination.installing import Installation, installation
from mamba_slm.cli.examination.machine import driver_gpus, machine_checks, working_device
from mamba_slm.cli.examination.packages import (
    extras_checks,
    modules_of,
    optional_packages,
    packages_check,
    python_check,
    requirements,
    torch_check,
)
from mamba_slm.cli.examination.plugins import plugin_checks
from mamba_slm.cli.examination.sandbox import sandbox_check

Say = Callable[[str], None]


def examine(effort: Effort = "quick", *, say: Say = lambda text: None) -> list[Check]:
    """Every check, in the order of `SECTIONS`. Without torch only those that need none.

    Args:
        effort: "none" takes a second, "quick" about ten, "thorough" about two minutes.
        say: told what is being measured when that takes long.
    """
    install = installation()
    checks = [*machine_checks(install), sandbox_check(), *python_checks(install)]
    has_torch = all(check.status != "missing" for check in checks if check.name == "torch")
    broken = broken_packages() if effort != "none" else {}
    checks += extras_checks(install, broken)
    checks += plugin_checks()
    if has_torch:
        checks += torch_checks(install, broken, effort, say)
    return sorted(checks, key=lambda check: SECTIONS.index(check.section))


def examine_briefly() -> list[Check]:
    """What a run on this machine needs, for the start of the quick start; takes a second."""
    from mamba_slm.cli.examination import compilers

    install = installation()
    checks = [*machine_checks(install), *python_checks(install)]
    if any(check.name == "torch" and check.status == "missing" for check in checks):
        return checks
    from mamba_slm.cli.examination import kernels, speed

    checks.append(compilers.compiler_check(trial=False))
    checks += [
        check for check in kernels.kernel_checks(device=working_device(), measure=False, report=mend_kernels(install))
        if check.status != "ok"
    ]  # fmt: skip
    return [*checks, speed.products_check(speed.measure_rates())]


def python_checks(install: Installation) -> list[Check]:
    """The interpreter and what a plain installation has."""
    return [python_check(), packages_check(install, requirements()), torch_check(install)]


def torch_checks(install: Installation, broken: dict[str, str], effort: Effort, say: Say) -> list[Check]:
    """The checks that compute something."""
    import torch

    from mamba_slm.cli.examination import compilers, kernels, libraries, settings, speed
    from mamba_slm.runs.machine import usable_cores
    from mamba_slm.training.precision import choose_precision

    device, measure = working_device(), effort != "none"
    precision, threads = choose_precision("auto", device).value, torch.get_num_threads()
    has_gpu = any(True for _ in driver_gpus())
    speeds = speed.measure_speeds(device) if measure else None
    gain, waiting = None, {}
    if effort == "thorough":
        say("timing how threads wait, now and beside one more busy program (half a minute)")
        waiting = settings.measure_waiting(settings.ways_to_wait(os.environ), precision=precision, threads=threads)
        if compilers.compiler_check(trial=True).status == "ok":
            say("compiling a training step (a minute)")
            gain = compilers.measure_compile(precision=precision, threads=threads)
    checks = settings.settings_checks(
        os.environ, threads=None if device != "cpu" else threads, cores=usable_cores(), speeds=speeds, waiting=waiting
    )
    checks += libraries.gpu_kernel_checks(device)
    checks += kernels.kernel_checks(device=device, measure=measure, report=mend_kernels(install))
    checks.append(libraries.attention_check(device))
    rates = speeds.rates if speeds else None
    checks.append(libraries.onednn_check(install, architecture=platform.machine(), rates=rates))
    checks += libraries.gpu_package_checks(install, has_gpu=has_gpu, broken=broken)
    checks.append(compilers.compiler_check(trial=measure, gain=gain))
    nvcc = compilers.nvcc_check(has_nvidia_gpu=has_gpu)
    return [*checks, *([nvcc] if nvcc else []), *(speed.speed_checks(speeds) if speeds else [])]


def broken_packages() -> dict[str, str]:
    """Installed optional packages that cannot be imported, and why."""
    from mamba_slm.cli.examination.imports import broken_imports
    from mamba_slm.cli.examination.libraries import GPU_PACKAGES

    modules = modules_of([*optional_packages(), *GPU_PACKAGES])
    known = {name: module for name, (module, _) in GPU_PACKAGES.items()}
    return broken_imports(modules | {name: known[name] for name in modules if name in known})


def mend_kernels(install: Installation) -> str:
    """What mends a kernel that computes something wrong: the tested versions of PyTorch."""
    return install.packages([f"torch>={requirements().get('torch', '2.11')}"], again=True)
