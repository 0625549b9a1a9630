"""Promises of graphs behind the engine: what `generate` makes of a model alone, it makes among others."""

import pytest
import torch

from mamba_slm.generation.generate import generate
from mamba_slm.generation.loading import RuntimeSettings
from mamba_slm.generation.onnx_runtime import open_onnx
from mamba_slm.generation.onnx_state import RenewedStates
from mamba_slm.generation.sampling import Sampler
from mamba_slm.serving.cache.prefix_cache import CacheSettings
from mamba_slm.serving.engine.executor import ReadPiece
from mamba_slm.serving.engine.opening import open_engine, open_executor
from mamba_slm.serving.engine.request import EngineRequest, Failure
from mamba_slm.serving.engine.settings import EngineSettings
from onnx_folders import save_onnx
from serving.engines import random_prompts
from small_models import varied_model
from tolerances import assert_close, tolerance_of

CONTEXT = 96
MODEL = varied_model(vocab_size=64, max_context_tokens=CONTEXT).eval().requires_grad_(False)
PROMPTS = random_prompts([5, 1, 17, 33, 8, 40, 2, 25], vocab_size=64)
WAYS = ("fused in place", "fused", "portable")


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("onnx")
    return {form: save_onnx(MODEL, root / form, form=form) for form in ("fused", "portable")}


@pytest.fixture(params=WAYS)
def runtime(request, folders):
    runtime = open_onnx(folders[request.param.split()[0]], RuntimeSettings(threads=1)).runtime
    if request.param == "fused":
        runtime.states = RenewedStates
    return runtime


@pytest.fixture
def in_place(folders):
    return open_onnx(folders["fused"], RuntimeSettings(threads=1)).runtime


def settings_of(**settings):
    return EngineSettings(
        **(
            {"max_running": 4, "block_tokens": 8, "step_tokens": 24, "cache": CacheSettings(every=8, min_tokens=4)}
            | settings
        )
    )


def alone(prompt, max_new_tokens=8, **settings):
    return list(generate(MODEL, [prompt], max_new_tokens=max_new_tokens, **settings).completions[0].tokens)


class Asked:
    """A core and what it answered."""

    def __init__(self, runtime, **settings):
        self.core = open_engine(runtime, settings_of(**settings))
        self.answers = {}

    def submit(self, prompt, max_new_tokens=8, **settings):
        heard = []
        number = self.core.submit(
            EngineRequest(prompt=tuple(prompt), max_new_tokens=max_new_tokens, **settings), heard.append
        )
        self.answers[number] = heard
        return number

    def run(self):
        while self.core.step():
            pass

    def tokens(self, number):
        assert not any(isinstance(answer, Failure) for answer in self.answers[number]), self.answers[number]
        return [answer.token for answer in self.answers[number]]

    def usage(self, number):
        return self.answers[number][-1].usage


def test_requests_that_come_and_go_return_what_each_returns_alone(runtime):
    engine = Asked(runtime)
    numbers = []
    for place, prompt in enumerate(PROMPTS):  # more than there are slots, arriving while others run
        numbers.append(engine.submit(prompt, 4 + place))
        engine.core.step()
    engine.run()
    for place, (number, prompt) in enumerate(zip(numbers, PROMPTS, strict=True)):
        assert engine.tokens(number) == alone(prompt, 4 + place)


def test_prompts_that_arrive_together_are_read_together(in_place):
    engine = Asked(in_place, max_running=8, step_tokens=200)
    calls = []
    session = in_place.graph.session
    run = session.run_with_iobinding

    class Counted:
        def run_with_iobinding(self, binding):
            calls.append(binding)
            run(binding)

        def io_binding(self):
            return session.io_binding()

    engine.core._executor._graph = type(in_place.graph)(
        session=Counted(), states=in_place.graph.states, form=in_place.graph.form, device=in_place.graph.device
    )
    prompts = random_prompts([18, 20, 19, 20, 17, 20], vocab_size=64, seed=3)
    numbers = [engine.submit(prompt, 1, use_cache=False) for prompt in prompts]
    engine.run()
    assert len(calls) == 1
    for number, prompt in zip(numbers, prompts, strict=True):
        assert engine.tokens(number) == alone(prompt, 1)


