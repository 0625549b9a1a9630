"""An exported ONNX folder as a `Runner`: one sequence in, logits and residual stream out."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mamba_slm.core.errors import DataError
from mamba_slm.core.optional import require
from mamba_slm.export.onnx.caller import GraphCaller
from mamba_slm.export.onnx.description import FINAL_NORM, residual_name
from mamba_slm.export.onnx.graph import PURPOSE
from mamba_slm.export.onnx.session import open_session
from mamba_slm.export.trace import Trace, residual_names
from mamba_slm.model.onnx_contract import Form, is_onnx_folder, read_onnx_contract
from mamba_slm.text.tokenizer import FILE_NAME, Tokenizer

FLOAT32_PRODUCTS = 1
"""`accuracy_level` of MatMulNBits at which its input is not rounded."""


class OnnxRunner:
    """A graph in ONNX Runtime, on the CPU."""

    def __init__(
        self, folder: Path, *, form: Form | None = None, num_threads: int | None = None, in_float32: bool = False
    ):
        """Nothing is loaded yet.

        Args:
            in_float32: multiply numbers of few bits by float32, and not by inputs rounded to 8 bits: slow, and exact.
        """
        ort = require("onnxruntime", extra="onnx", purpose="running an ONNX graph")
        self.folder = folder
        self.contract = read_onnx_contract(folder)
        self.config = self.contract.config
        self.graph_file = self.contract.graph_file(folder, form)
        self.num_threads = num_threads
        self.in_float32 = in_float32
        found = next(name for name, file in self.contract.files.items() if folder / file == self.graph_file)
        self.description = f"onnxruntime {ort.__version__}, {found}, {self.contract.weights}"
        self.vocab_size = self.config.vocab_size
        self.max_tokens = self.config.max_context_tokens

    @cached_property
    def session(self) -> Any:
        """The session, loaded when it is first needed."""
        return self.open() if self.in_float32 else open_session(self.graph_file, num_threads=self.num_threads)

    @cached_property
    def residual_session(self) -> Any:
        """The same graph with the residual stream as further outputs, which are found by their names."""
        return self.open(also=self.residual_outputs)

    def open(self, *, also: Sequence[str] = ()) -> Any:
        """A session of the graph, changed in memory: with further outputs, or with exact products."""
        onnx = require("onnx", extra="onnx", purpose=PURPOSE)
        graph = onnx.load(self.graph_file, load_external_data=False)
        for name in also:
            graph.graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
        if self.in_float32:
            for node in graph.graph.node:
                for attribute in node.attribute:
                    if attribute.name == "accuracy_level":
                        attribute.i = FLOAT32_PRODUCTS
        return open_session(
            graph.SerializeToString(),
            num_threads=self.num_threads,
            data_folder=self.graph_file.parent,
            in_float32=self.in_float32,
        )

    @property
    def residual_outputs(self) -> tuple[str, ...]:
        """Names in the graph of the points that `residual_names` lists."""
        return (*(residual_name(number) for number in range(len(self.config.pattern) + 1)), FINAL_NORM)

    def trace(self, tokens: Sequence[int], *, residuals: bool = False) -> Trace:
        """See `Runner.trace`."""
        row = np.array([list(tokens)], dtype=np.int64)
        if not residuals:
            return Trace(torch.from_numpy(GraphCaller(self.session, self.config).read(row)[0][0]))
        caller = GraphCaller(self.residual_session, self.config)
        logits, *points = (torch.from_numpy(each[0]) for each in caller.read(row, also=self.residual_outputs))
        return Trace(logits, tuple(zip(residual_names(self.config.pattern), points, strict=True)))

    def encode(self, text: str) -> list[int] | None:
        """See `Runner.encode`."""
        return self.tokenizer.encode(text) if self.tokenizer is not None else None

    @cached_property
    def tokenizer(self) -> Tokenizer | None:
        """The folder's tokenizer, if it has one."""
        return Tokenizer.load(self.folder) if (self.folder / FILE_NAME).is_file() else None


def open_onnx(path: Path) -> OnnxRunner:
    """Open a folder that `export onnx` wrote, by its fastest form, or one graph file of it.

    Raises:
        DataError: neither; or damaged.
        SetupError: written by a newer package.
        MissingDependencyError: onnxruntime is absent.
    """
    if path.is_dir():
        return OnnxRunner(path)
    for folder in (path.parent, path.parent.parent):
        if is_onnx_folder(folder):
            files = read_onnx_contract(folder).files
            form = next((form for form, file in files.items() if (folder / file).resolve() == path.resolve()), None)
            if form is not None:
                return OnnxRunner(folder, form=form)  # type: ignore[arg-type]
    raise DataError(
        f"{path} is not a graph that mamba-slm wrote: no mamba_slm_onnx.json beside it names it",
        hint="give the folder that mamba-slm export onnx wrote",
    )
