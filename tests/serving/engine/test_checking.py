"""Promises of reading guesses: logits are those of one token after the other, and what was wrong leaves no trace."""

import dataclasses

import pytest
import torch

from mamba_slm.core.errors import ConfigError
from mamba_slm.generation.compiled.runtime import CompiledRuntime
from mamba_slm.generation.runtime import TorchRuntime
from mamba_slm.model.init import build_model
from mamba_slm.model.packed import nearest_model
from mamba_slm.model.quantization import PLANS
from mamba_slm.ops.native.library import missing_for_native
from mamba_slm.serving.engine.checking import checker_of
from mamba_slm.serving.engine.executor import ReadPiece
from mamba_slm.serving.engine.opening import open_executor
from mamba_slm.serving.engine.settings import EngineSettings
from serving.engines import random_prompts
from small_models import varied_model
from tolerances import error_between, tolerance_of

MODEL = varied_model(max_context_tokens=96).eval().requires_grad_(False)
OTHERS = {
    "two groups, odd sizes": {"num_groups": 2, "ssm_head_dim": 8, "state_size": 21, "conv_kernel": 3},
    "window": {"attention_window": 5},
    "no mamba": {"pattern": "*-*-"},
}
BEFORE, GUESSED, KEPT = [13, 1, 30, 8], [5, 1, 3, 8], [2, 1, 3, 1]
compiled_only = pytest.mark.skipif(missing_for_native() is not None, reason=str(missing_for_native()))
KINDS = [TorchRuntime, pytest.param(CompiledRuntime, marks=compiled_only)]


def small(**changes):
    return build_model(dataclasses.replace(MODEL.config, **changes), seed=3).eval().requires_grad_(False)


def opened(kind, model):
    executor, pool = open_executor(kind(model), EngineSettings(max_running=6, block_tokens=8, kv_tokens=600))
    held = [pool.open() for _ in range(5)]
    pool.close(held.pop(1))  # slots of the others are no neighbours
    for sequence, length in zip(held, BEFORE, strict=True):
        assert pool.grow(sequence, length + max(GUESSED) + 4)
        executor.read([ReadPiece(sequence=sequence, tokens=random_prompts([length], seed=length)[0])])
    return executor, pool, held


def after_each(executor, sequences, tokens):
    """Logits of one token after the other."""
    return [
        torch.cat([executor.step([one], [token]) for token in given])
        for one, given in zip(sequences, tokens, strict=True)
    ]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("variety", [None, *OTHERS])
def test_guesses_give_the_logits_of_single_tokens_and_any_beginning_of_them_is_kept(kind, variety):
    model = MODEL if variety is None else small(**OTHERS[variety])
    tokens = random_prompts(GUESSED, seed=1)
    executor, _, sequences = opened(kind, model)
    expected = after_each(executor, sequences, tokens)
    executor, pool, sequences = opened(kind, model)
    checker = checker_of(executor, pool)
    for found, wanted in zip(checker.check(sequences, tokens), expected, strict=True):
        assert error_between(found, wanted) < tolerance_of("oracle").values
    checker.keep(KEPT)
    assert [one.num_tokens for one in sequences] == [b + k for b, k in zip(BEFORE, KEPT, strict=True)]
    other, _, unguessed = opened(kind, model)
    after_each(other, unguessed, [given[:count] for given, count in zip(tokens, KEPT, strict=True)])
    again = random_prompts([3] * 4, seed=2)
    wanted, found = after_each(other, unguessed, again), after_each(executor, sequences, again)
    for each, want in zip(found, wanted, strict=True):
        assert error_between(each, want) < tolerance_of("oracle").values


@compiled_only
@pytest.mark.parametrize("weights", ["int8", "int4"])
def test_quantized_weights_follow_the_same_rules(weights):
    model = nearest_model(MODEL, PLANS[weights])
    tokens = random_prompts(GUESSED, seed=1)
    executor, _, sequences = opened(CompiledRuntime, model)
    expected = after_each(executor, sequences, tokens)
    executor, pool, sequences = opened(CompiledRuntime, model)
    for found, wanted in zip(checker_of(executor, pool).check(sequences, tokens), expected, strict=True):
        assert error_between(found, wanted) < tolerance_of("oracle").values


def test_what_cannot_take_tokens_back_is_refused_with_the_way_out():
    executor, pool, _ = opened(TorchRuntime, MODEL)

    class Other:
        config, description = executor.config, "an abacus"
        read, step = executor.read, executor.step

    with pytest.raises(ConfigError, match="which an abacus cannot") as caught:
        checker_of(Other(), pool)
    assert "--prompt-lookup" in caught.value.hint
