"""Rounding to blocks of 8 and 4 bits, and the layout that ONNX Runtime reads."""

import numpy as np
import onnxruntime
import pytest

from mamba_slm.core.errors import ConfigError
from mamba_slm.export.onnx.graph import CONTRIB, GraphWriter
from mamba_slm.export.onnx.quantize import quantize_matrix


def random_matrix(outputs=24, inputs=64, seed=0):
    return np.random.default_rng(seed).standard_normal((outputs, inputs)).astype(np.float32)


def test_eight_bits_are_off_by_half_a_step_at_most():
    matrix = random_matrix()
    packed = quantize_matrix(matrix, bits=8, block_size=32)
    error = np.abs(packed.dequantized() - matrix).reshape(24, 2, 32).max(axis=-1)
    assert (error <= packed.scales * 0.5001).all()
    assert np.abs(packed.numbers()).max() == 127


def test_four_bits_have_the_least_error_among_the_scales_tried():
    matrix = random_matrix()
    packed = quantize_matrix(matrix, bits=4, block_size=32)
    blocks = matrix.reshape(24, 2, 32)
    extreme = np.take_along_axis(blocks, np.abs(blocks).argmax(-1, keepdims=True), -1) / -8
    plain = np.clip(np.rint(blocks / extreme), -8, 7) * extreme
    error = np.square(packed.dequantized().reshape(blocks.shape) - blocks).sum(-1)
    assert (error <= np.square(plain - blocks).sum(-1) + 1e-6).all()
    assert error.sum() < 0.98 * np.square(plain - blocks).sum()
    assert {-8, 7} >= {packed.numbers().min(), packed.numbers().max()}


@pytest.mark.parametrize(("bits", "largest"), [(8, 127), (4, 7)])
def test_whole_multiples_of_a_step_are_kept_exactly(bits, largest):
    numbers = np.random.default_rng(1).integers(-largest, largest + 1, (6, 32)).astype(np.float32)
    numbers[:, 0] = largest if bits == 8 else -8
    packed = quantize_matrix(numbers * 0.25, bits=bits, block_size=32)
    np.testing.assert_array_equal(packed.dequantized(), numbers * 0.25)


@pytest.mark.parametrize("bits", [8, 4])
def test_a_block_of_zeros_stays_zeros(bits):
    matrix = random_matrix()
    matrix[:, :32] = 0
    packed = quantize_matrix(matrix, bits=bits, block_size=32)
    assert not packed.dequantized()[:, :32].any()
    assert packed.dequantized()[:, 32:].any()


@pytest.mark.parametrize("bits", [8, 4])
def test_the_bytes_are_those_that_onnx_runtime_multiplies_by(bits):
    """At accuracy level 1 MatMulNBits does not round its inputs, so it must give the product with `dequantized`."""
    packed = quantize_matrix(random_matrix(), bits=bits, block_size=32)
    writer = GraphWriter()
    writer.input("x", np.float32, ["rows", 64])
    writer.op(
        "MatMulNBits",
        "x",
        writer.initializer("values", packed.values),
        writer.initializer("scales", packed.scales),
        domain=CONTRIB,
        output="y",
        N=24,
        K=64,
        bits=bits,
        block_size=32,
        accuracy_level=1,
    )
    writer.output("y", ["rows", 24])
    graph = writer.to_model("product", opset=21, ir_version=10)
    session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    x = random_matrix(3, 64, seed=2)
    np.testing.assert_allclose(session.run(None, {"x": x})[0], x @ packed.dequantized().T, atol=1e-4)


def test_blocks_must_divide_the_inputs():
    with pytest.raises(ConfigError, match="64 inputs cannot be cut into blocks of 48"):
        quantize_matrix(random_matrix(), bits=8, block_size=48)
