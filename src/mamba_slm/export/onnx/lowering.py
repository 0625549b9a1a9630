"""What both lowerings share: inputs and outputs, the order of padded rows, and the steps that are standard operators.

Rows may be padded left or right. The graph first turns each row so that its real tokens come first; from there on,
padding only ever stands behind tokens, where causality hides it, and state is taken after the last real token. At the
end the logits are turned back. Letters as in `description`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mamba_slm.export.onnx.description import FINAL_NORM
from mamba_slm.export.onnx.graph import GraphWriter
from mamba_slm.export.onnx.weights import MatrixStore
from mamba_slm.model.config import ModelConfig
from mamba_slm.model.onnx_contract import (
    ATTENTION_MASK,
    INPUT_IDS,
    LOGITS,
    NUM_LOGITS_TO_KEEP,
    OnnxState,
    onnx_states,
)

Tensors = Mapping[str, NDArray[np.float32]]


class SharedLowering:
    """Inputs, embedding, head, and the products with matrices.

    Values that a subclass may use, made once by `embed`: `num_new` [b 1] real tokens of this piece, `num_before` [b 1]
    real tokens of earlier pieces, `steps` [L] 0 … L-1, `is_real` [b L 1] 1.0 at tokens and 0.0 at padding, `length` []
    L, `window_rows` [b w 1] where the next convolution window lies in (old window, new inputs).
    """

    def __init__(self, config: ModelConfig, tensors: Tensors, matrices: MatrixStore):
        self.config = config
        self.tensors = tensors
        self.matrices = matrices
        self.writer: GraphWriter = matrices.writer
        self.states: dict[str, OnnxState] = {state.past: state for state in onnx_states(config)}

    def declare_inputs(self) -> None:
        """Tokens, mask, states, and a number of logits that is 0 unless it is given."""
        writer = self.writer
        writer.input(INPUT_IDS, np.int64, ["batch_size", "sequence_length"])
        writer.input(ATTENTION_MASK, np.int64, ["batch_size", "total_sequence_length"])
        for state in self.states.values():
            writer.input(state.past, np.float32, [self.axis_name(size) for size in state.shape])
        writer.input(NUM_LOGITS_TO_KEEP, np.int64, [])
        writer.initializer(NUM_LOGITS_TO_KEEP, np.array(0, dtype=np.int64))  # an input with a value may be left out

    @staticmethod
    def axis_name(size: int | str) -> int | str:
        """Free axes get the names that transformers.js and ONNX Runtime GenAI know."""
        return "past_sequence_length" if size == "past_length" else size

    def declare_states(self) -> None:
        """The states after the call, in the order of the contract."""
        for state in self.states.values():
            shape = ["total_sequence_length" if size == "past_length" else size for size in state.shape]
            self.writer.output(state.present, shape)

    def embed(self, tensor: str) -> str:
        """Declare the inputs, turn the rows, and look the tokens up: [b L d]."""
        self.declare_inputs()
        with self.writer.scope("rows"):
            tokens = self.real_tokens_first()
        with self.writer.scope("embedding"):
            embedded = self.matrices.rows_of(tensor, tokens)
            if self.config.position == "learned":
                table = self.writer.initializer("position_embedding.weight", self.tensors["position_embedding.weight"])
                embedded = self.writer.op("Add", embedded, self.writer.op("Gather", table, self.positions()))
        return embedded

    def real_tokens_first(self) -> str:
        """input_ids, each row turned left by its padding on the left: [b L]. Sets the values that the class lists."""
        w, op, ints = self.writer, self.writer.op, self.writer.ints
        self.length = op("Squeeze", op("Shape", INPUT_IDS, start=1, end=2))
        length_1 = op("Unsqueeze", self.length, ints([0]))
        self.total = op("Shape", ATTENTION_MASK, start=1, end=2)  # [1]
        before = op("Sub", self.total, length_1)
        mask = op("Slice", ATTENTION_MASK, before, self.total, ints([1]))  # [b L]
        self.num_new = op("ReduceSum", mask, ints([1]), keepdims=1)
        self.num_before = op("Sub", op("ReduceSum", ATTENTION_MASK, ints([1]), keepdims=1), self.num_new)
        padding_is_left = op("Sub", ints(1), op("Slice", mask, ints([0]), ints([1]), ints([1])))  # [b 1]
        self.num_padding_left = op("Mul", op("Sub", self.length, self.num_new), padding_is_left)
        self.steps = op("Range", ints(0), self.length, ints(1))
        source = op("Mod", op("Add", self.steps, self.num_padding_left), self.length)
        self.is_real = op(
            "Unsqueeze", op("Cast", op("Less", self.steps, self.num_new), to=w.onnx.TensorProto.FLOAT), ints([2])
        )
        taps = np.arange(self.config.conv_kernel - 1, dtype=np.int64)[None]
        self.window_rows = op("Unsqueeze", op("Add", self.num_new, w.constant(taps)), ints([2]))
        return op("GatherElements", INPUT_IDS, source, axis=1)

    def positions(self) -> str:
        """Position of each token in its row, [b L]; padding gets that of a token that might stand there."""
        last = self.writer.ints(self.config.max_context_tokens - 1)
        return self.writer.op("Min", self.writer.op("Add", self.steps, self.num_before), last)

    def linear(self, x: str, *tensors: str) -> str:
        """x times the transpose of matrices stored under each other."""
        return self.matrices.multiply(x, *tensors)

    def split(self, x: str, *sizes: int) -> list[str]:
        """The last axis in pieces."""
        return self.writer.split(x, sizes)

    def next_window(self, window: str, new: str, present: str) -> None:
        """The last w real inputs of each row of (window [b w c], new [b L c]) as the output `present`."""
        both = self.writer.op("Concat", window, new, axis=1)
        self.writer.op("GatherND", both, self.window_rows, batch_dims=1, output=present)

    def silu(self, x: str) -> str:
        """x sigmoid(x)."""
        raise NotImplementedError

    def swiglu(self, gate_up: str) -> str:
        """silu(gate) up."""
        gate, up = self.split(gate_up, *[self.config.feed_forward_size] * 2)
        return self.writer.op("Mul", self.silu(gate), up)

    def skip_weights(self, tensors: str) -> str:
        """D of every channel, [i]."""
        weights = np.repeat(self.tensors[f"{tensors}.D"], self.config.ssm_head_dim)
        return self.writer.initializer(f"{tensors}.D", weights)

    def vector(self, tensor: str) -> str:
        """A vector of the model, stored under its own name."""
        return self.writer.initializer(tensor, self.tensors[tensor])

    def head(self, normed: str, tensor: str) -> None:
        """Choose and turn back the rows that are asked for, multiply them, and declare all outputs."""
        op, ints = self.writer.op, self.writer.ints
        with self.writer.scope("head"):
            normed = op("Identity", normed, output=FINAL_NORM)
            keep_all = op("Equal", NUM_LOGITS_TO_KEEP, ints(0))
            count = op("Where", keep_all, self.length, NUM_LOGITS_TO_KEEP)
            numbers = op("Range", ints(0), count, ints(1))
            turned = op("Mod", op("Add", op("Sub", numbers, self.num_padding_left), self.length), self.length)  # [b L]
            last = op("Max", op("Add", numbers, op("Sub", self.num_new, count)), ints(0))
            rows = op("Unsqueeze", op("Where", keep_all, turned, last), ints([2]))
            kept = op("GatherND", normed, rows, batch_dims=1)
            self.matrices.multiply(kept, tensor, output=LOGITS)
        self.writer.output(LOGITS, ["batch_size", "num_logits", self.config.vocab_size])
        self.declare_states()

    def finish(self, *, opset: int, ir_version: int) -> Any:
        """The `onnx.ModelProto`."""
        return self.writer.to_model("mamba_slm", opset=opset, ir_version=ir_version)


def rotary_tables(config: ModelConfig) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """cos and sin [max_context_tokens head_dim / 2] of the config's rotary settings, scaling included."""
    import torch

    from mamba_slm.model.attention import rotary_tables as tables

    cos, sin = tables(config, torch.arange(config.max_context_tokens)[None])
    half = config.head_dim // 2
    return cos[0, :, :half].numpy(), sin[0, :, :half].numpy()
