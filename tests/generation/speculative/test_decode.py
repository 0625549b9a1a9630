"""Guessing changes how fast a text is made, and nothing else about it."""

import dataclasses
import math
from collections import Counter

import pytest
import torch

from mamba_slm.core.errors import ConfigError
from mamba_slm.generation.compiled.runtime import CompiledRuntime
from mamba_slm.generation.cuda_graph import GraphRuntime
from mamba_slm.generation.generate import generate, stream_tokens
from mamba_slm.generation.onnx_runtime import open_onnx
from mamba_slm.generation.runtime import RuntimeSettings, TorchRuntime
from mamba_slm.generation.sampling import Sampler
from mamba_slm.generation.speculative.decode import Speculative
from mamba_slm.generation.speculative.proposals import DraftModel, PromptLookup
from mamba_slm.model.init import build_model
from mamba_slm.model.packed import nearest_model
from mamba_slm.model.quantization import PLANS
from mamba_slm.ops.native.library import missing_for_native
from onnx_folders import save_onnx
from small_models import varied_model
from tolerances import assert_close, tolerance_of

VOCAB = 40
PROMPT = [3, 1, 4, 1, 5, 9, 2, 6, 3, 1, 4, 1]
LONG = 200


def target(kind="torch"):
    """The model in one of its runtimes."""
    model = varied_model(vocab_size=VOCAB, max_context_tokens=LONG)
    if kind == "torch":
        return TorchRuntime(model)
    if kind == "graph":
        return GraphRuntime(model, record=False)
    if missing_for_native() is not None:
        pytest.skip(str(missing_for_native()))
    packed = nearest_model(model, PLANS["int8"], dtype=torch.float32) if kind == "compiled int8" else model
    return CompiledRuntime(packed)


class Oracle:
    """Guesses a known text, with every so many tokens wrong."""

    most = 5

    def __init__(self, text, wrong_every):
        self.text, self.wrong_every = text, wrong_every

    def start(self, runtime):
        return self

    def propose(self, text, most, choose):
        guesses = self.text[len(text) : len(text) + most]
        places = range(len(text), len(text) + len(guesses))
        return [
            (token + 1) % VOCAB if self.wrong_every and place % self.wrong_every == 0 else token
            for place, token in zip(places, guesses, strict=True)
        ]


def sources():
    """Every way to guess: none right, some, all, from the prompt, and by other models."""
    other = TorchRuntime(varied_model(vocab_size=VOCAB, seed=9, max_context_tokens=LONG))
    return {
        "lookup": PromptLookup(most=6, shortest=1),
        "another model": DraftModel(runtime=other),
        "itself": DraftModel(runtime=target()),
    }


@pytest.mark.parametrize("kind", ["torch", "graph", "compiled", "compiled int8"])
@pytest.mark.parametrize("source", ["lookup", "another model", "itself"])
def test_greedy_text_is_the_same(kind, source):
    runtime = target(kind)
    expected = generate(runtime, [PROMPT], max_new_tokens=30).completions
    found = generate(runtime, [PROMPT], max_new_tokens=30, strategy=Speculative(source=sources()[source]))
    assert found.completions == expected
    assert found.timing.decode_tokens == 29


@pytest.mark.parametrize("kind", ["torch", "compiled"])
@pytest.mark.parametrize("wrong_every", [0, 1, 2, 3, 7])
def test_every_token_that_is_right_saves_a_reading_and_wrong_ones_leave_no_trace(kind, wrong_every):
    runtime = target(kind)
    made = generate(runtime, [PROMPT], max_new_tokens=41).completions[0].tokens
    stream = stream_tokens(
        runtime, [PROMPT], max_new_tokens=41, strategy=Speculative(source=Oracle([*PROMPT, *made], wrong_every))
    )
    assert tuple(event.token for event in stream) == made
    assert stream.counts.made == 40
    if wrong_every == 0:
        assert (stream.counts.readings, stream.counts.right) == (7, 33)  # 6 tokens each, the last one 4
    if wrong_every == 1:
        assert (stream.counts.readings, stream.counts.right) == (40, 0)


SAMPLERS = {
    "drawn": Sampler.from_settings(temperature=0.7, top_p=0.9),
    "hot": Sampler.from_settings(temperature=1.5),
    "penalties": Sampler.from_settings(temperature=0.8, repetition_penalty=1.4, no_repeat_ngram_size=3),
    "greedy with a penalty": Sampler.from_settings(temperature=0, presence_penalty=1.0),
}


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("source", ["lookup", "another model", "itself"])
def test_the_same_seed_gives_the_same_text(sampler, source):
    runtime = target()
    settings = {"max_new_tokens": 16, "sampler": SAMPLERS[sampler], "seed": 3, "samples_per_prompt": 2}
    expected = generate(runtime, [PROMPT, [7, 8]], **settings)
    found = generate(runtime, [PROMPT, [7, 8]], **settings, strategy=Speculative(source=sources()[source]))
    assert found.completions == expected.completions


def test_a_draft_that_is_the_model_itself_is_always_right():
    stream = stream_tokens(
        target(),
        [PROMPT],
        max_new_tokens=41,
        sampler=SAMPLERS["drawn"],
        strategy=Speculative(source=DraftModel(runtime=target(), most=4)),
    )
    assert len(list(stream)) == 41
    assert stream.counts.right == stream.counts.guessed == 32
    assert stream.counts.tokens_per_reading == 5


