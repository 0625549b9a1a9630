"""What this machine reaches now: matrix products, training steps by precision and threads, and who else computes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from mamba_slm.cli.examination.check import Check, times
from mamba_slm.cli.examination.steps import CONTEXT_TOKENS, MODEL, ROWS, training_step
from mamba_slm.cli.examination.timing import seconds_of, share_of_cores, times_as_fast

GEMM_SECONDS = 0.3
ROUNDS = 5
LIMIT_SECONDS = 3.0  # for all training steps together
ONE_THREAD, ALL_CORES = "one thread", "all cores"
FREE_SHARE = 0.85  # with less of the cores' time than this, measurements say as much about the other programs
WORTH = 1.05  # a smaller gain is within the noise of so few rounds


@dataclass(frozen=True, kw_only=True)
class Speeds:
    """Measurements of this moment."""

    rates: dict[str, float]
    """FLOP/s of matrix products on the CPU, by precision."""

    step_seconds: dict[str, list[float]] = field(default_factory=dict)
    """Training steps by way and round: "fp32" and "bf16" as things are; `ONE_THREAD` and `ALL_CORES` in the precision
    that is chosen automatically, where that is another number of threads."""

    device: str = "cpu"
    automatic_precision: str = "fp32"
    threads: int = 1
    cores: int = 1

    cores_share: float = 1.0
    """Share of the cores' time that a program gets which wants all of it."""

    def gain(self, way: str, *, over: str) -> float | None:
        """How many times as fast a step is in one way than in another; None where one was not measured."""
        if way not in self.step_seconds or over not in self.step_seconds:
            return None
        return times_as_fast(self.step_seconds, way, than=over)


def measure_rates() -> dict[str, float]:
    """Matrix products on the CPU in both precisions, FLOP/s."""
    from mamba_slm.training.peak import measured_gemm_rate

    return {precision: measured_gemm_rate(precision=precision, seconds=GEMM_SECONDS) for precision in ("fp32", "bf16")}


def measure_speeds(device: str) -> Speeds:
    """Everything, in about four seconds."""
    import torch

    from mamba_slm.runs.machine import usable_cores
    from mamba_slm.training.precision import choose_precision

    automatic = choose_precision("auto", device).value
    threads, cores = torch.get_num_threads(), usable_cores()
    steps = {precision: training_step(precision=precision, device=device) for precision in ("fp32", "bf16")}
    default = steps.get(automatic, steps["fp32"])

    def with_threads(count: int) -> None:
        torch.set_num_threads(count)
        try:
            default()
        finally:
            torch.set_num_threads(threads)

    ways: dict[str, Callable[[], object]] = dict(steps)
    if device == "cpu" and threads > 1:
        ways[ONE_THREAD] = lambda: with_threads(1)
    if device == "cpu" and threads < cores:
        ways[ALL_CORES] = lambda: with_threads(cores)
    share = share_of_cores(cores)  # before and after: other programs come and go
    rates = measure_rates()
    step_seconds = seconds_of(ways, rounds=ROUNDS, limit_seconds=LIMIT_SECONDS)
    return Speeds(
        rates=rates,
        step_seconds=step_seconds,
        device=device,
        automatic_precision=automatic,
        threads=threads,
        cores=cores,
        cores_share=min(share, share_of_cores(cores)),
    )


def speed_checks(speeds: Speeds) -> list[Check]:
    """What follows from the measurements."""
    checks = [products_check(speeds.rates), precision_check(speeds), threads_check(speeds), sharing_check(speeds)]
    return [check for check in checks if check is not None]


def products_check(rates: Mapping[str, float]) -> Check:
    """How fast this CPU multiplies matrices in torch."""
    text = ", ".join(f"{rate / 1e9:,.0f} GFLOP/s {precision}" for precision, rate in rates.items())
    return Check(
        section="speed", name="products", text=f"{text} (matrix products on the CPU, measured now)",
        measured={f"{precision}_flops_per_second": rate for precision, rate in rates.items()},
    )  # fmt: skip


def precision_check(speeds: Speeds) -> Check | None:
    """Whether bf16 pays in a training step here, and whether the automatic choice is the faster one."""
    gain = speeds.gain("bf16", over="fp32")
    if gain is None:
        return None
    automatic, products = speeds.automatic_precision, speeds.rates["bf16"] / speeds.rates["fp32"]
    measured = {"bf16_times_as_fast_in_step": gain, "bf16_times_as_fast_in_products": products}
    where = f"{MODEL}, {ROWS} x {CONTEXT_TOKENS} tokens"
    if speeds.device == "cpu":
        where += f"; {times(products)} in matrix products"
    if gain >= WORTH:
        text = f"bf16 training pays here: {times(gain)} as fast as fp32 ({where})"
    elif gain <= 1 / WORTH:
        text = f"bf16 training does not pay here: {gain:.2f} times as fast as fp32 ({where})"
    else:
        text = f"bf16 and fp32 train equally fast here: {gain:.2f} times ({where})"
    better = "bf16" if gain >= WORTH else "fp32"
    if automatic == better or automatic not in ("fp32", "bf16") or 1 / WORTH < gain < WORTH:
        text += f"; --precision auto is {automatic}"
        return Check(section="speed", name="precision", text=text, measured=measured)
    loss = gain if better == "bf16" else 1 / gain
    return Check(
        section="speed", name="precision", status="note", text=text, measured=measured, about_speed=True,
        cost=f"--precision auto is {automatic}: a step takes {times(loss)} as long (measured)",
        hint=f"mamba-slm train --precision {better}",
    )  # fmt: skip


def threads_check(speeds: Speeds) -> Check | None:
    """What the threads in use gain over a single one."""
    gain = speeds.gain(speeds.automatic_precision, over=ONE_THREAD)
    if gain is None:
        return None
    measured = {"threads": float(speeds.threads), "times_as_fast_as_one_thread": gain}
    if gain >= 1:
        text = f"{speeds.threads} threads train {times(gain)} as fast as one"
        return Check(section="speed", name="threads", text=text, measured=measured)
    return Check(
        section="speed", name="threads", status="note", measured=measured, about_speed=True,
        text=f"{speeds.threads} threads train slower than one here, as things are now",
        cost=f"a step takes {times(1 / gain)} as long as with one thread (measured)",
        hint="mamba-slm train --threads 1",
    )  # fmt: skip


def sharing_check(speeds: Speeds) -> Check:
    """Whether other programs take the cores now: then everything is slower, and so is what was measured."""
    share, cores = speeds.cores_share, speeds.cores
    measured = {"share_of_cores": share}
    whose = "the core" if cores == 1 else f"{cores} cores"
    if share >= FREE_SHARE:
        return Check(
            section="speed", name="sharing", text=f"{share:.0%} of the time of {whose} is free", measured=measured
        )
    return Check(
        section="speed", name="sharing", status="note", measured=measured, about_speed=True,
        text=f"other programs compute now: {share:.0%} of the time of {whose} is left, and the speeds above are lower",
        cost=f"the quick start takes at least {times(1 / share)} as long (measured: what busy threads get)",
        hint="close what else computes (top shows it), then run mamba-slm doctor again",
    )  # fmt: skip
