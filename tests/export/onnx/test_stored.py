"""Promises of matrices that are numbers already: ONNX Runtime multiplies by the same values, to the last bit."""

import numpy as np
import onnxruntime
import pytest
import torch

from export.onnx.onnx_models import exported, sequences, small_model
from mamba_slm.core.errors import ConfigError
from mamba_slm.export.onnx.build import build_graph
from mamba_slm.export.onnx.check import check_graph
from mamba_slm.export.onnx.graph import GraphWriter
from mamba_slm.export.onnx.runner import OnnxRunner
from mamba_slm.export.onnx.stored import plan_stored
from mamba_slm.export.onnx.weights import FusedMatrices, StandardMatrices
from mamba_slm.model.quantization import PLANS
from mamba_slm.ops.lowbit.blocks import dequantize, quantize_nearest
from mamba_slm.ops.lowbit.scheme import BLOCK_SIZES, Scheme, scheme_named
from quantized_models import QUANTIZATIONS, numbers_of, what_they_stand_for

INPUTS = 512
SCHEMES = [
    *(Scheme(format="int8", block_size=size, symmetric=even) for size in (0, *BLOCK_SIZES[:-1]) for even in (1, 0)),
    *(Scheme(format="int4", block_size=size, symmetric=even) for size in (0, *BLOCK_SIZES[:-1]) for even in (1, 0)),
    Scheme(format="int4", double=True),
    *(Scheme(format=name, block_size=size) for name in ("nf4", "fp4") for size in (64, 16)),
    Scheme(format="nf4", block_size=64, double=True),
]


def in_onnx_runtime(store, blocks):
    """The product of the unit matrix with a matrix, and its rows looked up: both are the matrix, transposed or not."""
    plan, writer = plan_stored({"w": blocks, "embedding.weight": blocks}), GraphWriter()
    matrices = store(writer, {}, plan)
    writer.input("x", np.float32, [1, "rows", INPUTS])
    writer.input("indices", np.int64, [1, "looked_up"])
    matrices.multiply("x", "w", output="y")
    writer.op("Identity", matrices.rows_of("embedding.weight", "indices"), output="rows")
    writer.output("y", [1, "rows", len(blocks.codes)])
    writer.output("rows", [1, "looked_up", INPUTS])
    graph = writer.to_model("products", opset=21, ir_version=10)
    for attribute in (each for node in graph.graph.node for each in node.attribute if each.name == "accuracy_level"):
        attribute.i = 1
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.add_session_config_entry("session.qdq_matmulnbits_accuracy_level", "1")
    session = onnxruntime.InferenceSession(graph.SerializeToString(), options, providers=["CPUExecutionProvider"])
    given = {"x": np.eye(INPUTS, dtype=np.float32)[None], "indices": np.arange(len(blocks.codes))[None]}
    product, rows = session.run(None, given)
    return product[0].T, rows[0]


@pytest.mark.parametrize("scheme", SCHEMES, ids=str)
def test_products_and_rows_are_those_of_the_numbers_to_the_last_bit(scheme):
    blocks = quantize_nearest(torch.randn(19, INPUTS, generator=torch.Generator().manual_seed(0)), scheme)
    for store in (FusedMatrices, StandardMatrices):
        if store is StandardMatrices and scheme.is_table:
            continue
        product, rows = in_onnx_runtime(store, blocks)
        np.testing.assert_array_equal(product, dequantize(blocks).numpy())
        np.testing.assert_array_equal(rows, dequantize(blocks).numpy())


def check(folder, form, model, plan, *, in_float32):
    """The graph in the folder in every way of reading."""
    runner = OnnxRunner(folder, form=form, num_threads=1, in_float32=in_float32)
    return check_graph(runner, model, plan, sequences(5, 65))


@pytest.mark.parametrize(
    ("form", "variant", "name"),
    [
        *(("fused", "rope", name) for name in QUANTIZATIONS if name not in ("int8", "int4", "int8-dynamic")),
        *(("portable", "rope", name) for name in ("mixed", "int8 with zero points", "nf4")),
        ("fused", "nope, two groups, untied", "mixed"),
        ("fused", "nope, two groups, untied", "fp4"),
    ],
)
def test_a_graph_of_a_quantized_model_computes_what_its_numbers_stand_for(tmp_path, variant, name, form):
    model = small_model(variant)
    plan = plan_stored(numbers_of(model, QUANTIZATIONS[name]))
    model = what_they_stand_for(model, QUANTIZATIONS[name])
    if form == "portable" and name in ("nf4", "fp4"):
        with pytest.raises(ConfigError, match=f"the portable form cannot hold {name}, of embedding.weight"):
            exported(tmp_path, model, form, plan=plan)
        return
    exported(tmp_path, model, form, plan=plan)
    exact = check(tmp_path, form, model, plan, in_float32=True)
    assert exact.max_logit_error < 2e-5
    assert exact.greedy_tokens == 64
    rounded = check(tmp_path, form, model, plan, in_float32=False)
    assert (rounded.relative_error > 1e-3) == (name not in ("nf4", "fp4"))  # which have no products in 8 bits


def test_matrices_of_different_schemes_that_are_read_together_are_multiplied_apart():
    model = small_model()
    keys_in_eight = PLANS["int4"].keeping({"k_proj": scheme_named("int8"), "v_proj": None})
    graph = build_graph(model, "fused", plan_stored(numbers_of(model, keys_in_eight)))
    attention = [each for each in graph.graph.node if each.name.startswith("MatMulNBits") or "MatMul" in each.op_type]
    assert sum("k_proj" in name for each in attention for name in each.input) == 2 * 2  # values and scales, per layer
    assert not any("+" in name for each in attention for name in each.input)
    together = build_graph(model, "fused", plan_stored(numbers_of(model, PLANS["int4"])))
    assert any("q_proj.weight+" in name for each in together.graph.node for name in each.input)


def test_rows_that_only_blocks_of_eight_divide_stay_float32():
    blocks = quantize_nearest(torch.randn(4, 24), scheme_named("int8"))
    assert blocks.block_size == 8
    assert plan_stored({"w": blocks}).bits_of("w") == 32
    assert plan_stored({"w": blocks}).weights == "fp32"
