"""One token of every row through a whole model in one call: what C wants to know of the model and of its state."""

from __future__ import annotations

import ctypes
import functools

from mamba_slm.ops.native.arguments import POINTER, SIZE
from mamba_slm.ops.native.library import library
from mamba_slm.ops.native.row_product import Matrix

DOUBLE = ctypes.c_double


class Layer(ctypes.Structure):
    """`Layer` of decode_step.cpp: one sublayer's weights, null where its letter has none."""

    _fields_ = (
        ("letter", SIZE),
        ("norm", POINTER),
        ("matrices", Matrix * 4),
        ("conv_weight", POINTER),
        ("conv_bias", POINTER),
        ("dt_bias", POINTER),
        ("A", POINTER),
        ("D", POINTER),
        ("gated_norm", POINTER),
    )


class Model(ctypes.Structure):
    """`Model` of decode_step.cpp."""

    _fields_ = (
        ("d", SIZE),
        ("num_layers", SIZE),
        ("layers", POINTER),
        ("embedding", Matrix),
        ("head", Matrix),
        ("final_norm", POINTER),
        ("has_positions", SIZE),
        ("positions", Matrix),
        ("eps", DOUBLE),
        ("heads", SIZE),
        ("kv_heads", SIZE),
        ("head_dim", SIZE),
        ("window", SIZE),
        ("frequencies", POINTER),
        ("slopes", POINTER),
        ("rotary_scale", DOUBLE),
        ("inner", SIZE),
        ("conv_size", SIZE),
        ("taps", SIZE),
        ("ssm_heads", SIZE),
        ("ssm_dim", SIZE),
        ("state", SIZE),
        ("groups", SIZE),
        ("feed_forward", SIZE),
        ("vocab", SIZE),
    )


class Delta(ctypes.Structure):
    """`Delta` of decode_step.h; A null where no adapter changes a matrix."""

    _fields_ = (("A", POINTER), ("B", POINTER), ("ratios", POINTER), ("ranks", POINTER), ("total", SIZE))


class Call(ctypes.Structure):
    """`Call` of decode_step.cpp."""

    _fields_ = (
        ("rows", SIZE),
        ("threads", SIZE),
        ("length", SIZE),
        ("capacity", SIZE),
        ("is_bf16", SIZE),
        ("has_padding", SIZE),
        ("tokens", POINTER),
        ("num_tokens", POINTER),
        ("positions", POINTER),
        ("valid", POINTER),
        ("states", POINTER),
        ("after", POINTER),
        ("logits", POINTER),
        ("memory", POINTER),
        ("hidden", POINTER),
        ("slots", POINTER),
        ("table", POINTER),
        ("table_stride", SIZE),
        ("block", SIZE),
        ("alike", SIZE),
        ("starts", POINTER),
        ("num_sequences", SIZE),
        ("deltas", POINTER),
        ("adapters", POINTER),
        ("most_ranks", SIZE),
    )


@functools.cache
def functions() -> ctypes.CDLL:
    """The compiled functions with their arguments declared."""
    found = library("decode_step")
    found.decode_memory.argtypes, found.decode_memory.restype = [POINTER, POINTER], SIZE
    found.decode_step.argtypes, found.decode_step.restype = [POINTER, POINTER], SIZE
    found.decode_keep.argtypes, found.decode_keep.restype = [POINTER, POINTER, POINTER], None
    return found
