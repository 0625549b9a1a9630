"""Scales that are fitted instead of read off the largest weight."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mamba_slm.core.errors import ShapeError
from mamba_slm.ops.lowbit.blocks import dequantize, quantize_nearest, scales_of
from mamba_slm.ops.lowbit.scheme import Scheme
from mamba_slm.quantization.scales import (
    block_errors,
    least_squares_scales,
    with_fitted_scales,
    with_hqq_scales,
)

SCHEMES = [
    Scheme(format="int4"),
    Scheme(format="int4", symmetric=False),
    Scheme(format="int8", block_size=0),
    Scheme(format="nf4", block_size=64),
    Scheme(format="fp4", block_size=64),
]


@pytest.mark.parametrize("scheme", SCHEMES, ids=str)
@settings(max_examples=10)
@given(seed=st.integers(0, 2**31), spread=st.sampled_from([1e-3, 1.0, 300.0]), weighed=st.booleans())
def test_least_squares_are_never_worse_in_any_block(scheme, seed, spread, weighed):
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(6, 64, generator=generator) * spread
    importance = torch.rand(64, generator=generator) if weighed else None
    fitted = block_errors(weight, *least_squares_scales(weight, scheme, importance), scheme, importance)
    largest = block_errors(weight, *scales_of(weight, scheme), scheme, importance)
    assert (fitted <= largest).all()


@pytest.mark.parametrize("scheme", SCHEMES, ids=str)
@pytest.mark.parametrize("method", [with_fitted_scales, with_hqq_scales])
def test_a_heavy_tail_costs_less_than_with_scales_for_the_largest_weight(scheme, method):
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(32, 256, generator=generator) ** 3
    error = (dequantize(method(weight, scheme)) - weight).abs().mean()
    nearest = (dequantize(quantize_nearest(weight, scheme)) - weight).abs().mean()
    assert error <= nearest * (1.01 if scheme.format == "int8" else 1)


@pytest.mark.parametrize("method", [with_fitted_scales, with_hqq_scales])
def test_scales_in_8_bits_are_known_to_the_codes(method):
    weight = torch.randn(24, 128, generator=torch.Generator().manual_seed(1))
    scheme = Scheme(format="nf4", block_size=64, double=True)
    found = method(weight, scheme)
    assert found.nested is not None and torch.equal(found.scales, found.nested.values())


@pytest.mark.parametrize("scheme", SCHEMES, ids=str)
@pytest.mark.parametrize("method", [with_fitted_scales, with_hqq_scales])
def test_zeros_stay_zeros(scheme, method):
    assert not dequantize(method(torch.zeros(2, 64), scheme)).any()


def test_rows_without_a_block_are_refused():
    with pytest.raises(ShapeError, match="no block"):
        with_fitted_scales(torch.ones(2, 7), SCHEMES[0])
