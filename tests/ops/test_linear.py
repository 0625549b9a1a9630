"""One row by a matrix: every way gives the product, and none is taken where more than the product is wanted."""

import pytest
import torch
import torch.nn.functional as F

from mamba_slm.ops import linear as module
from mamba_slm.ops.linear import HAS_ONEDNN, is_plain, linear, one_row_bf16, one_row_in_parts, rows_by_onednn
from tolerances import assert_close, tolerance_of

SHAPES = [(1, 7), (6, 1), (12, 33), (640, 257)]


def random(*size, dtype=torch.float32):
    return torch.randn(*size, generator=torch.Generator().manual_seed(sum(size))).to(dtype)


@pytest.mark.parametrize("size", SHAPES)
@pytest.mark.parametrize("parts", [1, 2, 3])
def test_a_row_in_parts_is_the_product(size, parts):
    outputs = size[0] * parts
    x, weight = random(1, 1, size[1]), random(outputs, size[1])
    expected = F.linear(x.double(), weight.double())
    found = one_row_in_parts(x, weight, parts)
    assert found.shape == (1, 1, outputs)
    assert_close(found, expected, tolerance_of("linear").values)


@pytest.mark.parametrize("size", SHAPES)
def test_a_bf16_row_is_the_product_and_leaves_the_switch_as_it_was(size):
    x, weight = random(size[1], dtype=torch.bfloat16), random(*size, dtype=torch.bfloat16)
    for enabled in (True, False):
        torch._C._set_mkldnn_enabled(enabled)
        try:
            found = one_row_bf16(x, weight)
            assert torch._C._get_mkldnn_enabled() is enabled
        finally:
            torch._C._set_mkldnn_enabled(True)
        assert_close(found, F.linear(x.double(), weight.double()), tolerance_of("linear", "bfloat16").values)


@pytest.mark.skipif(not HAS_ONEDNN, reason="this PyTorch has no oneDNN")
@pytest.mark.parametrize("rows", [1, 2, 33])
@pytest.mark.parametrize("size", SHAPES)
def test_rows_by_onednn_are_the_product(size, rows):
    x, weight = random(2, rows, size[1]), random(*size)
    assert_close(rows_by_onednn(x, weight), F.linear(x.double(), weight.double()), tolerance_of("linear").values)


def test_few_numbers_of_rows_are_compiled_for_and_little_is_computed_in_vain():
    rounded = {rows: module.rounded_rows(rows) for rows in range(1, 8193)}
    assert all(rows <= more for rows, more in rounded.items())
    assert all(more <= 1.125 * rows for rows, more in rounded.items())
    assert len(set(rounded.values())) < 100
    assert all(module.rounded_rows(more) == more for more in rounded.values())


def test_a_row_among_many_is_the_same_whatever_rows_were_added():
    x, weight = random(144, 96), random(64, 96)
    whole = rows_by_onednn(x, weight)
    for rows in (129, 137, 144):
        assert torch.equal(rows_by_onednn(x[:rows], weight), whole[:rows])


def test_bfloat16_products_of_any_number_of_rows_are_of_few_sizes(monkeypatch):
    weight, sizes, product = random(64, 96, dtype=torch.bfloat16), set(), F.linear
    monkeypatch.setattr(module.F, "linear", lambda x, weight: sizes.add(x.shape[:-1].numel()) or product(x, weight))
    with torch.no_grad():
        for rows in range(2, 300):
            x = random(rows, 96, dtype=torch.bfloat16)
            found = linear(x, weight)
            assert_close(found, product(x.double(), weight.double()), tolerance_of("linear", "bfloat16").values)
    assert sizes == {module.rounded_rows(rows) for rows in range(2, 300)} and len(sizes) < 60


@pytest.fixture
def taken(monkeypatch):
    """Names of the special ways that were taken."""
    names = []
    for name in ("one_row_in_parts", "one_row_bf16", "rows_by_onednn"):
        way = getattr(module, name)
        monkeypatch.setattr(module, name, lambda *args, name=name, way=way: names.append(name) or way(*args))
    return names


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_linear_is_the_product_for_one_row_and_many(threads, dtype, taken):
    weight = random(12, 33, dtype=dtype)
    torch.set_num_threads(threads)
    with torch.no_grad():
        for rows in (0, 1, 2, 5):
            x = random(1, rows, 33, dtype=dtype)
            name = "bfloat16" if dtype == torch.bfloat16 else "float32"
            assert_close(linear(x, weight), F.linear(x.double(), weight.double()), tolerance_of("linear", name).values)
    several = ["rows_by_onednn"] * 2 * HAS_ONEDNN
    expected = {torch.bfloat16: ["one_row_bf16"], torch.float32: ["one_row_in_parts"] * (threads > 1) + several}
    assert taken == expected.get(dtype, [])


def test_gradients_autocast_mixed_types_and_views_take_the_stock_way(taken):
    x, weight = random(1, 33), random(12, 33)
    torch.set_num_threads(2)
    linear(x.requires_grad_(), weight).sum().backward()
    assert x.grad is not None
    with torch.no_grad():
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert linear(x, weight).dtype == torch.bfloat16
        assert not is_plain(x.double(), weight)
        assert_close(linear(x, random(33, 12).t()), F.linear(x, random(33, 12).t()), tolerance_of("linear").values)
        assert taken == []
        linear(x, weight)  # gradients could flow, but nobody asks for them
    assert taken == ["one_row_in_parts"]
