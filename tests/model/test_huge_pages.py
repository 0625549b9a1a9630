"""Weights in huge pages are the same weights: values, names, ties, dtypes, and whatever is done with them later."""

import copy
import sys
from pathlib import Path

import pytest
import torch

from mamba_slm.model import huge_pages
from mamba_slm.model.config import ModelConfig
from mamba_slm.model.huge_pages import HUGE_PAGE_BYTES, huge_block, move_to_huge_pages
from mamba_slm.model.init import build_model
from small_models import varied_model

needs_linux = pytest.mark.skipif(huge_pages.MADV_HUGEPAGE is None, reason="only Linux gives huge pages on demand")


def model_of_some_megabytes(*, tied):
    config = ModelConfig(
        pattern="M-*-", vocab_size=1024, hidden_size=256, num_heads=4, num_kv_heads=2, feed_forward_size=512,
        state_size=16, max_context_tokens=64, tie_embeddings=tied,
    )  # fmt: skip
    return build_model(config, seed=2).eval()


@needs_linux
@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@torch.no_grad()
def test_a_moved_model_is_the_same_model(tied, dtype):
    model = model_of_some_megabytes(tied=tied).to(dtype)
    tokens = torch.arange(40)[None]
    before, weights = model(tokens), copy.deepcopy(model.state_dict())
    moved = move_to_huge_pages(model)
    assert moved >= sum(parameter.nbytes for parameter in model.parameters())
    assert moved % 64 == 0 and all(parameter.data_ptr() % 64 == 0 for parameter in model.parameters())
    assert torch.equal(model(tokens), before)
    found = model.state_dict()
    assert list(found) == list(weights) and all(torch.equal(found[name], weights[name]) for name in found)
    addresses = [parameter.data_ptr() for parameter in model.parameters()]
    assert max(addresses) - min(addresses) < moved, "one block"


@needs_linux
def test_parameters_that_share_memory_share_it_still():
    first, second = (torch.nn.Linear(1024, 1024, bias=False) for _ in range(2))
    second.weight.data = first.weight.data
    assert move_to_huge_pages(torch.nn.Sequential(first, second)) == 2**22
    assert first.weight.data_ptr() == second.weight.data_ptr()


@needs_linux
def test_a_moved_model_can_still_be_trained():
    model = model_of_some_megabytes(tied=True)
    move_to_huge_pages(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    tokens = torch.arange(40)[None]
    losses = []
    for _ in range(3):
        optimizer.zero_grad()
        loss = model.loss(tokens[:, :-1], tokens[:, 1:])
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[2] < losses[0]


def test_a_model_smaller_than_a_page_stays_where_it_is():
    model = varied_model()
    addresses = [parameter.data_ptr() for parameter in model.parameters()]
    assert move_to_huge_pages(model) == 0
    assert [parameter.data_ptr() for parameter in model.parameters()] == addresses


def test_without_huge_pages_on_demand_nothing_is_moved(monkeypatch):
    monkeypatch.setattr(huge_pages, "MADV_HUGEPAGE", None)
    assert move_to_huge_pages(model_of_some_megabytes(tied=True)) == 0
    assert not huge_block(100).any()


@pytest.mark.skipif(
    sys.platform != "linux" or "[never]" in Path("/sys/kernel/mm/transparent_hugepage/enabled").read_text(),
    reason="this system gives no huge pages",
)
def test_the_block_lies_in_huge_pages():
    def huge_kib():
        lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("AnonHugePages")).split()[1])

    before = huge_kib()
    block = huge_block(16 * HUGE_PAGE_BYTES).fill_(1)
    assert huge_kib() - before >= 8 * HUGE_PAGE_BYTES // 1024
    assert block.all()
