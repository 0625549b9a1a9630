import pytest
import torch

from mamba_slm.core.errors import ConfigError, ShapeError
from mamba_slm.ops.lowbit.blocks import dequantize, quantize_nearest
from mamba_slm.ops.lowbit.nibbles import DISTANCES, from_bytes, to_bytes
from mamba_slm.ops.lowbit.packed import (
    codes_of,
    linear_reference,
    pack_blocks,
    pack_codes,
    rounded_activations,
    scales_of,
    unpack,
    unpack_rows,
)
from mamba_slm.ops.lowbit.scheme import NAMED_SCHEMES, Scheme
from tolerances import assert_close, tolerance_of

SHAPES = [(16, 32), (1, 64), (37, 96)]


def random_codes(bits, o, i):
    return torch.randint(0, 1 << bits, (o, i), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("scale_dtype", [torch.float16, torch.float32], ids=["fp16", "fp32"])
def test_what_is_packed_comes_back_exactly(bits, shape, scale_dtype):
    codes = random_codes(bits, *shape)
    scales = torch.rand(shape[0], shape[1] // 32).to(scale_dtype)
    weight = pack_codes(codes, scales, bits=bits)
    assert torch.equal(codes_of(weight), codes)
    assert torch.equal(scales_of(weight), scales)
    assert (weight.num_outputs, weight.num_inputs, weight.block_size) == (*shape, 32)
    numbers = codes.float() - (1 << (bits - 1))
    assert torch.equal(unpack(weight), numbers * scales.float().repeat_interleave(32, dim=1))


def test_the_order_of_bits_is_the_documented_one():
    codes = torch.arange(16, dtype=torch.uint8).repeat(1, 2)
    words = pack_codes(codes, torch.ones(1, 1), bits=4).words  # [1 w 16]
    assert words[0, 0, 0].item() == 0x73625140 and not words[0, :, 1:].any()
    words = pack_codes(codes + 120, torch.ones(1, 1), bits=8).words
    assert words[0, 0, 0].item() == int.from_bytes(bytes([120, 121, 122, 123]), "little")


def test_bits_per_weight_count_the_scales():
    weight = torch.randn(16, 64)
    packed = {str(scheme): pack_blocks(quantize_nearest(weight, scheme)) for scheme in NAMED_SCHEMES.values()}
    assert packed["int4, blocks of 32"].bits_per_weight == 4.5 == packed["nf4, blocks of 64"].bits_per_weight
    assert packed["int8, blocks of 32"].bits_per_weight == 8.5
    assert packed["int4, blocks of 32"].num_bytes == 16 * 64 * 4.5 / 8


def test_what_does_not_fit_into_blocks_is_refused():
    with pytest.raises(ShapeError, match="multiple of 8"):
        pack_codes(torch.zeros(2, 36, dtype=torch.uint8), torch.ones(2, 3), bits=8)
    with pytest.raises(ShapeError, match="o=2"):
        pack_codes(torch.zeros(2, 32, dtype=torch.uint8), torch.ones(3, 1), bits=8)
    with pytest.raises(ConfigError, match="finite"):
        pack_codes(torch.zeros(1, 32, dtype=torch.uint8), torch.full((1, 1), torch.inf), bits=4)


@pytest.mark.parametrize("bits", [8, 4])
def test_a_product_is_that_with_the_unpacked_matrix(bits):
    weight, x = pack_codes(random_codes(bits, 24, 64), torch.rand(24, 2), bits=bits), torch.randn(2, 3, 64)
    assert_close(linear_reference(x, weight), x @ unpack(weight).T, tolerance_of("linear").values)
    assert linear_reference(x.bfloat16(), weight).dtype == torch.bfloat16


def test_codes_stand_for_numbers_around_their_zero_points_or_for_values_of_a_table():
    codes = torch.tensor([[0, 1, 15, 7, 8, 2, 3, 4] * 4], dtype=torch.uint8)
    scales, zeros = torch.tensor([[0.5, 2.0]]).half(), torch.tensor([[1, 15]], dtype=torch.uint8)
    asymmetric = pack_codes(codes, scales, bits=4, zero_points=zeros)
    assert unpack(asymmetric)[0, [0, 1, 2, 16, 17, 18]].tolist() == [-0.5, 0, 7, -30, -28, 0]
    table = torch.randn(16)
    looked_up = pack_codes(codes, scales, bits=4, table=table)
    assert torch.equal(unpack(looked_up), table[codes.long()] * scales.float().repeat_interleave(16, dim=1))
    for weight in (asymmetric, looked_up):
        assert torch.equal(codes_of(weight), codes)
        assert torch.equal(unpack_rows(weight, torch.tensor([0, 0])), unpack(weight).expand(2, -1))
    assert asymmetric.bits_per_weight == 4 + 24 / 16 and looked_up.bits_per_weight == 5
    moved = asymmetric.with_tensors(tensor.clone() for tensor in asymmetric.tensors)
    assert torch.equal(unpack(moved), unpack(asymmetric))


@pytest.mark.parametrize("width", [32, 64, 40])
def test_rounded_activations_are_within_half_a_step_of_their_block(width):
    x = torch.randn(3, 5, width, generator=torch.Generator().manual_seed(0)) * 10
    rounded = rounded_activations(x)
    for first in range(0, width, 32):
        block, near = x[..., first : first + 32], rounded[..., first : first + 32]
        steps = block.abs().amax(-1, keepdim=True) / 127
        assert ((near - block).abs() <= 0.5001 * steps).all()
        assert_close(near / steps, (near / steps).round(), 1e-6)
    assert_close(rounded_activations(rounded), rounded, 1e-6)
    assert not rounded_activations(torch.zeros(2, 32)).any()
    x[1, 2, 3] = torch.nan
    assert rounded_activations(x)[1, 2, :32].isnan().all() and rounded_activations(x)[0].isfinite().all()


SCHEMES = [
    *NAMED_SCHEMES.values(),
    Scheme(format="int4", symmetric=False),
    Scheme(format="int8", symmetric=False, block_size=0),
    Scheme(format="nf4", block_size=64, double=True),
]


@pytest.mark.parametrize("scheme", SCHEMES, ids=str)
def test_a_packed_matrix_stands_for_what_its_blocks_stand_for(scheme):
    blocks = quantize_nearest(torch.randn(37, 192, generator=torch.Generator().manual_seed(0)), scheme)
    packed = pack_blocks(blocks)
    assert torch.equal(unpack(packed), dequantize(blocks))
    assert packed.activations == scheme.activations
    rows = torch.tensor([36, 0, 17])
    assert torch.equal(unpack_rows(packed, rows), dequantize(blocks)[rows])


def test_what_cannot_be_packed_is_refused():
    codes, scales = torch.zeros(2, 32, dtype=torch.uint8), torch.ones(2, 1)
    with pytest.raises(ShapeError, match="zero points"):
        pack_codes(codes, scales, bits=4, zero_points=torch.zeros(2, 2, dtype=torch.uint8))
    with pytest.raises(ConfigError, match=r"0 … 15"):
        pack_codes(codes + 16, scales, bits=4)
    with pytest.raises(ConfigError, match="table"):
        pack_codes(codes, scales, bits=8, table=torch.zeros(16))


@pytest.mark.parametrize("order", DISTANCES)
def test_nibbles_come_back_from_every_order(order):
    numbers = random_codes(4, 3, 64).to(torch.int8) - 8
    stored = to_bytes(numbers, order)
    assert stored.shape == (3, 32) and torch.equal(from_bytes(stored, order), numbers)
    assert stored[0, 0].item() == (numbers[0, 0] + 8) | (numbers[0, DISTANCES[order]] + 8) << 4