@pytest.mark.slow
def test_drawn_texts_have_the_distribution_of_the_model():
    """Pearson's test of all first three tokens against their probabilities, computed one token at a time."""
    runtime, rows, prompt = target(), 250, [3, 1]
    sampler = Sampler.from_settings(temperature=0.9, top_k=2)
    other = TorchRuntime(varied_model(vocab_size=VOCAB, seed=9, max_context_tokens=LONG))
    expected = {}
    for first, p in probabilities(runtime, sampler, prompt):
        for second, q in probabilities(runtime, sampler, [*prompt, first]):
            for third, r in probabilities(runtime, sampler, [*prompt, first, second]):
                expected[first, second, third] = p * q * r
    for source in (DraftModel(runtime=other, most=2), Oracle([*prompt, *max(expected, key=expected.get)], 0)):
        made = generate(
            runtime,
            [prompt],
            max_new_tokens=3,
            sampler=sampler,
            samples_per_prompt=rows,
            seed=11,
            strategy=Speculative(source=source),
        )
        counts = Counter(completion.tokens for completion in made.completions)
        assert counts.keys() <= expected.keys()
        distance = sum((counts[text] - rows * p) ** 2 / (rows * p) for text, p in expected.items())
        freedom = len(expected) - 1
        assert distance < freedom + 4 * math.sqrt(2 * freedom)  # four standard deviations; the seed is fixed


def probabilities(runtime, sampler, text):
    """(token, probability) of what may follow."""
    logits = runtime.next_logits(torch.tensor([text]), None, runtime.new_state(1))
    p = sampler.filtered(logits).double().softmax(dim=-1)[0]
    return [(token, float(p[token])) for token in p.nonzero()[:, 0].tolist()]


@pytest.mark.parametrize("kind", ["torch", "graph", "compiled"])
@pytest.mark.parametrize("stop_after", [1, 2, 9])
def test_a_state_that_was_given_holds_all_but_the_last_token_wherever_the_stream_is_left(kind, stop_after):
    runtime = target(kind)
    made = generate(runtime, [PROMPT], max_new_tokens=30).completions[0].tokens
    state = runtime.new_state(1)
    stream = stream_tokens(
        runtime,
        [PROMPT],
        max_new_tokens=30,
        state=state,
        strategy=Speculative(source=Oracle([*PROMPT, *made], wrong_every=7)),
    )
    events = iter(stream)
    tokens = [next(events).token for _ in range(stop_after)]
    events.close()
    assert state.num_tokens.tolist() == [len(PROMPT) + stop_after - 1]
    expected = runtime.new_state(1)
    logits = runtime.next_logits(torch.tensor([[*PROMPT, *tokens]]), None, expected)
    found = runtime.next_logits(torch.tensor([[tokens[-1]]]), None, state)
    assert_close(found, logits, tolerance_of("model").values)


@pytest.mark.parametrize("kind", [TorchRuntime, CompiledRuntime])
def test_a_window_of_attention_may_drop_slots_in_between(kind):
    if kind is CompiledRuntime and missing_for_native() is not None:
        pytest.skip(str(missing_for_native()))
    config = dataclasses.replace(varied_model(vocab_size=VOCAB, max_context_tokens=LONG).config, attention_window=6)
    runtime = kind(build_model(config, seed=2).eval())
    made = generate(runtime, [PROMPT], max_new_tokens=150).completions
    for source in (Oracle([*PROMPT, *made[0].tokens], wrong_every=7), DraftModel(runtime=TorchRuntime(runtime.model))):
        found = generate(runtime, [PROMPT], max_new_tokens=150, strategy=Speculative(source=source))
        assert found.completions == made


def test_rows_end_for_the_same_reasons_at_the_same_places():
    runtime = target()
    made = generate(runtime, [PROMPT], max_new_tokens=30).completions[0].tokens
    strategy = Speculative(source=Oracle([*PROMPT, *made], 0))
    for settings in ({"eos_id": made[9]}, {"stop_ids": (made[13],)}, {"max_new_tokens": 3}, {"max_new_tokens": 1}):
        settings = {"max_new_tokens": 30, **settings}
        expected = generate(runtime, [PROMPT], **settings).completions
        assert generate(runtime, [PROMPT], **settings, strategy=strategy).completions == expected
    full = TorchRuntime(varied_model(vocab_size=VOCAB, max_context_tokens=20))
    expected = generate(full, [PROMPT], max_new_tokens=30).completions
    assert expected[0].finish_reason == "context"
    assert generate(full, [PROMPT], max_new_tokens=30, strategy=strategy).completions == expected


def test_a_row_that_is_stopped_makes_no_more():
    runtime = target()
    stream = stream_tokens(runtime, [PROMPT, PROMPT], max_new_tokens=9, strategy=Speculative(source=PromptLookup()))
    rows = []
    for event in stream:
        rows.append(event.row)
        if rows == [0, 0]:
            stream.stop_row(0)
    assert Counter(rows) == {0: 2, 1: 9}


def test_a_runtime_that_cannot_go_back_is_refused_with_what_can(tmp_path):
    onnx = open_onnx(save_onnx(varied_model(vocab_size=VOCAB), tmp_path), RuntimeSettings(threads=1)).runtime
    with pytest.raises(ConfigError, match=r"must be taken back.*onnxruntime"):
        stream_tokens(onnx, [PROMPT], max_new_tokens=3, strategy=Speculative(source=PromptLookup()))
