"""Pieces of several texts in one call: the logits and states of each are those that it has by itself."""

import dataclasses

import pytest
import torch

from mamba_slm.model.init import build_model
from mamba_slm.model.packed import nearest_model
from mamba_slm.model.quantization import PLANS
from mamba_slm.serving.engine.executor import ReadPiece, TorchExecutor
from serving.engines import random_prompts
from serving.memory.test_pool import BASE, VARIETIES, model_of, pool_of
from tolerances import assert_close, tolerance_of

TOLERANCE = tolerance_of("model").values


def read(pool, executor, texts, **settings):
    """Give each (sequence, tokens) its blocks, and read all in one call."""
    for sequence, tokens in texts:
        assert pool.grow(sequence, len(tokens))
    return executor.read([ReadPiece(sequence=one, tokens=tokens, **settings) for one, tokens in texts])


def expected(model, text):
    return model(torch.tensor([text]))[0]


@pytest.mark.parametrize("variety", VARIETIES)
def test_logits_are_those_of_whole_texts_whatever_was_read_before_and_beside(variety):
    model = model_of(variety)
    pool = pool_of(model)
    executor = TorchExecutor(model, pool)
    texts = random_prompts([19, 7, 30, 12], vocab_size=40)
    sequences = [pool.open() for _ in texts]
    at = [0] * 4
    for counts in ([5, 7, 1, 0], [1, 0, 9, 2], [0, 0, 20, 1], [13, 0, 0, 9]):  # some begin, some go on, some wait
        rows = [row for row in range(4) if counts[row]]
        pieces = [(sequences[row], texts[row][at[row] : at[row] + counts[row]]) for row in rows]
        results = read(pool, executor, pieces, all_logits=counts[0] == 1)
        for row, result in zip(rows, results, strict=True):
            logits = expected(model, texts[row][: at[row] + counts[row]])
            at[row] += counts[row]
            assert_close(result.logits, logits[-counts[row] :] if counts[0] == 1 else logits[-1], TOLERANCE)
    assert [sequence.num_tokens for sequence in sequences] == at == [19, 7, 30, 12]


@pytest.mark.parametrize("variety", ["rotary", "window", "no attention"])
def test_a_state_kept_on_the_way_goes_on_as_if_nothing_had_followed(variety):
    model = model_of(variety)
    pool = pool_of(model)
    executor = TorchExecutor(model, pool)
    first, second, tail = random_prompts([21, 10, 4], vocab_size=40)
    sequence, other = pool.open(), pool.open()
    assert pool.grow(sequence, 21) and pool.grow(other, 10)
    cuts = (1, 8, 20)
    pieces = [ReadPiece(sequence=sequence, tokens=first, keep_after=cuts), ReadPiece(sequence=other, tokens=second)]
    read_first, read_second = executor.read(pieces)
    assert not read_second.states
    for cut, mamba in zip(cuts, read_first.states, strict=True):
        snapshot = pool.snapshot(sequence, cut, mamba)
        branch = pool.open(snapshot)
        (result,) = read(pool, executor, [(branch, tail)])
        assert_close(result.logits, expected(model, [*first[:cut], *tail])[-1], TOLERANCE)
        pool.close(branch)
        pool.drop(snapshot)
    pool.rewind(sequence, 8, read_first.states[1])
    (result,) = read(pool, executor, [(sequence, tail)])
    assert_close(result.logits, expected(model, [*first[:8], *tail])[-1], TOLERANCE)


def test_kept_states_hold_no_memory_of_others():
    model = model_of("rotary")
    pool = pool_of(model)
    (text,) = random_prompts([30], vocab_size=40)
    sequence = pool.open()
    assert pool.grow(sequence, 30)
    piece = ReadPiece(sequence=sequence, tokens=text, keep_after=(3, 16, 17))
    for states in TorchExecutor(model, pool).read([piece])[0].states:
        for tensor in (tensor for pair in states for tensor in pair):
            assert tensor.untyped_storage().nbytes() == tensor.nbytes


@pytest.mark.parametrize("plan", ["int8", "int4", "int8-dynamic"])
def test_packed_weights_read_the_same_together_and_alone(plan):
    config = dataclasses.replace(BASE, hidden_size=96, feed_forward_size=64, state_size=32)
    model = nearest_model(build_model(config, seed=1).eval(), PLANS[plan], dtype=torch.float32)
    pool = pool_of(model)
    executor = TorchExecutor(model, pool)
    texts = random_prompts([19, 7, 30], vocab_size=40)
    together = read(pool, executor, [(pool.open(), text) for text in texts])
    for text, result in zip(texts, together, strict=True):
        alone = pool.open()
        (single,) = read(pool, executor, [(alone, text)])
        assert_close(result.logits, single.logits, TOLERANCE)
        pool.close(alone)
