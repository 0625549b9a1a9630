"""Promises of quantized and bfloat16 models in the engine: each request returns what it returns alone."""

import pytest
import torch

from mamba_slm.generation.compiled.runtime import CompiledRuntime
from mamba_slm.generation.generate import generate
from mamba_slm.generation.runtime import TorchRuntime
from mamba_slm.generation.speculative.proposals import PromptLookup
from mamba_slm.model.checkpoint import load_model
from mamba_slm.model.packed import nearest_model
from mamba_slm.model.quantization import PLANS
from mamba_slm.ops.native.library import missing_for_native
from mamba_slm.serving.cache.prefix_cache import CacheSettings
from mamba_slm.serving.engine.checking import checker_of
from mamba_slm.serving.engine.guessing import Costs, Guessing
from mamba_slm.serving.engine.opening import open_engine
from mamba_slm.serving.engine.request import EngineRequest
from mamba_slm.serving.engine.settings import EngineSettings
from serving.engines import random_prompts
from small_models import save_small_model, varied_model

PROMPTS = random_prompts([5, 1, 17, 33, 8])
compiled_only = pytest.mark.skipif(missing_for_native() is not None, reason=str(missing_for_native()))
KINDS = [TorchRuntime, pytest.param(CompiledRuntime, marks=compiled_only)]


def rounded(weights, folder):
    """As `--weights` makes them."""
    if weights == "bfloat16":
        return load_model(save_small_model(folder / "small", max_context_tokens=96), dtype=torch.bfloat16)
    return nearest_model(varied_model(max_context_tokens=96), PLANS[weights])


def answers(runtime, *, guess=False, **settings):
    core = open_engine(
        runtime,
        EngineSettings(
            **(
                {"max_running": 4, "block_tokens": 8, "kv_tokens": 800, "step_tokens": 24}
                | {"cache": CacheSettings(every=8, min_tokens=4)}
                | settings
            )
        ),
    )
    if guess:
        checker = checker_of(core._executor, core._pool)
        core.guessing = Guessing(PromptLookup(shortest=1), runtime, checker, Costs(fixed_seconds=1, token_seconds=0))
    made = []
    for prompt in PROMPTS:
        made.append([])
        core.submit(EngineRequest(prompt=tuple(prompt), max_new_tokens=7), made[-1].append)
        core.step()
    while core.step():
        pass
    return [[piece.token for piece in each] for each in made]


@pytest.mark.parametrize(
    ("weights", "kind"),
    [
        ("int8", TorchRuntime),
        *(
            pytest.param(weights, CompiledRuntime, marks=compiled_only)
            for weights in ("int8", "int4", "nf4", "mixed", "int8-dynamic")
        ),
    ],
)
def test_a_quantized_model_returns_what_generate_returns_alone(weights, kind, tmp_path):
    runtime = kind(rounded(weights, tmp_path))
    alone = [list(generate(runtime, [prompt], max_new_tokens=7).completions[0].tokens) for prompt in PROMPTS]
    assert answers(runtime) == alone
    assert answers(runtime, guess=True) == alone


@pytest.mark.parametrize("kind", KINDS)
def test_in_bfloat16_no_request_depends_on_others_in_batch_invariant_mode(kind, tmp_path):
    runtime = kind(rounded("bfloat16", tmp_path))
    together = answers(runtime, batch_invariant=True)
    assert together == answers(runtime, batch_invariant=True, max_running=1)
    assert all(len(tokens) == 7 for tokens in answers(runtime, guess=True))
