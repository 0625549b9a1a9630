"""Slots and blocks: nothing is lost, nothing is shared that somebody writes to, and every kind of model fits."""

import dataclasses

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mamba_slm.core.errors import ConfigError
from mamba_slm.generation.compiled.runtime import CompiledRuntime
from mamba_slm.model.config import ModelConfig
from mamba_slm.model.init import build_model
from mamba_slm.model.packed import nearest_model
from mamba_slm.model.quantization import PLANS
from mamba_slm.ops.native.library import missing_for_native
from mamba_slm.serving.engine.executor import CompiledExecutor, ReadPiece, TorchExecutor
from mamba_slm.serving.memory.blocks import Blocks
from mamba_slm.serving.memory.pool import Pool
from serving.engines import random_prompts
from tolerances import assert_close, tolerance_of

BASE = ModelConfig(
    pattern="-M-*-MM-*",
    vocab_size=40,
    hidden_size=32,
    num_heads=4,
    num_kv_heads=2,
    feed_forward_size=48,
    state_size=8,
    ssm_head_dim=16,
    chunk_size=8,
    max_context_tokens=64,
)
VARIETIES = {
    "rotary": {},
    "no positions": {"position": "nope"},
    "alibi": {"position": "alibi"},
    "learned": {"position": "learned"},
    "window": {"attention_window": 3},
    "two groups": {"num_groups": 2},
    "no attention": {"pattern": "M-M"},
    "no mamba": {"pattern": "*-*-"},
}


def model_of(variety):
    return build_model(dataclasses.replace(BASE, **VARIETIES[variety]), seed=1).eval().requires_grad_(False)


def pool_of(model, *, slots=4, blocks=40, block_tokens=4):
    dtype = model.embedding.weight.dtype
    return Pool(
        model.config, slots=slots, blocks=blocks, block_tokens=block_tokens, device=torch.device("cpu"), dtype=dtype
    )


def opened(pool, executor, prompt, piece=5):
    sequence = pool.open()
    for start in range(0, len(prompt), piece):
        assert pool.grow(sequence, len(prompt[start : start + piece]))
        executor.read([ReadPiece(sequence=sequence, tokens=prompt[start : start + piece])])
    return sequence


def stepped(pool, executor, sequences, tokens):
    assert all(pool.grow(sequence, 1) for sequence in sequences)
    return executor.step(sequences, tokens)


compiled_only = pytest.mark.skipif(missing_for_native() is not None, reason=str(missing_for_native()))
KINDS = ["torch", pytest.param("compiled", marks=compiled_only)]


def executor_of(kind, model, pool, **settings):
    if kind == "torch":
        return TorchExecutor(model, pool, **settings)
    return CompiledExecutor(CompiledRuntime(model), pool, **settings)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("variety", VARIETIES)
def test_rows_of_different_lengths_make_the_logits_of_whole_texts(variety, kind):
    model = model_of(variety)
    pool = pool_of(model)
    executor = executor_of(kind, model, pool)
    texts = random_prompts([17, 1, 8, 22], vocab_size=40)
    sequences = [opened(pool, executor, text) for text in texts]
    for order in ([0, 1, 2, 3], [3, 0], [2, 1, 0], [0, 1, 2, 3]):
        tokens = [5 + number for number in order]
        logits = stepped(pool, executor, [sequences[number] for number in order], tokens)
        for row, number in enumerate(order):
            texts[number].append(tokens[row])
            expected = model(torch.tensor([texts[number]]))[0, -1]
            assert_close(logits[row], expected, tolerance_of("model").values)
    assert [sequence.num_tokens for sequence in sequences] == [len(text) for text in texts]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("window", [0, 300])
def test_long_rows_beside_short_ones_keep_all_that_they_have_read(kind, window):
    model = build_model(dataclasses.replace(BASE, max_context_tokens=800, attention_window=window), seed=1).eval()
    pool = pool_of(model.requires_grad_(False), blocks=22, block_tokens=64)
    executor = executor_of(kind, model, pool)
    texts = random_prompts([600, 255, 256, 3], vocab_size=40)
    sequences = [opened(pool, executor, text, piece=200) for text in texts]
    for token in (4, 5):
        logits = stepped(pool, executor, sequences, [token] * 4)
        for row, text in enumerate(texts):
            text.append(token)
            assert_close(logits[row], model(torch.tensor([text]))[0, -1], tolerance_of("model").values)


