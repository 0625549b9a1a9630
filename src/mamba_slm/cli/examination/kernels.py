"""Our kernels: each against its definition on a small input, and timed beside it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mamba_slm.cli.examination.check import Check, times
from mamba_slm.cli.examination.operations import LIKE_NANO, SMALL, Operation, operations
from mamba_slm.cli.examination.packages import first_line
from mamba_slm.cli.examination.timing import seconds_of, times_as_fast

if TYPE_CHECKING:
    from torch import Tensor

ALLOWED_VALUES_ERROR = 1e-5  # float32, relative to the largest value; a wrong kernel is off by far more
ALLOWED_GRADIENTS_ERROR = 1e-4
ROUNDS = 20  # of fast operations; slow ones stop at the limit
LIMIT_SECONDS = 0.35  # for each operation


@dataclass(frozen=True, kw_only=True)
class SelfTest:
    """How far one way is from the definition."""

    values_error: float
    gradients_error: float
    failure: str = ""
    """Why it could not be run, where it raised."""

    @property
    def passed(self) -> bool:
        """Whether it ran, and both errors are rounding errors."""
        return (
            not self.failure
            and self.values_error <= ALLOWED_VALUES_ERROR
            and self.gradients_error <= ALLOWED_GRADIENTS_ERROR
        )


@dataclass(frozen=True, kw_only=True)
class Pace:
    """One way beside the definition, forward and backward."""

    seconds: float
    times_as_fast: float
    times_less_kept: float
    """Bytes that the definition keeps for its backward pass, over the bytes that this way keeps."""


def kernel_checks(*, device: str, measure: bool, report: str) -> list[Check]:
    """A check for every way of every operation.

    Args:
        measure: also time them, about two seconds.
        report: the command that mends a wrong kernel.
    """
    large = {operation.name: operation for operation in operations(LIKE_NANO, device)} if measure else {}
    found = []
    for operation in operations(SMALL, device):
        tests = {way: self_test(operation, way) for way in operation.ways}
        sound = [way for way, test in tests.items() if test.passed]
        paces = pace_of(large[operation.name], sound) if operation.name in large and sound else {}
        found += [kernel_check(operation, way, tests[way], paces.get(way), report) for way in operation.ways]
    return found


def kernel_check(operation: Operation, way: str, test: SelfTest, pace: Pace | None, report: str) -> Check:
    """What self-test and timing say about one way; a wrong automatic one stops the program from working."""
    name, automatic = f"{operation.name} {way}".strip(), way == operation.automatic
    role = "automatic here; " if automatic and way else ""
    measured = {"values_error": test.values_error, "gradients_error": test.gradients_error}
    if not test.passed:
        what = test.failure or f"values are off by {test.values_error:.0e}, gradients by {test.gradients_error:.0e}"
        cost = "what models compute and learn here is wrong" if automatic else "nothing unless it is chosen by name"
        return Check(
            section="kernels", name=name, status="missing" if automatic else "note",
            text=f"{role}WRONG on this machine: {what}", cost=cost, hint=report,
            measured={} if test.failure else finite(measured),
        )  # fmt: skip
    text = f"{role}correct to {test.values_error:.0e}, gradients to {test.gradients_error:.0e}"
    if pace:
        text += f"; {times(pace.times_as_fast)} as fast as the definition, {kept_phrase(pace.times_less_kept)}"
        measured |= {
            "seconds": pace.seconds,
            "times_as_fast_as_definition": pace.times_as_fast,
            "times_less_kept_for_backward": pace.times_less_kept,
        }
    return Check(section="kernels", name=name, text=text, measured=measured)


def kept_phrase(times_less: float) -> str:
    """How what is kept for the backward pass compares.

    >>> kept_phrase(2.6), kept_phrase(0.5)
    ('keeps 2.6x less memory', 'keeps 2.0x more memory')
    """
    less = times_less >= 1
    return f"keeps {times(times_less if less else 1 / times_less)} {'less' if less else 'more'} memory"


def finite(measured: dict[str, float]) -> dict[str, float]:
    """Without what JSON cannot hold."""
    return {name: value for name, value in measured.items() if value < float("inf")}


def self_test(operation: Operation, way: str) -> SelfTest:
    """Values and gradients of one way against the definition's. Whatever it raises is a finding, not an end."""
    import torch

    with torch.backends.cudnn.flags(allow_tf32=False):
        expected = values_and_gradients(operation, operation.definition)
        try:
            values, gradients = values_and_gradients(operation, operation.ways[way])
        except Exception as error:
            reason = f"{type(error).__name__}: {first_line(error)}"
            return SelfTest(values_error=float("inf"), gradients_error=float("inf"), failure=reason)
    return SelfTest(
        values_error=largest_error(values, expected[0]), gradients_error=largest_error(gradients, expected[1])
    )


