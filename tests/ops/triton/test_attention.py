"""FlexAttention sees what the intervals say, and skips the blocks that nobody sees."""

import pytest
import torch
from torch.nn.attention.flex_attention import create_block_mask, flex_attention

from mamba_slm.ops.attention import attention_reference, document_starts
from mamba_slm.ops.triton import attention as kernel
from tolerances import assert_close, tolerance_of

CUTS = {1: (), 40: (10, 11, 30), 128: (), 300: (128, 200), 384: (128, 200), 640: (5, 260, 384)}


def first_keys(t):
    """Documents that begin at CUTS[t] in one row, and one document in the other."""
    ids = torch.zeros(2, t, dtype=torch.int64)
    for cut in CUTS[t]:
        ids[0, cut:] += 1
    return document_starts(ids)


def random_inputs(t):
    return [torch.randn(2, t, heads, 32) for heads in (4, 2, 2)]


@pytest.mark.parametrize("t", CUTS)
def test_the_blocks_are_those_that_pytorch_finds_by_trying_every_pair(t):
    found = kernel.interval_mask(first_keys(t), 128)
    expected = create_block_mask(found.mask_mod, 2, None, t, t, device="cpu", BLOCK_SIZE=128)
    assert torch.equal(found.to_dense(), expected.to_dense())
    if t % 128 == 0:  # else PyTorch finds the last row of blocks never full
        assert torch.equal(found.kv_num_blocks, expected.kv_num_blocks)
        assert torch.equal(found.full_kv_num_blocks, expected.full_kv_num_blocks)


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
@pytest.mark.parametrize("t", [1, 40, 300])
def test_the_mask_is_the_definition(t):
    first_key, (q, k, v) = first_keys(t), random_inputs(t)
    mask = kernel.interval_mask(first_key, 128)
    out = flex_attention(*(m.transpose(1, 2) for m in (q, k, v)), block_mask=mask, enable_gqa=True)
    assert_close(
        out.transpose(1, 2), attention_reference(q, k, v, first_key=first_key), tolerance_of("attention").values
    )


def test_sublayers_of_a_call_share_one_mask():
    first_key = first_keys(300)
    made = kernel.block_mask_of(first_key, 128)
    assert kernel.block_mask_of(first_key, 128) is made
    assert kernel.block_mask_of(first_keys(300), 128) is not made


def test_what_pytorchs_own_kernels_do_better_is_refused():
    q, k, v = random_inputs(40)
    first_key = first_keys(40)
    assert kernel.refuses(q, k, v, first_key=first_key) is None
    assert "one document" in (kernel.refuses(q, k, v) or "")
    assert "masks" in (kernel.refuses(q, k, v, first_key=first_key, mask=torch.ones(1)) or "")
    assert "continue" in (kernel.refuses(q[:, :1], k, v, first_key=first_key) or "")
    assert "power of two" in (kernel.refuses(q[..., :24], k[..., :24], v[..., :24], first_key=first_key) or "")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_compiled_it_gives_the_definition_for_every_length():
    for t in CUTS:
        first_key, (q, k, v) = first_keys(t), random_inputs(t)
        with torch.no_grad():
            out = kernel.attention(q, k, v, first_key=first_key)
        assert_close(out, attention_reference(q, k, v, first_key=first_key), tolerance_of("attention").values)
