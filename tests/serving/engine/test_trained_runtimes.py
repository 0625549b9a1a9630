"""On a model that has learned something: graphs of ONNX Runtime and guesses return what the model returns alone."""

import pytest
import torch

from mamba_slm.generation.compiled.runtime import CompiledRuntime
from mamba_slm.generation.generate import generate
from mamba_slm.generation.loading import RuntimeSettings
from mamba_slm.generation.onnx_runtime import open_onnx
from mamba_slm.generation.runtime import TorchRuntime
from mamba_slm.generation.speculative.proposals import PromptLookup
from mamba_slm.generation.text import prompt_tokens
from mamba_slm.model.checkpoint import load_model
from mamba_slm.model.packed import nearest_model
from mamba_slm.model.quantization import PLANS
from mamba_slm.ops.native.library import missing_for_native
from mamba_slm.serving.engine.checking import checker_of
from mamba_slm.serving.engine.guessing import Costs, Guessing
from mamba_slm.serving.engine.observer import Observer
from mamba_slm.serving.engine.opening import open_engine
from mamba_slm.serving.engine.request import EngineRequest
from mamba_slm.serving.engine.settings import EngineSettings
from mamba_slm.text.tokenizer import Tokenizer
from onnx_folders import save_onnx

pytestmark = pytest.mark.slow
REQUESTS, NEW_TOKENS = 64, 24
MARGIN = 1e-4
"""Of the two largest logits, where rounding may decide."""
compiled_only = pytest.mark.skipif(missing_for_native() is not None, reason=str(missing_for_native()))


class Right(Observer):
    tokens = 0

    def guessed(self, *, drafted, accepted):
        self.tokens += accepted


def answers(runtime, prompts, *, guess=False):
    """Tokens of every prompt, all served together; and how many of them were guessed."""
    core = open_engine(runtime, EngineSettings())
    core.observer = right = Right()
    if guess:
        costs = Costs(fixed_seconds=1.0, token_seconds=0.0)
        core.guessing = Guessing(PromptLookup(), runtime, checker_of(core._executor, core._pool), costs)
    made = [[] for _ in prompts]
    for prompt, into in zip(prompts, made, strict=True):
        core.submit(EngineRequest(prompt=prompt, max_new_tokens=NEW_TOKENS), into.append)
    while core.step():
        pass
    return [[answer.token for answer in each] for each in made], right.tokens


def assert_same_up_to_ties(runtime, prompts, found):
    """Against each prompt alone by `generate` of the same runtime."""
    for number in (0, 9, 21, 42, 63):
        alone = generate(runtime, [prompts[number]], max_new_tokens=NEW_TOKENS).completions[0].tokens
        if list(alone) != found[number]:
            place = next(place for place in range(NEW_TOKENS) if alone[place] != found[number][place])
            text = torch.tensor([[*prompts[number], *alone[:place]]])
            largest = runtime.next_logits(text, None, runtime.new_state(1))[0].topk(2).values
            assert float(largest[0] - largest[1]) < MARGIN


@pytest.fixture(scope="module")
def model_and_prompts(trained_model):
    tokenizer = Tokenizer.load(trained_model.folder)
    stories = trained_model.held_out
    texts = [stories[number % len(stories)][: 20 + 9 * number % 200] for number in range(REQUESTS)]
    return load_model(trained_model.folder).requires_grad_(False), [
        tuple(prompt_tokens(tokenizer, f"{text}\n{text}\n{text[:30]}")) for text in texts
    ]


def test_a_graph_returns_the_same_alone_and_among_63_others_up_to_ties(model_and_prompts, tmp_path):
    model, prompts = model_and_prompts
    runtime = open_onnx(save_onnx(model, tmp_path), RuntimeSettings(threads=1)).runtime
    assert_same_up_to_ties(runtime, prompts, answers(runtime, prompts)[0])


@pytest.mark.parametrize(
    ("kind", "weights"),
    [
        (TorchRuntime, None),
        pytest.param(CompiledRuntime, None, marks=compiled_only),
        pytest.param(CompiledRuntime, "int8", marks=compiled_only),
    ],
)
def test_guesses_change_no_answer_up_to_ties(kind, weights, model_and_prompts):
    model, prompts = model_and_prompts
    runtime = kind(model if weights is None else nearest_model(model, PLANS[weights]))
    found, right = answers(runtime, prompts, guess=True)
    assert_same_up_to_ties(runtime, prompts, found)
    assert right > 0  # how many depends on what the model has learned to repeat
