from dataclasses import replace

import pytest
import torch

from mamba_slm.ops.kernels import Kernel, install_kernel, without_kernels
from mamba_slm.ops.lowbit import linear
from mamba_slm.ops.lowbit.blocks import quantize_nearest
from mamba_slm.ops.lowbit.linear import packed_linear, slow_products
from mamba_slm.ops.lowbit.packed import linear_reference, pack_blocks, unpack
from mamba_slm.ops.lowbit.scheme import NAMED_SCHEMES, scheme_named
from tolerances import assert_close, tolerance_of


@pytest.fixture
def no_kernels():
    """Every operation in PyTorch, and whatever the test installs."""
    with without_kernels():
        yield


def packed(name):
    return pack_blocks(quantize_nearest(torch.randn(24, 64), scheme_named(name)))


@pytest.mark.parametrize("name", NAMED_SCHEMES)
def test_without_a_kernel_the_definition_is_computed(no_kernels, name):
    weight, x = packed(name), torch.randn(3, 64)
    assert torch.equal(packed_linear(x, weight), linear_reference(x, weight))
    exact = linear_reference(x, replace(weight, activations="float"))
    assert_close(exact, x @ unpack(weight).T, tolerance_of("linear").values)
    assert weight.activations == "float" or not torch.equal(linear_reference(x, weight), exact)


def test_slow_products_are_named_with_their_reason(no_kernels, monkeypatch):
    line = slow_products([packed("int8"), packed("nf4")])
    assert line is not None and "slower than with bfloat16" in line and "no kernel" in line
    kernel = Kernel(name="test", run=linear_reference, refuses=lambda x, weight: None)
    install_kernel("packed_linear", "cpu", kernel)
    monkeypatch.setattr(linear, "has_instructions", lambda *names: True)
    assert slow_products(packed(name) for name in NAMED_SCHEMES) is None
    monkeypatch.setattr(linear, "has_instructions", lambda *names: False)
    assert slow_products([packed("int8"), packed("int4")]) is None
    assert "no AVX-512" in str(slow_products([packed("fp4")]))
