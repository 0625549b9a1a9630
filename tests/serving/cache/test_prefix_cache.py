"""What the cache keeps, what it lets go, and what it says about it; no model is needed for that."""

import random
from dataclasses import dataclass

import pytest

from mamba_slm.core.errors import ConfigError
from mamba_slm.serving.cache import prefix_cache as module
from mamba_slm.serving.cache.cuts import cuts_between
from mamba_slm.serving.cache.prefix_cache import CacheSettings, PrefixCache
from mamba_slm.serving.memory.blocks import Blocks


@dataclass(frozen=True)
class State:
    """100 bytes and a share in blocks."""

    blocks: tuple[int, ...] = ()
    num_bytes: int = 100


class Machine:
    """A cache over eight blocks of ten bytes."""

    def __init__(self, *, max_bytes=1000, min_tokens=2):
        self.blocks, self.dropped = Blocks(8), []
        self.cache = PrefixCache(
            CacheSettings(max_bytes=max_bytes, min_tokens=min_tokens),
            memory=self.blocks,
            block_bytes=10,
            flops=lambda tokens: 1e6 * tokens,
            drop=self.drop,
        )

    def drop(self, state):
        self.dropped.append(state)
        self.blocks.release(state.blocks)

    def put(self, tokens, *, namespace="", blocks=0, shared=(), **settings):
        self.blocks.share(shared)
        state = State((*shared, *self.blocks.take(blocks)))
        return self.cache.put(namespace, tokens, state, **settings), state


def test_the_longest_state_that_a_prompt_continues_is_found():
    machine = Machine()
    machine.put((1, 2))
    _, longer = machine.put((1, 2, 3, 4))
    found = machine.cache.find("", (1, 2, 3, 4, 5))
    assert (found.length, found.entry.kept, found.miss) == (4, longer, None)
    assert machine.cache.find("", (1, 2, 3, 9, 9)).length == 2
    assert machine.cache.counts.reused_tokens == 6


def test_a_whole_prompt_is_reused_only_with_the_logits_after_it():
    machine = Machine()
    machine.put((1, 2))
    machine.put((1, 2, 3))
    assert machine.cache.find("", (1, 2, 3)).length == 2
    machine = Machine()
    machine.put((1, 2, 3), logits="logits")
    assert machine.cache.find("", (1, 2, 3)).length == 3


def test_where_prompts_part_is_told_also_within_an_edge():
    machine = Machine()
    machine.put((1, 2, 3, 4, 5, 6))
    found = machine.cache.find("", (1, 2, 3, 9))
    assert (found.length, found.branch, found.miss) == (0, 3, "no_match")


def test_every_miss_has_its_reason():
    machine = Machine(max_bytes=250)
    cache = machine.cache
    assert cache.find("", (7, 8, 9)).miss == "no_match"
    assert cache.find("", (7, 8)).miss == "too_short"
    machine.put((1, 2, 3, 4))
    assert cache.find("", (1, 9, 9, 9)).miss == "too_short"
    assert cache.find("other", (1, 2, 3, 4, 5)).miss == "salt"
    assert cache.find("", (1, 2, 3, 4, 5), enabled=False).miss == "disabled"
    machine.put((5, 5, 5, 5))
    machine.put((6, 6, 6, 6))
    gone = [tokens for tokens in [(1, 2, 3, 4), (5, 5, 5, 5), (6, 6, 6, 6)] if not cache.has("", tokens)]
    assert len(gone) == 1 and cache.find("", (*gone[0], 9)).miss == "evicted"
    assert cache.counts.misses == {"no_match": 1, "too_short": 2, "evicted": 1, "salt": 1, "disabled": 1}
    assert str(cache.counts).startswith("0 of 6 prompts hit")


def test_a_cache_without_room_says_that_it_is_disabled():
    machine = Machine(max_bytes=0)
    assert machine.put((1, 2, 3))[0] is False
    assert machine.cache.find("", (1, 2, 3, 4)).miss == "disabled"


def test_bytes_stay_within_the_budget_and_blocks_count_once():
    machine = Machine(max_bytes=350)
    _, first = machine.put((1, 2, 3, 4), blocks=2)
    machine.put((1, 2, 3, 4, 5, 6), blocks=1, shared=first.blocks)
    assert machine.cache.num_bytes == 230
    for number in range(10, 20):
        machine.put((number,) * 4, blocks=1)
        assert machine.cache.num_bytes <= 350
    assert machine.cache.counts.evicted == len(machine.dropped) == 12 - len(machine.cache)


def test_what_saves_the_fewest_flops_per_byte_goes_first():
    machine = Machine(max_bytes=330)
    machine.put((1,) * 50)
    machine.put((1,) * 52)  # saves two tokens more than the one above it
    machine.put((2,) * 40)
    machine.put((3,) * 30)
    assert not machine.cache.has("", (1,) * 52)
    assert machine.cache.has("", (3,) * 30)


