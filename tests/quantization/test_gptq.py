"""GPTQ on matrices whose inputs vary together."""

import pytest
import torch

from mamba_slm.core.errors import CheckFailedError, ConfigError, ShapeError
from mamba_slm.ops.lowbit.blocks import (
    QuantizedBlocks,
    dequantize,
    nearest_codes,
    quantize_nearest,
    scales_of,
    values_of,
)
from mamba_slm.ops.lowbit.scheme import Scheme, scheme_named
from mamba_slm.quantization.gptq import GptqConfig, gptq, inverse_factor

SCHEMES = [
    Scheme(format="int4"),
    Scheme(format="int4", symmetric=False),
    Scheme(format="int4", block_size=0),
    Scheme(format="int4", block_size=64, double=True),
    Scheme(format="int8"),
    Scheme(format="int8", symmetric=False),
    Scheme(format="nf4", block_size=64),
    Scheme(format="fp4", block_size=64, double=True),
]


def correlated(num_tokens=400, inputs=128, seed=0):
    """Weights [o i], inputs [n i] that share most of their variance, and their mean x x^T."""
    generator = torch.Generator().manual_seed(seed)
    shared = torch.randn(num_tokens, 12, generator=generator) @ torch.randn(12, inputs, generator=generator)
    x = shared + 0.3 * torch.randn(num_tokens, inputs, generator=generator)
    return torch.randn(24, inputs, generator=generator), x, x.T @ x / num_tokens


def output_error(weight, blocks, x):
    return float((x @ (weight - dequantize(blocks)).T).square().mean())


@pytest.mark.parametrize("scheme", SCHEMES, ids=str)
@pytest.mark.parametrize("act_order", [False, True])
def test_outputs_are_nearer_than_after_rounding_to_the_nearest(scheme, act_order):
    weight, x, moments = correlated()
    found = gptq(weight, moments, scheme, GptqConfig(act_order=act_order))
    assert isinstance(found, QuantizedBlocks) and found.scheme == scheme
    assert output_error(weight, found, x) < 0.5 * output_error(weight, quantize_nearest(weight, scheme), x)


@pytest.mark.parametrize("act_order", [False, True])
def test_codes_are_those_of_the_textbook_loop(act_order):
    weight, _, moments = correlated(inputs=64)
    scheme, config = Scheme(format="int4", block_size=16), GptqConfig(act_order=act_order, fit_scales=False)
    order = torch.argsort(moments.diagonal(), descending=True, stable=True) if act_order else torch.arange(64)
    upper = inverse_factor(moments[order][:, order], config.damp)
    w, codes = weight.clone()[:, order], torch.empty_like(weight, dtype=torch.uint8)
    scales = scales_of(weight, scheme)[0]
    for j in range(64):
        column = int(order[j])
        block = slice(column // 16, column // 16 + 1)
        if not act_order and column % 16 == 0:
            scales[:, block] = scales_of(w[:, j : j + 16], scheme)[0]
        codes[:, column] = nearest_codes(w[:, j : j + 1], scales[:, block], None, scheme)[:, 0]
        error = (w[:, j] - values_of(codes[:, column, None], scales[:, block], None, scheme)[:, 0]) / upper[j, j]
        w[:, j:] -= error[:, None] * upper[j, j:]
    found = gptq(weight, moments, scheme, config)
    same = (found.codes == codes).float().mean()  # sums are added in another order, so a tie may fall otherwise
    assert same > 0.99
    assert torch.allclose(found.scales.float(), scales.float(), rtol=2e-3)


def test_uncorrelated_inputs_of_one_size_round_to_the_nearest():
    weight, _, _ = correlated()
    scheme = scheme_named("int4")
    found = gptq(weight, torch.eye(128), scheme, GptqConfig(fit_scales=False))
    nearest = quantize_nearest(weight, scheme)
    assert torch.equal(found.codes, nearest.codes) and torch.equal(found.scales, nearest.scales)


def test_inputs_that_are_always_zero_change_nothing():
    weight, _, moments = correlated()
    moments[5] = moments[:, 5] = 0
    found = dequantize(gptq(weight, moments, scheme_named("int4")))
    assert found.isfinite().all()
    assert dequantize(gptq(weight, torch.zeros(128, 128), scheme_named("int4"))).isfinite().all()


def test_rows_do_not_depend_on_how_many_are_worked_on_at_once(monkeypatch):
    weight, _, moments = correlated()
    for scheme in (Scheme(format="int4", symmetric=False), Scheme(format="nf4", block_size=64, double=True)):
        whole = gptq(weight, moments, scheme)
        monkeypatch.setattr("mamba_slm.quantization.gptq.SLICE_WEIGHTS", 5 * 128)
        cut = gptq(weight, moments, scheme)
        monkeypatch.undo()
        assert (whole.codes == cut.codes).float().mean() > 0.999
        assert torch.allclose(dequantize(whole), dequantize(cut), atol=0.5)


def test_the_weight_stays_as_it_was():
    weight, _, moments = correlated()
    before = weight.clone()
    gptq(weight, moments, scheme_named("int4"))
    assert torch.equal(weight, before)


def test_the_factor_inverts_the_damped_moments():
    _, _, moments = correlated(inputs=32)
    upper = inverse_factor(moments, 0.05).double()
    damped = moments.double() + 0.05 * moments.diagonal().mean() * torch.eye(32)
    assert torch.allclose(upper.T @ upper @ damped, torch.eye(32, dtype=torch.float64), atol=1e-3)


def test_what_cannot_work_is_refused():
    weight, _, moments = correlated()
    with pytest.raises(ConfigError, match="damp"):
        GptqConfig(damp=0)
    with pytest.raises(ShapeError, match="moments"):
        gptq(weight, moments[:5, :5], scheme_named("int4"))
    with pytest.raises(ShapeError, match="no block"):
        gptq(weight[:, :7], moments[:7, :7], scheme_named("int4"))
    with pytest.raises(CheckFailedError, match="not finite"):
        gptq(weight, moments * float("nan"), scheme_named("int4"))
