"""The products of other libraries with matrices of few bits, each in the fastest form that it documents for a CPU.

Every peer makes of a float32 matrix [o i] its own packed form, and of that a function x [m i] bfloat16 -> [m o].
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

Product = Callable[[Tensor], Tensor]
BLOCK = 32


def float32_linear(weight: Tensor) -> Product:
    """PyTorch's own, in float32."""
    return lambda x: F.linear(x.float(), weight)


def bfloat16_linear(weight: Tensor) -> Product:
    """PyTorch's own, in bfloat16."""
    rounded = weight.bfloat16()
    return lambda x: F.linear(x, rounded)


def torch_int8pack(weight: Tensor) -> Product:
    """`_weight_int8pack_mm`: a scale per row."""
    scales = weight.abs().amax(1) / 127
    numbers, scales = (weight / scales[:, None]).round().to(torch.int8), scales.bfloat16()
    return lambda x: torch.ops.aten._weight_int8pack_mm(x, numbers, scales)


def torch_int4pack(weight: Tensor) -> Product:
    """`_weight_int4pack_mm_for_cpu`: a scale and a zero per block of 32."""
    blocks = weight.unflatten(1, (-1, BLOCK))
    scales = blocks.abs().amax(2) / 7
    codes = (blocks / scales[..., None]).round().clamp(-8, 7) + 8
    packed = torch.ops.aten._convert_weight_to_int4pack_for_cpu(codes.flatten(1).int(), 2)
    both = torch.stack([scales, torch.zeros_like(scales)], dim=2).transpose(0, 1).contiguous().bfloat16()
    return lambda x: torch.ops.aten._weight_int4pack_mm_for_cpu(x, packed, BLOCK, both)


def torch_dynamic_qint8(weight: Tensor) -> Product:
    """`quantize_dynamic`, engine onednn: scales per row, inputs in 8 bits with one scale for all."""
    torch.backends.quantized.engine = "onednn"
    layer = torch.nn.Linear(weight.shape[1], weight.shape[0], bias=False)
    layer.weight.data = weight
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = torch.ao.quantization.quantize_dynamic(torch.nn.Sequential(layer), {torch.nn.Linear}, torch.qint8)
    return lambda x: model(x.float())


def torchao_product(weight: Tensor, config: Any) -> Product:
    """A linear layer of PyTorch after `torchao.quantize_`."""
    from torchao.quantization import quantize_

    layer = torch.nn.Linear(weight.shape[1], weight.shape[0], bias=False, dtype=torch.bfloat16)
    layer.weight.data = weight.bfloat16()
    model = torch.nn.Sequential(layer)
    quantize_(model, config)
    return lambda x: model(x)


def torchao_int8(weight: Tensor) -> Product:
    """`Int8WeightOnlyConfig`."""
    from torchao.quantization import Int8WeightOnlyConfig

    return torchao_product(weight, Int8WeightOnlyConfig())


def torchao_dynamic_int8(weight: Tensor) -> Product:
    """`Int8DynamicActivationInt8WeightConfig`: inputs in 8 bits with a scale per row."""
    from torchao.quantization import Int8DynamicActivationInt8WeightConfig

    return torchao_product(weight, Int8DynamicActivationInt8WeightConfig())


def torchao_int4(weight: Tensor) -> Product:
    """The prototype `Int4OpaqueTensor`, which calls PyTorch's kernel for 4 bits."""
    from torchao.prototype.quantization.int4 import PrototypeInt4WeightOnlyConfig

    return torchao_product(weight, PrototypeInt4WeightOnlyConfig(group_size=BLOCK))


def bitsandbytes_nf4(weight: Tensor) -> Product:
    """`Linear4bit` with NF4 in blocks of 64, as QLoRA has it."""
    bnb: Any = import_module("bitsandbytes.nn")
    layer = bnb.Linear4bit(weight.shape[1], weight.shape[0], bias=False, compute_dtype=torch.bfloat16, quant_type="nf4")
    layer.weight = bnb.Params4bit(weight.clone(), requires_grad=False, quant_type="nf4", blocksize=64)
    layer = layer.to("cpu").eval()
    return lambda x: layer(x)


def onnx_product(weight: Tensor, bits: int) -> Product:
    """MatMulNBits of ONNX Runtime at accuracy level 4 (inputs in 8 bits), float32 in and out."""
    import onnx
    import onnxruntime as ort
    from onnx import TensorProto, helper, numpy_helper

    from mamba_slm.ops.lowbit.blocks import quantize_nearest
    from mamba_slm.ops.lowbit.scheme import Scheme

    o, i = weight.shape
    blocks = quantize_nearest(weight, Scheme(format="int8" if bits == 8 else "int4", block_size=BLOCK))
    codes = blocks.codes if bits == 8 else blocks.codes[:, ::2] | blocks.codes[:, 1::2] << 4
    stored = {
        "b": codes.reshape(o, i // BLOCK, -1).numpy(),
        "scales": blocks.scales.float().numpy(),
    }
    node = helper.make_node(
        "MatMulNBits", ["x", "b", "scales"], ["y"], domain="com.microsoft",
        K=i, N=o, bits=bits, block_size=BLOCK, accuracy_level=4,
    )  # fmt: skip
    graph = helper.make_graph(
        [node],
        "product",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["m", i])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["m", o])],
        [numpy_helper.from_array(np.ascontiguousarray(array), name) for name, array in stored.items()],
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)], ir_version=10
    )
    onnx.checker.check_model(model)
    options = ort.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return lambda x: torch.from_numpy(session.run(["y"], {"x": x.float().numpy()})[0])


PEERS: dict[str, Callable[[Tensor], Product]] = {
    "bfloat16, F.linear": bfloat16_linear,
    "float32, F.linear": float32_linear,
    "int8, torch _weight_int8pack_mm": torch_int8pack,
    "int8, torchao weight only": torchao_int8,
    "int8, torch dynamic qint8": torch_dynamic_qint8,
    "int8, torchao dynamic": torchao_dynamic_int8,
    "int8, ONNX Runtime MatMulNBits": lambda weight: onnx_product(weight, 8),
    "int4, torch _weight_int4pack_mm_for_cpu": torch_int4pack,
    "int4, torchao weight only": torchao_int4,
    "int4, ONNX Runtime MatMulNBits": lambda weight: onnx_product(weight, 4),
    "nf4, bitsandbytes": bitsandbytes_nf4,
}
"""By name, the one to compare with first."""
