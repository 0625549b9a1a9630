"""The part that needs no GPU: rows that a kernel of bitsandbytes wants filled up, on its kernels for CPUs."""

import pytest
import torch

from mamba_slm.model.bitsandbytes_projection import BitsAndBytesProjection, unsupported, with_rows_of
from mamba_slm.ops.lowbit.blocks import dequantize, quantize_nearest
from mamba_slm.ops.lowbit.scheme import Scheme, scheme_named
from mamba_slm.ops.lowbit.stored import to_stored
from tolerances import assert_close, tolerance_of

IN_PROJ_ROWS = 10_576
"""Of 2.7B: no multiple of 32."""


@pytest.fixture(scope="module", autouse=True)
def bitsandbytes():
    return pytest.importorskip("bitsandbytes")


def blocks(o, i, scheme):
    return quantize_nearest(torch.randn(o, i, generator=torch.Generator().manual_seed(0)) * 0.02, scheme)


@pytest.mark.parametrize("double", [False, True], ids=["", "double"])
@pytest.mark.parametrize("format", ["nf4", "fp4"])
def test_10576_rows_are_padded_inside_and_come_out_as_many(format, double):
    matrix = blocks(IN_PROJ_ROWS, 128, Scheme(format=format, block_size=64, double=double))
    layer = BitsAndBytesProjection(matrix, torch.float32, "cpu")
    x = torch.randn(3, 128)
    with torch.no_grad():
        found = layer(x)
    expected = x @ dequantize(matrix).T
    assert found.shape == (3, IN_PROJ_ROWS)
    assert_close(found, expected, tolerance_of("bitsandbytes", "bfloat16").values)
    assert layer.layer.weight.numel() * 2 == 10_592 * 128


def test_without_padding_its_packed_kernel_refuses_the_rows(bitsandbytes):
    matrix = blocks(48, 64, scheme_named("nf4"))
    tensors = {name.removeprefix("x.weight."): part for name, part in to_stored("x", matrix).items()}
    weight = bitsandbytes.nn.Params4bit.from_prequantized(tensors.pop("x.weight"), tensors, device="cpu")
    with pytest.raises(AssertionError, match="N must be divisible"):
        bitsandbytes.functional._convert_weight_packed_for_cpu(weight.data, weight.quant_state)


@pytest.mark.parametrize("format", ["nf4", "fp4"])
def test_added_rows_are_zeros_and_the_others_stay(format):
    matrix = blocks(33, 64, Scheme(format=format, block_size=32, double=True))
    padded = with_rows_of(matrix, 32)
    assert padded.shape == (64, 64)
    assert torch.equal(dequantize(padded)[:33], dequantize(matrix)) and not dequantize(padded)[33:].any()


def test_files_hold_no_added_rows():
    matrix = blocks(33, 64, scheme_named("nf4"))
    BitsAndBytesProjection(matrix, torch.float32, "cpu")
    assert to_stored("x", matrix)["x.weight"].numel() == 33 * 64 // 2


def test_it_says_where_it_cannot_be_used():
    assert unsupported(scheme_named("nf4"), "cuda") is None
    assert "GPUs" in str(unsupported(scheme_named("nf4"), "cpu"))
    assert "not by int4" in str(unsupported(scheme_named("int4"), "cuda"))
    assert "whole row" in str(unsupported(Scheme(format="nf4", block_size=0), "cuda"))
