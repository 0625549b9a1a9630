"""Settings of the surroundings that change what a run does or how fast it is."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from mamba_slm.cli.examination.check import Check, times
from mamba_slm.cli.examination.speed import ALL_CORES, WORTH, Speeds
from mamba_slm.cli.examination.steps import StepsRequest, time_steps_elsewhere
from mamba_slm.cli.examination.timing import seconds_of, times_as_fast
from mamba_slm.core.threads import SPIN_ITERATIONS
from mamba_slm.runs.process import read_text

LIMITS = {
    "ATEN_CPU_CAPABILITY": "limits the instructions of torch's own kernels",
    "ONEDNN_MAX_CPU_ISA": "limits the instructions of matrix products",
    "DNNL_MAX_CPU_ISA": "limits the instructions of matrix products",
    "MKL_NUM_THREADS": "limits the threads of some matrix products",
    "MKL_DEBUG_CPU_TYPE": "was a trick for old versions of MKL",
}
"""Variable that makes torch slower -> what it does. Torch reads them when it is loaded."""
OFFLINE = ("MAMBA_SLM_OFFLINE", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE")
OFF = ("0", "false", "off", "no", "n", "f")  # as the tokenizers library reads them
PASSIVE = "OMP_WAIT_POLICY=PASSIVE"
THESE = "these settings"
WAITING: dict[str, dict[str, str | None]] = {
    "as mamba-slm sets it": {"GOMP_SPINCOUNT": SPIN_ITERATIONS, "OMP_WAIT_POLICY": None},
    "OpenMP's default": {"GOMP_SPINCOUNT": None, "OMP_WAIT_POLICY": None},
    PASSIVE: {"GOMP_SPINCOUNT": None, "OMP_WAIT_POLICY": "PASSIVE"},
}
"""How threads may wait for each other -> the variables that say so (None: not set)."""


@dataclass(frozen=True, kw_only=True)
class WaitingSpeed:
    """Seconds of a training step under one way to wait, the median of a few."""

    now: float
    """With whatever else computes at the time."""

    beside_another: float
    """While one more program keeps a core busy."""


def settings_checks(environment: Mapping[str, str], *, threads: int | None, cores: int, speeds: Speeds | None,
                    waiting: Mapping[str, WaitingSpeed | str]) -> list[Check]:  # fmt: skip
    """Everything; `threads` is None where torch is absent."""
    checks = [] if threads is None else [thread_count_check(threads, cores, speeds)]
    checks += [
        waiting_check(environment, openmp_libraries(), waiting),
        home_check(environment),
        network_check(environment),
        tokenizers_check(environment, cores, tokenizing_gain if speeds else None),
    ]
    return checks + limit_checks(environment)


def thread_count_check(threads: int, cores: int, speeds: Speeds | None) -> Check:
    """Whether torch uses every core; what the others would bring, where it was measured."""
    text = f"torch computes with {threads} thread{'s' if threads > 1 else ''} on {cores} core{'s' if cores > 1 else ''}"
    if threads >= cores:
        return Check(section="settings", name="threads", text=text)
    gain = None if speeds is None else speeds.gain(ALL_CORES, over=speeds.automatic_precision)
    if gain is not None and gain < WORTH:
        return Check(
            section="settings", name="threads", text=text, measured={"all_cores_times_as_fast": gain},
            cost=f"nothing here: {cores} threads train {gain:.2f} times as fast (measured)",
        )  # fmt: skip
    return Check(
        section="settings", name="threads", status="note", text=text, about_speed=True,
        cost="not measured: run without --no-measure" if gain is None
        else f"a training step takes {times(gain)} as long as with all cores (measured)",
        hint=f"export OMP_NUM_THREADS={cores}", measured={} if gain is None else {"all_cores_times_as_fast": gain},
    )  # fmt: skip


def openmp_libraries() -> list[str]:
    """The OpenMP libraries in this process (`libgomp`, `libiomp5`); empty where the system does not list them."""
    mapped = read_text(Path("/proc/self/maps")) or ""
    return [name for name in ("libgomp", "libiomp5", "libomp") if f"/{name}" in mapped]


def waiting_check(
    environment: Mapping[str, str], libraries: list[str], waiting: Mapping[str, WaitingSpeed | str]
) -> Check:
    """How threads wait for each other, and what that costs now and beside one more program."""
    policy, spins = environment.get("OMP_WAIT_POLICY", ""), environment.get("GOMP_SPINCOUNT", "")
    if policy.lower() == "active" or (not policy and spins.lower() in ("infinite", "infinity")):
        how, patient = "never sleep", False
    elif policy:
        how, patient = f"wait as OMP_WAIT_POLICY={policy} says", True
    else:
        how, patient = f"spin for {spins or 'a default number of'} rounds, then sleep", True
    text = f"threads {how}"
    if libraries and "libgomp" not in libraries and spins and not policy:
        text += f" (but {libraries[0]} does not read GOMP_SPINCOUNT)"
    speeds = {name: speed for name, speed in waiting.items() if isinstance(speed, WaitingSpeed)}
    measured: dict[str, float] = {}
    ours = speeds.get("as mamba-slm sets it")
    for name, speed in speeds.items():
        key = name.replace(" ", "_").replace("'", "").replace("=", "_").replace("-", "_").lower()
        measured |= {f"{key}_seconds": speed.now, f"{key}_beside_another_seconds": speed.beside_another}
        if ours and speed is not ours:
            now, beside = ours.now / speed.now, ours.beside_another / speed.beside_another
            text += f"; with {name} a step is {now:.2f}x as fast now, {beside:.2f}x beside one more busy program"
    passive = speeds.get(PASSIVE)
    if ours and passive and not policy and ours.now / passive.now >= WORTH:
        return Check(
            section="settings", name="waiting", status="note", text=text, measured=measured, about_speed=True,
            cost=f"a step takes {times(ours.now / passive.now)} as long as with {PASSIVE} now (measured)",
            hint=f"export {PASSIVE}",
        )  # fmt: skip
    if patient:
        return Check(section="settings", name="waiting", text=text, measured=measured)
    chosen = speeds.get(THESE)
    cost = "not measured: --measure thorough times it beside another program"
    if ours and chosen:
        factor = times(chosen.beside_another / ours.beside_another)
        cost = f"beside one more busy program a step takes {factor} as long as with what mamba-slm sets (measured)"
    return Check(
        section="settings", name="waiting", status="note", text=text, measured=measured, about_speed=True,
        cost=cost, hint="unset OMP_WAIT_POLICY GOMP_SPINCOUNT",
    )  # fmt: skip


def ways_to_wait(environment: Mapping[str, str]) -> dict[str, dict[str, str | None]]:
    """What to compare: `WAITING`, and the settings of this environment where they are others."""
    is_own = "OMP_WAIT_POLICY" in environment or environment.get("GOMP_SPINCOUNT") != SPIN_ITERATIONS
    return WAITING | ({THESE: {}} if is_own else {})


def measure_waiting(
    ways: Mapping[str, dict[str, str | None]], *, precision: str, threads: int
) -> dict[str, WaitingSpeed | str]:
    """Every way to wait, now and beside one more busy program, in processes of their own; a text where it failed."""
    found: dict[str, WaitingSpeed | str] = {}
    request = StepsRequest(precision=precision, threads=threads)
    for name, variables in ways.items():
        now = median_step(request, variables)
        busy = subprocess.Popen([sys.executable, "-c", "while True: pass"])
        try:
            beside = median_step(request, variables)
        finally:
            busy.kill()
            busy.wait()
        if isinstance(now, str) or isinstance(beside, str):
            found[name] = now if isinstance(now, str) else str(beside)
        else:
            found[name] = WaitingSpeed(now=now, beside_another=beside)
    return found


def median_step(request: StepsRequest, variables: dict[str, str | None]) -> float | str:
    """Median seconds of a step in another process, or why there are none."""
    result = time_steps_elsewhere(request, environment=variables, timeout_seconds=60)
    return result if isinstance(result, str) else sorted(result.seconds)[len(result.seconds) // 2]


def home_check(environment: Mapping[str, str]) -> Check:
    """Where runs are kept."""
    from mamba_slm.runs.layout import default_home

    why = "MAMBA_SLM_HOME" if environment.get("MAMBA_SLM_HOME") else "MAMBA_SLM_HOME is not set"
    return Check(section="settings", name="home", text=f"runs are kept in {default_home()} ({why})")


def network_check(environment: Mapping[str, str]) -> Check:
    """Whether downloads are switched off."""
    on = [name for name in OFFLINE if environment.get(name, "").lower() in ("1", "true", "yes", "on")]
    text = f"no downloads ({', '.join(on)})" if on else "downloads are allowed where a command is asked for one"
    return Check(section="settings", name="network", text=text)


def tokenizers_check(environment: Mapping[str, str], cores: int, gain: Callable[[], float] | None) -> Check:
    """Whether tokenization uses every core.

    Args:
        gain: measures how many times as fast all cores are; None where nothing is measured.
    """
    value = environment.get("TOKENIZERS_PARALLELISM", "").lower()
    if value not in OFF or cores == 1:
        whose = f"all {cores} cores" if cores > 1 else "the one core"
        return Check(section="settings", name="tokenizers", text=f"text is tokenized on {whose}")
    factor = gain() if gain else None
    return Check(
        section="settings", name="tokenizers", status="note", about_speed=True,
        text=f"TOKENIZERS_PARALLELISM={value}: text is tokenized on one of {cores} cores",
        cost="not measured: run without --no-measure" if factor is None
        else f"tokenizing text takes {times(factor)} as long as on all cores (measured)",
        hint="unset TOKENIZERS_PARALLELISM", measured={} if factor is None else {"all_cores_times_as_fast": factor},
    )  # fmt: skip


def tokenizing_gain() -> float:
    """How many times as fast all cores tokenize some of Python's own sources as one does; about a second."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    from mamba_slm.data.python_library import python_library_documents

    texts = [document.text for document in itertools.islice(python_library_documents(), 20)]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel()  # type: ignore[assignment]
    tokenizer.train_from_iterator(texts[:10], trainers.BpeTrainer(vocab_size=1000, show_progress=False))

    def encode(parallel: str) -> None:
        os.environ["TOKENIZERS_PARALLELISM"] = parallel  # read at every call
        tokenizer.encode_batch(texts)

    before = os.environ.get("TOKENIZERS_PARALLELISM")
    try:
        ways = {"one": lambda: encode("false"), "all": lambda: encode("true")}
        seconds = seconds_of(ways, rounds=3, limit_seconds=2.0)
    finally:
        if before is None:
            del os.environ["TOKENIZERS_PARALLELISM"]
        else:
            os.environ["TOKENIZERS_PARALLELISM"] = before
    return times_as_fast(seconds, "all", than="one")


def limit_checks(environment: Mapping[str, str]) -> list[Check]:
    """Variables that hold torch back, one check for each that is set."""
    return [
        Check(
            section="settings",
            name=name,
            status="note",
            text=f"{name}={environment[name]} {effect}",
            cost="not measured: torch reads it once, when it is loaded",
            hint=f"unset {name}",
            about_speed=True,
        )
        for name, effect in LIMITS.items()
        if environment.get(name)
    ]
