import itertools
import os
import platform
import subprocess
import sys
from dataclasses import replace

import pytest
import torch

import mamba_slm.ops.native.row_product as module
from mamba_slm.ops.kernels import loaded_kernel
from mamba_slm.ops.linear import rounded_rows
from mamba_slm.ops.lowbit.linear import packed_linear
from mamba_slm.ops.lowbit.packed import linear_reference, pack_codes, unpack
from mamba_slm.ops.native.row_product import FEW_ROWS, row_product, unpack_columns
from tolerances import assert_close, tolerance_of

SHAPES = [(16, 32), (5, 24), (37, 96), (64, 160)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("rows", [1, 2, 3, 7])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
def test_rows_times_a_plain_matrix(native_kernels, shape, rows, dtype):
    weight, x = torch.randn(shape).to(dtype), torch.randn(rows, shape[1])
    allowed = 1e-5 if dtype == torch.bfloat16 else tolerance_of("linear").values
    assert_close(row_product(x, weight), x @ weight.float().T, allowed)


def test_many_bfloat16_rows_are_multiplied_in_few_sizes(native_kernels, monkeypatch):
    weight, sizes, product = random_weight((64, 96), 32, 8, 0, "float"), set(), module.product_in_slices
    monkeypatch.setattr(module, "product_in_slices", lambda x, weight: sizes.add(len(x)) or product(x, weight))
    for rows in range(FEW_ROWS + 1, 200, 3):
        x = torch.randn(2, rows, 96).bfloat16()
        found = packed_linear(x, weight)
        assert found.shape == (2, rows, 64)
        assert_close(found.float(), linear_reference(x.float(), weight), tolerance_of("linear", "bfloat16").values)
    assert sizes <= {rounded_rows(rows) for rows in range(400)}


@pytest.mark.parametrize("scale_dtype", [torch.float16, torch.float32], ids=["fp16", "fp32"])
@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("rows", [1, 3, FEW_ROWS, FEW_ROWS + 1])
@pytest.mark.parametrize(("shape", "block_size"), [((16, 32), 32), ((37, 192), 64), ((40, 48), 16)], ids=str)
def test_rows_times_a_packed_matrix(native_kernels, shape, block_size, rows, bits, scale_dtype):
    weight = random_weight(shape, block_size, bits, 0, "float", scale_dtype=scale_dtype)
    x = torch.randn(rows, shape[1])
    assert loaded_kernel("packed_linear", "cpu", x, weight) is not None
    assert_close(packed_linear(x, weight), linear_reference(x, weight), tolerance_of("linear").values)
    for dtype in (torch.float32, torch.bfloat16):
        assert torch.equal(unpack_columns(weight, dtype), unpack(weight, dtype).T)


FORMS = [
    *((bits, with_zeros, activations) for bits in (8, 4) for with_zeros in (0, 1) for activations in ("float", "int8")),
    (4, "table", "float"),
]


def random_weight(shape, block_size, bits, form, activations, *, scale_dtype=torch.float16):
    """Random codes; `form`: 0 without zero points, 1 with them, or "table"."""
    generator = torch.Generator().manual_seed(0)
    o, i = shape
    codes = torch.randint(0, 1 << bits, shape, generator=generator, dtype=torch.uint8)
    scales = (torch.rand(o, i // block_size, generator=generator) + 0.5).to(scale_dtype)
    zeros = torch.randint(0, 1 << bits, (o, i // block_size), generator=generator, dtype=torch.uint8)
    return pack_codes(
        codes,
        scales,
        bits=bits,
        zero_points=zeros if form == 1 else None,
        table=torch.randn(16, generator=generator) if form == "table" else None,
        activations=activations,
    )


@pytest.mark.parametrize(("shape", "block_size"), [((16, 32), 32), ((37, 192), 64), ((40, 48), 16), ((17, 40), 8)])
def test_every_form_of_codes_gives_the_product_of_its_definition(native_kernels, shape, block_size):
    for form, scale_dtype in itertools.product(FORMS, (torch.float16, torch.float32)):
        weight = random_weight(shape, block_size, *form, scale_dtype=scale_dtype)
        for rows in (1, 2, 5, 8, 13, FEW_ROWS + 1, 70):
            x = torch.randn(rows, shape[1])
            assert loaded_kernel("packed_linear", "cpu", x, weight) is not None
            assert_close(packed_linear(x, weight), linear_reference(x, weight), tolerance_of("linear").values)
        for dtype in (torch.float32, torch.bfloat16):
            assert torch.equal(unpack_columns(weight, dtype), unpack(weight, dtype).T)


def test_rows_are_multiplied_alike_whoever_is_with_them(native_kernels):
    for form, rows in itertools.product(FORMS, (5, 8, 70)):
        weight, x = random_weight((37, 192), 32, *form), torch.randn(rows, 192)
        assert_close(row_product(x, weight), torch.cat([row_product(row[None], weight) for row in x]), 1e-6)


@pytest.mark.parametrize("bits", [8, 4])
def test_inputs_of_very_different_size_keep_their_precision(native_kernels, bits):
    weight = random_weight((16, 128), 32, bits, 0, "float")
    x = torch.randn(2, 128) * torch.logspace(-6, 6, 4).repeat_interleave(32)
    for part in range(4):
        alone = torch.zeros_like(x)
        alone[:, part * 32 : (part + 1) * 32] = x[:, part * 32 : (part + 1) * 32]
        assert_close(packed_linear(alone, weight), linear_reference(alone, weight), tolerance_of("linear").values)
    assert not packed_linear(torch.zeros(1, 128), weight).any()


def test_an_input_that_is_no_number_is_not_hidden(native_kernels):
    weight = random_weight((16, 64), 32, 8, 0, "float")
    for bad in (torch.nan, torch.inf):
        x = torch.randn(1, 64)
        x[0, 40] = bad
        assert not packed_linear(x, weight).isfinite().any()
        assert not packed_linear(x, replace(weight, activations="int8")).isfinite().any()


def test_bf16_inputs_give_bf16_outputs_of_any_shape(native_kernels):
    weight = random_weight((24, 64), 32, 4, 0, "float")
    for shape in ((64,), (2, 3, 64), (5, 20, 64)):
        x = torch.randn(shape).bfloat16()
        y = packed_linear(x, weight)
        assert y.dtype == torch.bfloat16
        assert_close(y, linear_reference(x, weight), tolerance_of("linear", torch.bfloat16).values)


def test_what_needs_gradients_goes_through_pytorch(native_kernels):
    weight = random_weight((16, 32), 32, 8, 0, "float")
    x = torch.randn(2, 32, requires_grad=True)
    assert loaded_kernel("packed_linear", "cpu", x, weight) is None
    (gradient,) = torch.autograd.grad(packed_linear(x, weight).sum(), x)
    assert_close(gradient, unpack(weight).sum(dim=0).expand(2, -1), tolerance_of("linear").gradients)


@pytest.mark.slow
@pytest.mark.skipif(platform.machine() != "x86_64", reason="needs the processors whose names it compiles for")
@pytest.mark.parametrize("processor", ["haswell", "x86-64-v2"])
def test_processors_without_wide_vectors_compute_the_same(processor, tmp_path):
    program = f"""
from mamba_slm.core import native
native.FLAGS = tuple("-march={processor}" if flag == "-march=native" else flag for flag in native.FLAGS)
from mamba_slm.ops.native import row_product
print(row_product.self_test())
"""
    environment = os.environ | {"MAMBA_SLM_CACHE": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "None"
    assert list((tmp_path / "native").glob("row_product-*.so"))
