"""An ONNX Runtime session for an exported graph."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mamba_slm.core.errors import DataError, UnknownNameError
from mamba_slm.core.optional import require

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

PURPOSE = "running an ONNX graph"
ERRORS_ONLY = 3
"""Severity: warnings are about num_logits_to_keep, which is meant to be an input that may be left out."""


def open_session(
    graph: Path | bytes,
    *,
    num_threads: int | None = None,
    providers: Sequence[str] = ("CPUExecutionProvider",),
    data_folder: Path | None = None,
    in_float32: bool = False,
) -> InferenceSession:
    """Load a graph from a file, or from bytes whose external data lie in `data_folder`.

    Args:
        num_threads: threads of one operator; None: one per core.
        providers: execution providers in order of preference.
        in_float32: do not round the inputs of products that ONNX Runtime itself makes of DequantizeLinear.

    Raises:
        MissingDependencyError: onnxruntime is absent.
        UnknownNameError: this build of onnxruntime has no such provider.
        DataError: the graph cannot be loaded.
    """
    ort = require("onnxruntime", extra="onnx", purpose=PURPOSE)
    for provider in providers:
        if provider not in ort.get_available_providers():
            raise UnknownNameError("execution provider", provider, ort.get_available_providers())
    options = ort.SessionOptions()
    options.log_severity_level = ERRORS_ONLY
    # threads that spin for the next operator take the cores from PyTorch, which runs in turns with this
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if in_float32:
        options.add_session_config_entry("session.qdq_matmulnbits_accuracy_level", "1")
    if num_threads is not None:
        options.intra_op_num_threads = num_threads
    if data_folder is not None:
        options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(data_folder))
    try:
        return ort.InferenceSession(graph, options, providers=list(providers))
    except Exception as error:  # onnxruntime has an exception class per status code, and no common base but this
        what = graph if isinstance(graph, Path) else "the graph"
        raise DataError(f"onnxruntime {ort.__version__} cannot load {what}: {error}") from error


@dataclass(frozen=True, kw_only=True)
class SessionState:
    """One state input of a session."""

    name: str
    shape: tuple[int | str, ...]


def session_states(session: Any) -> list[SessionState]:
    """The states of a session from its own metadata: every input whose name begins with `past`."""
    return [
        SessionState(name=each.name, shape=tuple(each.shape))
        for each in session.get_inputs()
        if each.name.startswith("past")
    ]
