"""The definitions of all formats, against bitsandbytes where it has the format."""

import itertools

import pytest
import torch

from mamba_slm.core.errors import ConfigError, ShapeError, UnknownNameError
from mamba_slm.ops.lowbit.blocks import (
    QuantizedBlocks,
    blocks_of_codes,
    dequantize,
    nearest_codes,
    quantize_nearest,
    values_of,
)
from mamba_slm.ops.lowbit.scheme import NAMED_SCHEMES, Scheme, scheme_named
from mamba_slm.ops.lowbit.tables import dynamic_table, order_of, table_of

WHOLE = [
    Scheme(format=format, block_size=block, symmetric=symmetric, double=double)
    for format, block, symmetric, double in itertools.product(
        ("int8", "int4"), (32, 128, 0), (True, False), (False, True)
    )
]
TABLES = [
    Scheme(format=format, block_size=block, double=double)
    for format, block, double in itertools.product(("nf4", "fp4"), (32, 64, 256), (False, True))
]


def weights(o=24, i=512, seed=0):
    weight = torch.randn(o, i, generator=torch.Generator().manual_seed(seed)) * 0.02
    weight[o // 8, : i // 2] = 0
    return weight


@pytest.mark.parametrize("scheme", [*WHOLE, *TABLES], ids=str)
def test_what_a_scheme_can_say_exactly_is_rounded_to_itself(scheme):
    blocks = quantize_nearest(weights(), scheme)
    values = dequantize(blocks)
    codes = nearest_codes(values, blocks.scales, blocks.zero_points, scheme)
    assert torch.equal(values_of(codes, blocks.scales, blocks.zero_points, scheme), values)
    again = blocks_of_codes(codes, blocks.scales, blocks.zero_points, scheme, nested=blocks.nested)
    assert torch.equal(dequantize(again), values)


@pytest.mark.parametrize("scheme", WHOLE, ids=str)
def test_whole_numbers_are_wrong_by_half_a_step_and_by_one_at_the_end_of_four_bits(scheme):
    weight = weights()
    blocks = quantize_nearest(weight, scheme)
    steps = blocks.scales.float().abs().repeat_interleave(blocks.block_size, dim=1)
    errors = (dequantize(blocks) - weight).abs() - 1e-7
    ends = (blocks.codes <= 1) | (blocks.codes == (1 << scheme.bits) - 1)
    slack = 0.14 if not scheme.double else 1.0  # scales are rounded to float16, or to 8 bits
    assert (errors <= steps * (0.5 + 1e-3))[~ends].all()
    assert (errors <= steps * (1 + slack)).all()
    assert not dequantize(blocks)[3, :256].any()


@pytest.mark.parametrize("scheme", TABLES, ids=str)
def test_tables_are_those_of_bitsandbytes_bit_for_bit(scheme):
    functional = pytest.importorskip("bitsandbytes.functional")
    weight = weights(96)
    ours = quantize_nearest(weight, scheme)
    packed, state = functional.quantize_4bit(
        weight, blocksize=scheme.block_size, quant_type=scheme.format, compress_statistics=scheme.double
    )
    codes = ours.codes.flatten()
    assert torch.equal(codes[::2] << 4 | codes[1::2], packed.flatten())
    if scheme.double:
        assert ours.nested is not None
        assert torch.equal(ours.nested.absmax, state.state2.absmax) and torch.equal(ours.nested.offset, state.offset)
        state.absmax = ours.nested.codes.flatten()  # its search on CPUs misses the nearest of two at times
    else:
        assert torch.equal(ours.scales.flatten(), state.absmax)
    assert torch.equal(dequantize(ours), functional.dequantize_4bit(packed, state))


def test_nested_scales_are_nearer_than_those_of_bitsandbytes_where_they_differ():
    functional = pytest.importorskip("bitsandbytes.functional")
    weight = weights(256)
    scheme = Scheme(format="nf4", block_size=32, double=True)
    ours, exact = quantize_nearest(weight, scheme), quantize_nearest(weight, Scheme(format="nf4", block_size=32))
    _, state = functional.quantize_4bit(weight, blocksize=32, quant_type="nf4", compress_statistics=True)
    theirs = functional.dequantize_blockwise(state.absmax, state.state2) + state.offset
    differ = ours.scales.flatten() != theirs
    assert differ.float().mean() < 0.01
    wanted = exact.scales.flatten()[differ]
    assert ((ours.scales.flatten()[differ] - wanted).abs() <= (theirs[differ] - wanted).abs() + 1e-9).all()


def test_tables_are_those_of_the_library():
    functional = pytest.importorskip("bitsandbytes.functional")
    for format in ("nf4", "fp4"):
        assert torch.equal(table_of(format), functional.get_4bit_type(format, "cpu"))
        assert (table_of(format)[order_of(format)].diff() >= 0).all()
    assert torch.equal(dynamic_table(), functional.create_dynamic_map())


def test_the_definition_is_code_minus_zero_times_scale():
    codes, scales = torch.tensor([[0, 15, 8, 9] * 2], dtype=torch.uint8), torch.tensor([[0.5]])
    assert values_of(codes, scales, None, Scheme(format="int4"))[0, :4].tolist() == [-4.0, 3.5, 0.0, 0.5]
    zeros = torch.tensor([[15]], dtype=torch.uint8)
    scheme = Scheme(format="int4", symmetric=False)
    assert values_of(codes, scales, zeros, scheme)[0, :4].tolist() == [-7.5, 0.0, -3.5, -3.0]
    assert values_of(codes, scales, None, scheme_named("nf4"))[0, :2].tolist() == [-0.5, 0.5]


def test_blocks_shrink_to_what_divides_a_row():
    scheme = Scheme(format="int4", block_size=128)
    fitted = [scheme.fitted(i) for i in (256, 96, 40, 36)]
    assert [each and each.block_size for each in fitted] == [128, 32, 8, None]
    assert quantize_nearest(weights(2, 96), scheme).block_size == 32
    with pytest.raises(ShapeError, match="rows of 36"):
        quantize_nearest(torch.zeros(2, 36), scheme)


@pytest.mark.parametrize("scheme", [*WHOLE, *TABLES], ids=str)
def test_bytes_are_those_of_the_parts(scheme):
    blocks = quantize_nearest(weights(), scheme)
    bits = blocks.codes.numel() * scheme.bits
    if blocks.nested is None:
        bits += blocks.scales.numel() * blocks.scales.element_size() * 8
    else:
        bits += blocks.nested.codes.numel() * 8 + blocks.nested.absmax.numel() * 32
    if blocks.zero_points is not None:
        row = blocks.zero_points.shape[1] * scheme.bits
        bits += len(blocks.zero_points) * -(-row // 8) * 8
    assert blocks.stored_bytes * 8 == bits


def test_what_a_scheme_cannot_be_is_refused():
    with pytest.raises(UnknownNameError, match="did you mean 'nf4'"):
        scheme_named("nf44")
    with pytest.raises(ConfigError, match="block_size must be one of"):
        Scheme(format="int4", block_size=48)
    with pytest.raises(ConfigError, match="no zero points"):
        Scheme(format="nf4", symmetric=False)
    with pytest.raises(ConfigError, match="no whole number"):
        Scheme(format="fp4", activations="int8")
    with pytest.raises(ConfigError, match="finite"):
        quantize_nearest(torch.full((1, 32), 1e9), NAMED_SCHEMES["int4"])
    blocks = quantize_nearest(weights(), NAMED_SCHEMES["int4"])
    with pytest.raises(ShapeError, match="do not fit the scheme"):
        QuantizedBlocks(scheme=Scheme(format="int4", block_size=64), codes=blocks.codes, scales=blocks.scales)
    with pytest.raises(ConfigError, match="zero points if and only if"):
        QuantizedBlocks(scheme=Scheme(format="int4", symmetric=False), codes=blocks.codes, scales=blocks.scales)
