import pytest
import torch

from mamba_slm.core.errors import ConfigError, ShapeError
from mamba_slm.ops.lowbit.blocks import dequantize, quantize_nearest
from mamba_slm.ops.lowbit.nibbles import DISTANCES, from_bytes, to_bytes
from mamba_slm.ops.lowbit.packed import (
    codes_of,
    linear_reference,
    numbers_of,
    pack,
    pack_blocks,
    pack_codes,
    rounded_activations,
    scales_of,
    unpack,
    unpack_rows,
)
from mamba_slm.ops.lowbit.rounding import round_weight
from mamba_slm.ops.lowbit.scheme import NAMED_SCHEMES, Scheme
from tolerances import assert_close, tolerance_of

SHAPES = [(16, 32), (1, 64), (37, 96)]


def random_numbers(bits, o, i):
    half = 1 << (bits - 1)
    return torch.randint(-half, half, (o, i), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("scale_dtype", [torch.float16, torch.float32], ids=["fp16", "fp32"])
def test_what_is_packed_comes_back_exactly(bits, shape, scale_dtype):
    numbers = random_numbers(bits, *shape)
    scales = torch.rand(shape[0], shape[1] // 32).to(scale_dtype)
    weight = pack(numbers, scales, bits=bits)
    assert torch.equal(numbers_of(weight).long(), numbers)
    assert torch.equal(scales_of(weight), scales)
    assert (weight.num_outputs, weight.num_inputs, weight.block_size) == (*shape, 32)
    assert torch.equal(unpack(weight), numbers * scales.float().repeat_interleave(32, dim=1))


def test_the_order_of_bits_is_the_documented_one():
    numbers = torch.arange(-8, 8).repeat(1, 2)
    words = pack(numbers, torch.ones(1, 1), bits=4).words  # [1 w 16]
    assert words[0, 0, 0].item() == 0x73625140 and not words[0, :, 1:].any()
    words = pack(numbers, torch.ones(1, 1), bits=8).words
    assert words[0, 0, 0].item() == int.from_bytes(bytes([120, 121, 122, 123]), "little")


@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("block_size", [32, 64, None])
def test_representable_weights_are_rounded_to_themselves(bits, block_size):
    numbers = random_numbers(bits, 5, 128).clamp(min=-127)
    numbers[:, ::32] = -8 if bits == 4 else 127
    weight = numbers * 0.25
    assert torch.equal(unpack(round_weight(weight, bits=bits, block_size=block_size)), weight)


@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("scale_dtype", [torch.float16, torch.float32], ids=["fp16", "fp32"])
def test_rounding_is_wrong_by_half_a_scale_at_most_and_by_one_where_four_bits_end(bits, scale_dtype):
    weight = torch.randn(40, 128, generator=torch.Generator().manual_seed(1)) * 0.02
    packed = round_weight(weight, bits=bits, block_size=32, scale_dtype=scale_dtype)
    steps = scales_of(packed).float().abs().repeat_interleave(32, dim=1)
    errors = (unpack(packed) - weight).abs() / steps
    rounding_of_scales = 0 if scale_dtype == torch.float32 else 0.07
    at_the_end = numbers_of(packed) == 7 if bits == 4 else torch.zeros_like(errors, dtype=torch.bool)
    assert errors[~at_the_end].max() <= 0.5 + rounding_of_scales + 1e-4
    assert bits == 8 or errors[at_the_end].max() <= 1 + rounding_of_scales


def test_zeros_stay_zeros_and_need_no_care():
    packed = round_weight(torch.zeros(3, 64), bits=4, block_size=32)
    assert not unpack(packed).any()


def test_bits_per_weight_count_the_scales():
    weight = torch.randn(16, 64)
    assert round_weight(weight, bits=4, block_size=32).bits_per_weight == 4.5
    assert round_weight(weight, bits=8, block_size=64, scale_dtype=torch.float32).bits_per_weight == 8.5
    assert round_weight(weight, bits=4, block_size=32).num_bytes == 16 * 64 * 4.5 / 8


def test_what_does_not_fit_into_blocks_is_refused():
    with pytest.raises(ShapeError, match="rows of 40 inputs"):
        round_weight(torch.zeros(2, 40), bits=8, block_size=32)
    with pytest.raises(ShapeError, match="multiple of 8"):
        round_weight(torch.zeros(2, 36), bits=8, block_size=12)
    with pytest.raises(ShapeError, match="o=2"):
        pack(torch.zeros(2, 32, dtype=torch.int8), torch.ones(3, 1), bits=8)
    with pytest.raises(ConfigError, match="-8 … 7"):
        pack(torch.full((1, 32), 8), torch.ones(1, 1), bits=4)
    with pytest.raises(ConfigError, match="finite"):
        round_weight(torch.full((1, 32), 1e9), bits=4)


@pytest.mark.parametrize("bits", [8, 4])
def test_a_product_is_that_with_the_unpacked_matrix(bits):
    weight, x = round_weight(torch.randn(24, 64), bits=bits, block_size=32), torch.randn(2, 3, 64)
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
    numbers = random_numbers(4, 3, 64).to(torch.int8)
    stored = to_bytes(numbers, order)
    assert stored.shape == (3, 32) and torch.equal(from_bytes(stored, order), numbers)
    assert stored[0, 0].item() == (numbers[0, 0] + 8) | (numbers[0, DISTANCES[order]] + 8) << 4