def values_and_gradients(
    operation: Operation, function: Callable[..., tuple[Tensor, ...]]
) -> tuple[list[Tensor], list[Tensor]]:
    """All results, and the gradients of all inputs of a fixed projection of them."""
    import torch

    inputs = [tensor.detach().requires_grad_() for tensor in operation.inputs]
    values = function(*inputs)
    generator = torch.Generator().manual_seed(1)
    weights = [torch.randn(value.shape, generator=generator).to(value.device) for value in values]
    total = torch.stack([(value * weight).sum() for value, weight in zip(values, weights, strict=True)]).sum()
    gradients = torch.autograd.grad(total, inputs, allow_unused=True, materialize_grads=True)
    return [value.detach() for value in values], list(gradients)


def largest_error(actual: list[Tensor], expected: list[Tensor]) -> float:
    """The largest, over all tensors, of max |actual - expected| / max |expected|; infinite for NaN or another shape."""
    errors = []
    for a, e in zip(actual, expected, strict=True):
        if a.shape != e.shape or not bool(a.isfinite().all()):
            return float("inf")
        largest = float(e.double().abs().max())
        errors.append(float((a.double() - e.double()).abs().max()) / (largest or 1.0))
    return max(errors)


def pace_of(operation: Operation, ways: list[str]) -> dict[str, Pace]:
    """Time ways beside the definition, in the same rounds."""
    calls = {"definition": operation.definition} | {f"way {way}": operation.ways[way] for way in ways}
    runs = {name: forward_and_backward(operation, function) for name, function in calls.items()}
    seconds = seconds_of(runs, rounds=ROUNDS, limit_seconds=LIMIT_SECONDS)
    kept = {name: bytes_kept(operation, function) for name, function in calls.items()}
    return {
        way: Pace(
            seconds=min(seconds[f"way {way}"]),
            times_as_fast=times_as_fast(seconds, f"way {way}", than="definition"),
            times_less_kept=kept["definition"] / max(1, kept[f"way {way}"]),
        )
        for way in ways
    }


def forward_and_backward(operation: Operation, function: Callable[..., tuple[Tensor, ...]]) -> Callable[[], None]:
    """A call that computes the results and the gradients of all inputs, and waits until they are there."""
    import torch

    on_gpu = operation.inputs[0].is_cuda

    def run() -> None:
        total = torch.stack([value.sum() for value in function(*operation.inputs)]).sum()
        torch.autograd.grad(total, operation.inputs, allow_unused=True)
        if on_gpu:
            torch.cuda.synchronize()

    return run


def bytes_kept(operation: Operation, function: Callable[..., tuple[Tensor, ...]]) -> int:
    """Bytes that autograd keeps between forward and backward pass besides the inputs; shared memory counts once."""
    import torch

    own = {tensor.untyped_storage().data_ptr() for tensor in operation.inputs}
    kept: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        values = function(*operation.inputs)
    del values
    return sum(kept.values())