def test_draws_are_those_of_torch(runtime):
    sampler = Sampler.from_settings(temperature=1.0, top_p=0.9, repetition_penalty=1.1)
    engine = Asked(runtime)
    numbers = [engine.submit(prompt, 6, sampler=sampler, seed=3) for prompt in PROMPTS]
    engine.run()
    for number, prompt in zip(numbers, PROMPTS, strict=True):
        assert engine.tokens(number) == alone(prompt, 6, sampler=sampler, seed=3)


def test_a_prompt_goes_on_from_every_state_that_is_kept(runtime):
    (prompt,) = random_prompts([60], vocab_size=64, seed=7)
    engine = Asked(runtime)
    engine.submit(prompt, 4)
    engine.run()
    for cut in (16, 33, 57, 59, 60):
        changed = [*prompt[:cut], *random_prompts([3], vocab_size=64, seed=cut)[0]]
        number = engine.submit(changed, 12)
        engine.run()
        assert engine.tokens(number) == alone(changed, 12)
        assert engine.usage(number).cached_tokens >= cut - cut % 8 - 8
    again = engine.submit(prompt, 12)
    engine.run()
    assert engine.usage(again).cached_tokens == 60 and engine.tokens(again) == alone(prompt, 12)


def test_a_suspended_request_goes_on_with_its_state(runtime):
    engine = Asked(runtime, max_running=1, step_tokens=64)
    low = engine.submit(PROMPTS[3], 12, priority=1)
    for _ in range(5):
        engine.core.step()
    high = engine.submit(PROMPTS[2], 3)
    engine.run()
    assert engine.usage(low).suspensions == 1
    assert engine.tokens(low) == alone(PROMPTS[3], 12) and engine.tokens(high) == alone(PROMPTS[2], 3)


def test_rows_have_room_for_the_whole_context(in_place, monkeypatch):
    monkeypatch.setattr("mamba_slm.serving.memory.onnx_pool.FIRST_CAPACITY", 4)
    engine = Asked(in_place)
    numbers = [engine.submit(prompt, CONTEXT) for prompt in PROMPTS[:4]]
    engine.run()
    for number, prompt in zip(numbers, PROMPTS, strict=False):
        assert engine.tokens(number) == alone(prompt, CONTEXT)


def test_in_batch_invariant_mode_no_bit_depends_on_others(in_place):
    def made(numbers, engine):
        engine.run()
        return [[(a.token, a.logprob.logprob) for a in engine.answers[number]] for number in numbers]

    together = Asked(in_place, batch_invariant=True)
    results = made([together.submit(prompt, 6, logprobs=0) for prompt in PROMPTS], together)
    for prompt, result in zip(PROMPTS, results, strict=True):
        single = Asked(in_place, batch_invariant=True)
        assert made([single.submit(prompt, 6, logprobs=0)], single) == [result]


def test_logits_after_every_token_and_states_on_the_way_are_those_of_torch(runtime):
    executor, pool = open_executor(runtime, settings_of())
    others = [pool.open() for _ in range(2)]
    sequence = pool.open()
    pool.close(others[0])
    tokens = PROMPTS[2]
    assert pool.grow(sequence, len(tokens))
    (read,) = executor.read([ReadPiece(sequence=sequence, tokens=tokens, keep_after=(3, 9), all_logits=True)])
    expected = MODEL(torch.tensor([tokens]))[0]
    assert_close(read.logits, expected, tolerance_of("oracle").values)
    for count, mamba in zip((3, 9), read.states, strict=True):
        pool.rewind(sequence, count, mamba)
        (again,) = executor.read([ReadPiece(sequence=sequence, tokens=tokens[count:])])
        assert_close(again.logits, expected[-1], tolerance_of("oracle").values)


@pytest.mark.parametrize("weights", ["int8", "int4"])
def test_quantized_graphs_follow_the_same_rules(tmp_path, weights):
    runtime = open_onnx(save_onnx(MODEL, tmp_path, weights=weights), RuntimeSettings(threads=1)).runtime
    engine = Asked(runtime)
    numbers = [engine.submit(prompt, 10, use_cache=False) for prompt in PROMPTS]
    engine.run()
    for number, prompt in zip(numbers, PROMPTS, strict=True):
        assert engine.tokens(number) == list(generate(runtime, [prompt], max_new_tokens=10).completions[0].tokens)
