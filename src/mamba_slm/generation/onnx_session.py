"""An ONNX Runtime session for a graph that `mamba-slm export onnx` wrote: which provider, how many threads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mamba_slm.core.errors import DataError, SetupError
from mamba_slm.core.optional import require
from mamba_slm.model.onnx_contract import (
    ATTENTION_MASK,
    FORMS,
    INPUT_IDS,
    LOGITS,
    NUM_LOGITS_TO_KEEP,
    Form,
    OnnxContract,
    OnnxState,
    onnx_states,
)

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

SUFFIX = "ExecutionProvider"
CPU_PROVIDER = f"CPU{SUFFIX}"
DEVICES = {f"CUDA{SUFFIX}": "cuda", f"TensorRT{SUFFIX}": "cuda", f"Dml{SUFFIX}": "dml"}
"""Where the states stay between calls, by provider; those that are not here get them from the CPU in every call."""
ERRORS_ONLY = 3
"""Severity: what it warns about is num_logits_to_keep, which is meant to be an input that may be left out."""


@dataclass(frozen=True, kw_only=True)
class OnnxGraph:
    """A loaded graph and what must be known to call it."""

    session: InferenceSession
    states: tuple[OnnxState, ...]
    form: Form
    device: str
    """Where states are kept: "cpu", "cuda", ..."""


def choose_provider(name: str | None) -> str:
    """The execution provider that `cpu`, `cuda` or any other name means; None is the CPU.

    Raises:
        SetupError: this build of onnxruntime does not have it; lists those that it has.
        MissingDependencyError: onnxruntime is absent.
    """
    present: Sequence[str] = onnxruntime().get_available_providers()
    wanted = (name or "cpu").lower().removesuffix(SUFFIX.lower())
    for provider in present:
        if provider.removesuffix(SUFFIX).lower() == wanted:
            return provider
    names = ", ".join(provider.removesuffix(SUFFIX).lower() for provider in present)
    hint = "pip install onnxruntime-gpu instead of onnxruntime" if wanted == "cuda" else f"--provider {names}"
    raise SetupError(f"onnxruntime has no execution provider {name!r} here; it has {names}", hint=hint)


def open_graph(contract: OnnxContract, folder: Path, *, provider: str, threads: int) -> OnnxGraph:
    """Load the fastest form that the folder holds.

    Args:
        provider: full name of an execution provider that is present; what it cannot do is done on the CPU.
        threads: CPU threads of one operator.

    Raises:
        DataError: the graph is missing, damaged, or does not fit the contract.
        SetupError: the provider is there but does not start.
        MissingDependencyError: onnxruntime is absent.
    """
    ort = onnxruntime()
    form: Form = next(form for form in FORMS if form in contract.files)  # the fastest first
    file = contract.graph_file(folder, form)
    options = ort.SessionOptions()
    options.log_severity_level = ERRORS_ONLY
    options.intra_op_num_threads = threads
    providers = [provider] if provider == CPU_PROVIDER else [provider, CPU_PROVIDER]
    try:
        session = ort.InferenceSession(str(file), options, providers=providers)
    except Exception as error:  # onnxruntime has an exception class per status code, and no common base but this
        raise DataError(
            f"onnxruntime {ort.__version__} cannot load {file}: {error}",
            hint="copy the folder again, or export it again",
        ) from error
    if session.get_providers()[0] != provider:  # onnxruntime goes on with the CPU and only logs it
        raise SetupError(
            f"{provider} is part of this onnxruntime but does not start; only {session.get_providers()[0]} does",
            hint="see what its libraries miss: ORT_LOG_SEVERITY=1, or leave --provider out",
        )
    states = tuple(onnx_states(contract.config))
    require_names(session, states, file)
    return OnnxGraph(session=session, states=states, form=form, device=DEVICES.get(provider, "cpu"))


def require_names(session: Any, states: Sequence[OnnxState], file: Path) -> None:
    """Raise DataError unless the graph's inputs and outputs are those of the contract."""
    inputs = {INPUT_IDS, ATTENTION_MASK, *(state.past for state in states)}
    outputs = {LOGITS, *(state.present for state in states)}
    found = {each.name for each in session.get_inputs()} | {NUM_LOGITS_TO_KEEP}
    missing = sorted((inputs - found) | (outputs - {each.name for each in session.get_outputs()}))
    unknown = sorted(found - inputs - {NUM_LOGITS_TO_KEEP})
    if missing or unknown:
        what = f"{missing[0]} is missing" if missing else f"{unknown[0]} is unknown"
        raise DataError(f"{file} is not a graph of its folder's model: {what}", hint="export it again")


def onnxruntime() -> Any:
    """The package.

    Raises:
        MissingDependencyError: it is absent.
    """
    return require("onnxruntime", extra="onnx", purpose="running a model with ONNX Runtime")
