"""Who takes part in a benchmark, what each is called, and in which precision it computes. No torch."""

from __future__ import annotations

TASKS = ("train", "prefill", "decode")
PRECISIONS = ("fp32", "bf16")

OURS, PLAIN, GRANITE, LLAMA, ATTENTION = "ours", "plain", "granite", "llama", "attention"
PEERS = (GRANITE, LLAMA)
"""Of transformers."""

VARIANTS = {"ours-bf16": "ours bf16", "ours-int8": "ours int8", "ours-int4": "ours int4", "ours-mixed": "ours mixed"}
"""Ours with other weights than the cell's (mixed: 4 bits, 8 where those cost most); for inference, in fp32 cells."""

ENGINES = {
    "onnx-fp32": "ONNX Runtime fp32",
    "onnx-int8": "ONNX Runtime int8",
    "onnx-int4": "ONNX Runtime int4",
    "llama.cpp-q8_0": "llama.cpp Q8_0",
    "llama.cpp-q4_0": "llama.cpp Q4_0",
}
"""Other programs that run the same weights, exported; for inference, in the cells of fp32."""

LABELS = {ATTENTION: "attention only", **VARIANTS, **ENGINES}

OURS_IN_ANY_FORM = (OURS, PLAIN, ATTENTION, *VARIANTS)
"""Contenders that this package runs."""

COMPILED = tuple(name for name in OURS_IN_ANY_FORM if name != PLAIN)
"""Those that take a compiled step where there is one."""

PRECISION_BY_ENDING = {
    "fp32": "fp32",
    "bf16": "bf16",
    "int8": "int8",
    "q8_0": "int8",
    "int4": "int4",
    "q4_0": "int4",
    "mixed": "int4",
}
BYTES_PER_VALUE = {"fp32": 4.0, "bf16": 2.0, "int8": 1.0, "int4": 0.5}
"""Of weights, scales of blocks left out."""

CACHE_BYTES = {"onnx": 4, "llama.cpp": 2}
"""Bytes of a value in the key-value caches of engines."""


def label(contender: str) -> str:
    """For readers.

    >>> label("onnx-int8"), label("granite")
    ('ONNX Runtime int8', 'granite')
    """
    return LABELS.get(contender, contender)


def precision_of(contender: str, cell_precision: str) -> str:
    """The precision of a contender's weights: its own where its name has one, else the cell's.

    >>> precision_of("llama.cpp-q4_0", "fp32"), precision_of("granite", "bf16")
    ('int4', 'bf16')
    """
    named = contender in ENGINES or contender in VARIANTS
    return PRECISION_BY_ENDING[contender.rpartition("-")[2]] if named else cell_precision


def products_of(precision: str) -> str:
    """The kind of matrix product that limits reading many tokens with weights of this precision.

    >>> [products_of(name) for name in ("fp32", "bf16", "int8", "int4")]
    ['fp32', 'bf16', 'int8', 'int8']
    """
    return "int8" if precision == "int4" else precision
