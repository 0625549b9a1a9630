"""On a model that has learned something, the compiled step writes what the plain one writes."""

import pytest
import torch

from mamba_slm.generation.compiled.runtime import CompiledRuntime
from mamba_slm.generation.generate import generate
from mamba_slm.generation.text import prompt_tokens
from mamba_slm.model.checkpoint import load_model
from mamba_slm.model.packed import nearest_model
from mamba_slm.model.quantization import PLANS
from mamba_slm.ops.native.library import missing_for_native
from mamba_slm.text.tokenizer import Tokenizer

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(missing_for_native() is not None, reason=str(missing_for_native())),
]
NEW_TOKENS = 60


def test_the_greedy_text_is_the_same_alone_and_in_a_batch(trained_model):
    model, tokenizer = load_model(trained_model.folder), Tokenizer.load(trained_model.folder)
    prompts = [prompt_tokens(tokenizer, story[:80]) for story in trained_model.held_out[:6]]
    expected = generate(model, prompts, max_new_tokens=NEW_TOKENS).completions
    runtime = CompiledRuntime(model)
    assert generate(runtime, prompts, max_new_tokens=NEW_TOKENS).completions == expected
    alone = [generate(runtime, [prompt], max_new_tokens=NEW_TOKENS).completions[0] for prompt in prompts]
    assert tuple(alone) == expected


@pytest.mark.parametrize(("weights", "agreement"), [("int8", 0.97), ("mixed", 0.85), ("int4", 0.8)])
def test_packed_weights_keep_most_answers(trained_model, weights, agreement):
    model, tokenizer = load_model(trained_model.folder), Tokenizer.load(trained_model.folder)
    packed = nearest_model(load_model(trained_model.folder), PLANS[weights])
    runtime = CompiledRuntime(packed)
    kept = total = 0
    for story in trained_model.held_out[:8]:
        tokens = torch.tensor([prompt_tokens(tokenizer, story)[:200]])
        with torch.no_grad():
            expected = model(tokens)[0].argmax(dim=-1)
        state = runtime.new_state(1)
        found = torch.cat([runtime.next_logits(token[None, None], None, state) for token in tokens[0]]).argmax(dim=-1)
        kept, total = kept + int((found == expected).sum()), total + len(expected)
    assert kept / total >= agreement
