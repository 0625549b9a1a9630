import pytest
import torch

from mamba_slm.ops.lowbit.blocks import dequantize, quantize_nearest, scales_of
from mamba_slm.ops.lowbit.fake import fake_quantize, fake_quantize_inputs
from mamba_slm.ops.lowbit.scheme import Scheme, scheme_named
from tolerances import TOLERANCES, error_between

SCHEMES = [
    *(scheme_named(name) for name in ("int8", "int4", "nf4", "fp4")),
    Scheme(format="int4", symmetric=False),
    Scheme(format="int4", block_size=0),
    Scheme(format="nf4", block_size=64, double=True),
]


@pytest.fixture
def weight():
    return torch.randn(24, 128, generator=torch.Generator().manual_seed(0)) * 0.05


@pytest.fixture(scope="module")
def torchao_qat():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TORCHAO_FORCE_SKIP_LOADING_SO_FILES", "1")  # they are for GPUs
        return pytest.importorskip("torchao.quantization.qat", reason="needs torchao: pip install 'mamba-slm[qat]'")


@pytest.mark.parametrize("scheme", SCHEMES, ids=str)
def test_values_are_those_of_the_quantized_matrix_to_the_last_bit(weight, scheme):
    assert torch.equal(fake_quantize(weight, scheme), dequantize(quantize_nearest(weight, scheme)))


@pytest.mark.parametrize("scheme", SCHEMES, ids=str)
def test_autocast_changes_nothing(weight, scheme):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = fake_quantize(weight, scheme)
    assert torch.equal(rounded, dequantize(quantize_nearest(weight, scheme)))


@pytest.mark.parametrize("scheme", SCHEMES, ids=str)
def test_gradients_are_those_of_the_matrix_itself(weight, scheme):
    weight.requires_grad_()
    given = torch.randn_like(weight)
    (fake_quantize(weight, scheme) * given).sum().backward()
    assert torch.equal(weight.grad, given)


def test_a_block_of_zeros_stays_zero_and_is_no_division_by_zero():
    assert torch.equal(fake_quantize(torch.zeros(2, 32), scheme_named("int4")), torch.zeros(2, 32))


def test_inputs_of_a_product_are_rounded_in_blocks_of_32_to_8_bits():
    x = torch.randn(2, 3, 64)
    rounded = fake_quantize_inputs(x)
    assert rounded.shape == x.shape
    assert torch.equal(rounded[1, 2], fake_quantize(x[1, 2, None], scheme_named("int8"))[0])
    largest = x.unflatten(2, (2, 32)).abs().amax(dim=3, keepdim=True)
    assert ((rounded - x).unflatten(2, (2, 32)).abs() <= largest / 127 * 0.51).all()


def test_inputs_that_no_block_divides_stay():
    x = torch.randn(2, 12)
    assert fake_quantize_inputs(x) is x


@pytest.mark.parametrize("name", ["int4", "int8"])
def test_torchaos_fake_quantizer_with_our_scales_gives_the_same_values_and_gradients(weight, name, torchao_qat):
    scheme = scheme_named(name)
    config = torchao_qat.IntxFakeQuantizeConfig(getattr(torch, name), group_size=scheme.block_size, is_dynamic=False)
    theirs = torchao_qat.IntxFakeQuantizer(config)
    theirs.scale = scales_of(weight, scheme)[0].float()
    theirs.zero_point = torch.zeros_like(theirs.scale, dtype=torch.int32)
    ours_weight, their_weight = weight.clone().requires_grad_(), weight.clone().requires_grad_()
    ours, rounded = fake_quantize(ours_weight, scheme), theirs(their_weight)
    assert torch.equal(ours, rounded)
    given = torch.randn_like(weight)
    (ours * given).sum().backward()
    (rounded * given).sum().backward()
    numbers = weight.unflatten(1, (-1, scheme.block_size)) / theirs.scale[..., None]
    inside = (numbers.round() <= (7 if name == "int4" else 127)).flatten(1)  # theirs passes nothing where it clamps
    error = error_between(their_weight.grad[inside], ours_weight.grad[inside])
    assert error <= TOLERANCES["linear", "float32"].gradients
    assert inside.float().mean() > 0.95