def test_what_was_not_used_for_long_goes_before_what_was():
    machine = Machine(max_bytes=200)
    machine.put((1,) * 40)
    machine.put((2,) * 20)
    for _ in range(200):
        machine.cache.find("", (2,) * 21)
    machine.put((3,) * 20)
    assert not machine.cache.has("", (1,) * 40) and machine.cache.has("", (2,) * 20)


def test_blocks_that_others_hold_are_not_promised_and_not_freed():
    machine = Machine()
    running = machine.blocks.take(2)
    machine.put((1, 2, 3, 4), shared=running, blocks=1)
    machine.put((5, 6, 7, 8), blocks=2)
    assert machine.cache.reclaimable_blocks() == 3
    assert machine.cache.give_up(3) and machine.blocks.num_free == 6
    assert machine.cache.reclaimable_blocks() == 0 and not machine.cache.give_up(1)
    machine.blocks.release(running)
    assert machine.blocks.num_free == 8


def test_what_does_not_stay_is_dropped_at_once():
    machine = Machine()
    machine.put((1, 2, 3))
    for tokens in [(1, 2, 3), (9,)]:
        kept, state = machine.put(tokens)
        assert not kept and machine.dropped[-1] is state
    machine.cache.clear()
    assert len(machine.cache) == 0 and machine.cache.num_bytes == 0 and machine.blocks.num_free == 8


def test_a_prompt_is_cut_at_messages_at_the_branch_at_its_end_and_nowhere_before_the_start():
    cuts = cuts_between(100, 200, boundaries=[40, 120, 200], branch=150, every=0, min_tokens=16)
    assert cuts == [120, 150, 200]
    assert cuts_between(200, 200, boundaries=[40], branch=200, every=64, min_tokens=16) == []
    assert cuts_between(0, 12, boundaries=[4], branch=0, every=4, min_tokens=16) == [12]


@pytest.mark.parametrize("wrong", [{"max_bytes": -1}, {"every": -1}, {"min_tokens": 0}])
def test_settings_that_mean_nothing_are_refused(wrong):
    with pytest.raises(ConfigError, match="prefix cache"):
        CacheSettings(**wrong)


def test_the_order_of_eviction_is_that_of_worth_whatever_was_put_used_and_evicted_before():
    generator = random.Random(3)
    machine = Machine(max_bytes=1500)
    cache = machine.cache
    for _ in range(300):
        tokens = tuple(generator.choices((1, 2), k=generator.randint(2, 9)))
        if generator.random() < 0.3:
            cache.find("", (*tokens, 7))
        elif not cache.has("", tokens):
            machine.put(tokens, is_guess=generator.random() < 0.5)
            if len(cache) > 1 and generator.random() < 0.3:
                ranks = {node: cache.rank(node) for node in cache._nodes}
                cache._evict_one()
                (gone,) = ranks.keys() - cache._nodes.keys()
                assert ranks[gone] == min(ranks.values())
    assert cache.counts.evicted > 50


def test_states_on_a_grid_are_thinned_before_ends_of_prompts_go_and_count_fully_once_used():
    machine = Machine(max_bytes=1000)
    for prompt in (1, 2):
        for at in (10, 20, 30, 40):
            machine.put((prompt,) * at, is_guess=at < 40)
    machine.cache.find("", (*(1,) * 20, 9))  # somebody parted here
    for number in range(3, 8):
        machine.put((number,) * 40)
    kept = {at for at in (10, 20, 30, 40) if machine.cache.has("", (1,) * at)}
    assert kept == {20, 40} and machine.cache.has("", (2,) * 40)
    assert all(machine.cache.has("", (number,) * 40) for number in range(3, 8))


def test_what_is_remembered_of_evicted_states_is_bounded_however_many_salts_and_tokens_there_are(monkeypatch):
    monkeypatch.setattr(module, "MOST_GHOSTS", 20)
    monkeypatch.setattr(module, "MOST_GHOST_TOKENS", 300)
    machine = Machine(max_bytes=500)
    for number in range(100):
        machine.put((number,) * 5, namespace=f"salt {number}")
    cache = machine.cache
    assert (len(cache), len(cache._ghosts), len(cache._trees)) == (5, 20, 25)
    assert cache.find("salt 80", (80,) * 6).miss == "evicted"
    assert cache.find("salt 3", (3,) * 6).miss == "no_match"
    for number in range(10):
        machine.put((number,) * 100, namespace="long")
    assert len(cache._ghosts) <= 8 and cache._ghost_tokens == sum(node.depth for node in cache._ghosts) <= 300
    cache.clear()
    assert (len(cache._trees), cache._ghost_tokens) == (0, 0)