@compiled_only
@pytest.mark.parametrize("weights", ["float32", "bfloat16", "int8", "nf4", "int8-dynamic"])
def test_the_compiled_step_gives_a_row_the_same_bits_alone_and_among_others(weights):
    model = build_model(dataclasses.replace(BASE, hidden_size=96, feed_forward_size=64, state_size=32), seed=1).eval()
    if weights in PLANS:
        model = nearest_model(model, PLANS[weights], dtype=torch.float32)
    else:
        model = model.to(getattr(torch, weights))
    pool = pool_of(model, slots=13, blocks=80)
    executor = executor_of("compiled", model, pool, is_batch_invariant=True)
    texts = random_prompts([3 + number for number in range(11)], vocab_size=40)
    with torch.no_grad():
        sequences = [opened(pool, executor, text) for text in texts]
    for number in range(0, 11, 3):
        snapshot = pool.snapshot(sequences[number])
        alone = pool.open(snapshot)
        expected = stepped(pool, executor, [alone], [number])[0]
        for others in (sequences[1:3], [one for one in sequences if one is not sequences[number]]):
            among = pool.open(snapshot)
            logits = stepped(pool, executor, [among, *others], [number] * (1 + len(others)))
            assert torch.equal(logits[0], expected)
            pool.close(among)
        pool.close(alone)
        pool.drop(snapshot)


@pytest.mark.parametrize("length", [3, 4, 5, 8])
def test_a_snapshot_stays_what_it_is_whatever_its_continuations_write(length):
    model = model_of("rotary")
    pool = pool_of(model)
    executor = TorchExecutor(model, pool)
    (text,) = random_prompts([length], vocab_size=40)
    owner = opened(pool, executor, text)
    snapshot = pool.snapshot(owner)
    rows = [owner, pool.open(snapshot), pool.open(snapshot)]
    for token in (7, 8, 9):
        logits = stepped(pool, executor, rows, [token, token + 10, token + 20])
    for row, first in enumerate((7, 17, 27)):
        expected = model(torch.tensor([[*text, first, first + 1, first + 2]]))[0, -1]
        assert_close(logits[row], expected, tolerance_of("model").values)
    again = pool.open(snapshot)
    expected = model(torch.tensor([[*text, 30]]))[0, -1]
    assert_close(stepped(pool, executor, [again], [30])[0], expected, tolerance_of("model").values)
    for sequence in (*rows, again):
        pool.close(sequence)
    pool.drop(snapshot)
    assert pool.blocks.num_free == pool.blocks.count and pool.num_free_slots == 4


def test_a_parked_state_comes_back_whole_in_another_place():
    model = model_of("rotary")
    pool = pool_of(model)
    executor = TorchExecutor(model, pool)
    first, second = random_prompts([9, 6], vocab_size=40)
    parked = pool.park(opened(pool, executor, first))
    other = opened(pool, executor, second)  # takes the slot and the blocks
    back = pool.unpark(parked)
    logits = stepped(pool, executor, [other, back], [1, 2])
    assert_close(logits[1], model(torch.tensor([[*first, 2]]))[0, -1], tolerance_of("model").values)
    assert_close(logits[0], model(torch.tensor([[*second, 1]]))[0, -1], tolerance_of("model").values)


def test_an_empty_slot_remembers_nothing_of_the_one_before():
    model = model_of("rotary")
    pool = pool_of(model, slots=1)
    executor = TorchExecutor(model, pool)
    first, second = random_prompts([9, 3], vocab_size=40)
    pool.close(opened(pool, executor, first))
    logits = stepped(pool, executor, [opened(pool, executor, second)], [3])
    assert_close(logits[0], model(torch.tensor([[*second, 3]]))[0, -1], tolerance_of("model").values)


def test_where_there_is_no_room_nothing_happens():
    model = model_of("rotary")
    pool = pool_of(model, slots=2, blocks=16)
    first = pool.open()
    assert pool.grow(first, 60) and pool.blocks.num_free == 1
    second = pool.open()
    assert not pool.grow(second, 5) and second.blocks == [] and pool.blocks.num_free == 1
    assert pool.open() is None
    with pytest.raises(ConfigError, match="takes 16 blocks"):
        pool_of(model, blocks=15)


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 5)), max_size=40))
def test_a_block_is_free_exactly_when_nobody_holds_it(actions):
    blocks, held = Blocks(6), []
    for kind, number in actions:
        if kind == 0:
            taken = blocks.take(number)
            assert (taken is None) == (number > 6 - len(set(held)))
            held += taken or []
        elif held:
            block = held[number % len(held)]
            if kind == 1:
                blocks.share([block])
                held.append(block)
            else:
                held.remove(block)
                blocks.release([block])
        assert blocks.num_free == 6 - len(set(held))
        assert all(blocks.owners(block) == held.count(block) for block in range(6))
