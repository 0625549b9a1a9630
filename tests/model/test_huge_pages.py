"""Weights in huge pages are the same weights: values, names, ties, dtypes, and whatever is done with them later."""

import copy
import re
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


def test_a_kernel_that_does_not_know_the_request_gives_plain_memory(monkeypatch):
    monkeypatch.setattr(huge_pages, "MADV_HUGEPAGE", 9999)
    assert not huge_block(HUGE_PAGE_BYTES).any()
    assert move_to_huge_pages(model_of_some_megabytes(tied=True)) > 0


def advice_on(address):
    """What the kernel was told about the memory at an address, as two letters each."""
    found, inside = set(), False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if border := re.match(r"([0-9a-f]+)-([0-9a-f]+) ", line):
            begin, end = (int(number, 16) for number in border.groups())
            inside = begin <= address < end
        elif inside and line.startswith("VmFlags:"):
            found |= set(line.split()[1:])
    return found


@needs_linux
def test_the_block_asks_for_huge_pages_and_other_memory_does_not():
    """Whether any are free is the system's business, at that moment."""
    block, other = huge_block(16 * HUGE_PAGE_BYTES).fill_(1), torch.ones(2 * HUGE_PAGE_BYTES, dtype=torch.uint8)
    knows_them = Path("/sys/kernel/mm/transparent_hugepage").is_dir()
    assert ("hg" in advice_on(block.data_ptr())) is knows_them
    assert "hg" not in advice_on(other.data_ptr())
    assert block.all()
