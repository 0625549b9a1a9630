"""The bytes of quantized matrices against the programs that they are named after."""

import itertools

import pytest
import torch

from mamba_slm.core.errors import CheckpointError, ConfigError
from mamba_slm.ops.lowbit.blocks import dequantize, quantize_nearest
from mamba_slm.ops.lowbit.layouts import (
    from_bitsandbytes,
    from_matmul_nbits,
    from_nibbles,
    to_bitsandbytes,
    to_matmul_nbits,
    to_nibbles,
)
from mamba_slm.ops.lowbit.scheme import Scheme
from mamba_slm.ops.lowbit.stored import from_stored, stored_parts, to_stored

WHOLE = [
    Scheme(format=format, block_size=block, symmetric=symmetric)
    for format, block, symmetric in itertools.product(("int8", "int4"), (16, 32, 128), (True, False))
]
TABLES = [
    Scheme(format=format, block_size=block, double=double)
    for format, block, double in itertools.product(("nf4", "fp4"), (32, 64), (False, True))
]
OTHERS = [
    Scheme(format="int4", block_size=0, symmetric=False),
    Scheme(format="int8", double=True, symmetric=False),
    Scheme(format="int4", double=True),
    Scheme(format="nf4", block_size=0),
]


def weights(o=24, i=384):
    """Rows of 384 have three blocks of 128: zero points of 4 bits do not fill their last byte."""
    return torch.randn(o, i, generator=torch.Generator().manual_seed(0)) * 0.02


@pytest.mark.parametrize("scheme", WHOLE, ids=str)
def test_onnx_runtime_reads_the_same_matrix_out_of_the_bytes(scheme):
    onnx = pytest.importorskip("onnx")
    onnxruntime = pytest.importorskip("onnxruntime")
    blocks = quantize_nearest(weights(), scheme)
    layout = to_matmul_nbits(blocks)
    o, i = blocks.shape
    inputs = {"B": layout.values, "scales": layout.scales.float()}
    if layout.zero_points is not None:
        inputs["zero_points"] = layout.zero_points
    node = onnx.helper.make_node(
        "MatMulNBits", ["A", *inputs], ["Y"], domain="com.microsoft",
        K=i, N=o, bits=layout.bits, block_size=layout.block_size, accuracy_level=1,
    )  # fmt: skip
    graph = onnx.helper.make_graph(
        [node], "product",
        [onnx.helper.make_tensor_value_info("A", 1, [i, i])], [onnx.helper.make_tensor_value_info("Y", 1, [i, o])],
        [onnx.numpy_helper.from_array(tensor.numpy(), name) for name, tensor in inputs.items()],
    )  # fmt: skip
    imports = [onnx.helper.make_opsetid("", 21), onnx.helper.make_opsetid("com.microsoft", 1)]
    model = onnx.helper.make_model(graph, opset_imports=imports, ir_version=10)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"A": torch.eye(i).numpy()})
    assert torch.equal(torch.from_numpy(found).T, dequantize(blocks))  # each is one product with 1 and sums of 0


@pytest.mark.parametrize("scheme", [*WHOLE, *OTHERS[:3]], ids=str)
def test_whole_numbers_come_back_from_the_bytes_of_onnx_runtime(scheme):
    blocks = quantize_nearest(weights(), scheme)
    back = from_matmul_nbits(to_matmul_nbits(blocks), blocks.scheme, nested=blocks.nested)
    assert torch.equal(back.codes, blocks.codes) and torch.equal(dequantize(back), dequantize(blocks))


@pytest.mark.parametrize("scheme", TABLES, ids=str)
def test_bitsandbytes_reads_its_own_weight_out_of_the_bytes(scheme):
    bitsandbytes = pytest.importorskip("bitsandbytes")
    blocks = quantize_nearest(weights(), scheme)
    stored = to_stored("head", blocks)
    weight = bitsandbytes.nn.Params4bit.from_prequantized(
        stored.pop("head.weight"),
        {name.removeprefix("head.weight."): part for name, part in stored.items()},
        device="cpu",
    )
    assert torch.equal(bitsandbytes.functional.dequantize_4bit(weight.data, weight.quant_state), dequantize(blocks))


@pytest.mark.parametrize("scheme", TABLES, ids=str)
def test_a_layer_of_bitsandbytes_writes_what_is_read_here(scheme):
    bitsandbytes = pytest.importorskip("bitsandbytes")
    packed, state = bitsandbytes.functional.quantize_4bit(
        weights(), blocksize=scheme.block_size, quant_type=scheme.format, compress_statistics=scheme.double
    )
    parts = {name: torch.as_tensor(tensor) for name, tensor in state.as_dict(packed=True).items()}
    blocks = from_bitsandbytes({"": packed, **parts}, scheme)
    assert torch.equal(dequantize(blocks), bitsandbytes.functional.dequantize_4bit(packed, state))
    assert set(parts) | {""} == set(to_bitsandbytes(blocks))


@pytest.mark.parametrize("scheme", [*WHOLE, *TABLES, *OTHERS], ids=str)
def test_a_stored_matrix_is_the_same_matrix(scheme):
    blocks = quantize_nearest(weights(), scheme)
    tensors = to_stored("lm_head", blocks)
    assert sorted(tensors) == sorted(stored_parts("lm_head", blocks.scheme))
    back = from_stored("lm_head", tensors, blocks.scheme)
    assert torch.equal(back.codes, blocks.codes) and torch.equal(dequantize(back), dequantize(blocks))
    constants = 64 + 1024 * scheme.double + 400 if scheme.is_table else 4
    assert 0 <= sum(tensor.nbytes for tensor in tensors.values()) - blocks.stored_bytes <= constants


def test_nibbles_of_odd_counts_are_filled_up():
    codes = torch.randint(0, 16, (3, 7), dtype=torch.uint8)
    for first_is_high in (False, True):
        stored = to_nibbles(codes, first_is_high=first_is_high)
        assert stored.shape == (3, 4)
        assert torch.equal(from_nibbles(stored, 7, first_is_high=first_is_high), codes)
    assert to_nibbles(codes, first_is_high=True)[0, 0] == codes[0, 0] * 16 + codes[0, 1]


def test_what_does_not_fit_is_said():
    int4, nf4 = Scheme(format="int4"), Scheme(format="nf4")
    tensors = to_stored("head", quantize_nearest(weights(), int4))
    with pytest.raises(CheckpointError, match="head does not fit int4, blocks of 64"):
        from_stored("head", tensors, Scheme(format="int4", block_size=64))
    with pytest.raises(CheckpointError, match="zero_points"):
        from_stored("head", tensors, Scheme(format="int4", symmetric=False))
    tensors = to_stored("head", quantize_nearest(weights(), nf4))
    tensors["head.weight.quant_map"] += 1
    with pytest.raises(CheckpointError, match="other tables"):
        from_stored("head", tensors, nf4)
    with pytest.raises(ConfigError, match="nf4 or fp4"):
        to_bitsandbytes(quantize_nearest(weights(), int4))
    with pytest.raises(ConfigError, match="whole numbers"):
        to_matmul_nbits(quantize_nearest(weights(), nf4))
