"""Promises of guessing ahead in the engine: the same answers in fewer steps, and no guesses where they do not pay."""

import json

import pytest

from mamba_slm.core.errors import ConfigError
from mamba_slm.generation.compiled.runtime import CompiledRuntime
from mamba_slm.generation.generate import generate
from mamba_slm.generation.loading import RuntimeSettings
from mamba_slm.generation.onnx_runtime import open_onnx
from mamba_slm.generation.runtime import TorchRuntime
from mamba_slm.generation.sampling import Sampler
from mamba_slm.generation.speculative.proposals import DraftModel, PromptLookup
from mamba_slm.generation.strategies.constraints import following_schema
from mamba_slm.generation.text import generate_text, prompt_tokens
from mamba_slm.ops.native.library import missing_for_native
from mamba_slm.serving.cache.prefix_cache import CacheSettings
from mamba_slm.serving.engine.checking import checker_of
from mamba_slm.serving.engine.executor import CompiledExecutor, TorchExecutor
from mamba_slm.serving.engine.guessing import Costs, Guessing, Odds
from mamba_slm.serving.engine.observer import Observer
from mamba_slm.serving.engine.opening import open_engine
from mamba_slm.serving.engine.settings import EngineSettings
from onnx_folders import save_onnx
from serving.engines import Engine, random_prompts
from small_models import small_tokenizer, varied_model

MODEL = varied_model(max_context_tokens=96).eval().requires_grad_(False)
OTHER = varied_model(max_context_tokens=96, seed=9).eval().requires_grad_(False)
PROMPTS = random_prompts([5, 1, 17, 33, 8, 40, 2, 25])
REPEATED = [random_prompts([6], seed=seed)[0] * 5 for seed in range(2)]
FREE = Costs(fixed_seconds=1.0, token_seconds=0.0)
compiled_only = pytest.mark.skipif(missing_for_native() is not None, reason=str(missing_for_native()))
KINDS = [TorchRuntime, pytest.param(CompiledRuntime, marks=compiled_only)]
SOURCES = {
    "prompt lookup": PromptLookup(most=5, shortest=1),
    "the model itself": DraftModel(runtime=TorchRuntime(MODEL), most=3),
    "another model": DraftModel(runtime=TorchRuntime(OTHER), most=3),
}


class Counting(Observer):
    """How many guesses there were, and how many were right."""

    drafted = accepted = 0

    def guessed(self, *, drafted, accepted):
        self.drafted += drafted
        self.accepted += accepted


def guessing_engine(source="prompt lookup", kind=TorchRuntime, costs=FREE, **settings):
    runtime = kind(MODEL)

    def executor(model, pool, **more):
        return CompiledExecutor(runtime, pool) if kind is CompiledRuntime else TorchExecutor(model, pool)

    engine = Engine(MODEL, executor=executor, **settings)
    engine.core.guessing = Guessing(SOURCES[source], runtime, checker_of(engine.executor, engine.pool), costs)
    engine.core.observer = Counting()
    return engine


def alone(prompt, max_new_tokens=8, **settings):
    return list(generate(MODEL, [prompt], max_new_tokens=max_new_tokens, **settings).completions[0].tokens)


def nothing_is_held(engine):
    engine.core.cache.clear()
    blocks = engine.pool.blocks
    return engine.pool.num_free_slots == engine.settings.max_running and blocks.num_free == blocks.count


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("source", SOURCES)
def test_requests_that_come_and_go_return_what_each_returns_alone(kind, source):
    engine = guessing_engine(source, kind)
    numbers = []
    prompts = [*REPEATED, *PROMPTS[:4]]
    for place, prompt in enumerate(prompts):
        numbers.append(engine.submit(prompt, 5 + place))
        engine.core.step()
    engine.run()
    for place, (number, prompt) in enumerate(zip(numbers, prompts, strict=True)):
        assert engine.tokens(number) == alone(prompt, 5 + place)
    assert 0 <= engine.core.observer.accepted <= engine.core.observer.drafted > 0
    assert nothing_is_held(engine)


def test_a_model_that_guesses_for_itself_is_always_right_and_saves_most_steps():
    engine = guessing_engine("the model itself", step_tokens=100)
    number = engine.submit(PROMPTS[0], 41)
    steps = 0
    while engine.core.step():
        steps += 1
    assert engine.tokens(number) == alone(PROMPTS[0], 41)
    assert engine.core.observer.accepted == engine.core.observer.drafted == 30
    assert steps == 1 + 10  # the prompt, and four tokens at a time


@pytest.mark.parametrize(
    "settings",
    [
        {"temperature": 1.0, "top_p": 0.9},
        {"temperature": 0, "repetition_penalty": 1.7, "frequency_penalty": 0.5},
        {"temperature": 0.8, "presence_penalty": 1.0},
    ],
)
def test_draws_of_the_same_seed_are_the_same(settings):
    sampler = Sampler.from_settings(**settings)
    engine = guessing_engine("the model itself")
    numbers = [engine.submit(prompt, 8, sampler=sampler, seed=3) for prompt in PROMPTS[:4]]
    engine.run()
    for number, prompt in zip(numbers, PROMPTS, strict=False):
        assert engine.tokens(number) == alone(prompt, 8, sampler=sampler, seed=3)
    assert engine.core.observer.accepted > 0


def test_text_ends_at_stop_strings_and_end_tokens_within_guesses():
    tokenizer = small_tokenizer()
    prompt = "def naïve("
    for stops in ((), ("e",), ("\n", "x")):
        expected = generate_text(MODEL, tokenizer, [prompt], max_new_tokens=20, stops=stops)[0][0]
        engine = guessing_engine("the model itself", tokenizer=tokenizer)
        number = engine.submit(prompt_tokens(tokenizer, prompt), 20, stops=stops, eos_id=tokenizer.eos_id)
        engine.run()
        assert engine.text(number) == expected.text
        assert engine.last(number).finish_reason == expected.finish_reason
    free = alone(PROMPTS[2], 8)
    engine = guessing_engine("the model itself")
    assert engine.ask(PROMPTS[2], 8, stop_ids=frozenset({free[4]})) == free[: free.index(free[4]) + 1]
    number = engine.submit(random_prompts([90])[0], 50)
    engine.run()
    assert len(engine.tokens(number)) == 6 and engine.last(number).finish_reason == "context"
    assert nothing_is_held(engine)


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("temperature", [0, 1.5])
def test_constrained_text_is_the_same_and_whole(source, temperature):
    tokenizer = small_tokenizer()
    schema = {"type": "array", "items": {"enum": ["naïve", "語"]}, "minItems": 2, "maxItems": 3}
    constraint = following_schema(json.dumps(schema), tokenizer)
    settings = {"sampler": Sampler.from_settings(temperature=temperature, constraint=constraint), "seed": 5}
    prompt = prompt_tokens(tokenizer, "x = ")
    engine = guessing_engine(source, tokenizer=tokenizer)
    number = engine.submit(prompt, 60, eos_id=tokenizer.eos_id, **settings)
    engine.run()
    assert engine.tokens(number)[:-1] == alone(prompt, 60, eos_id=tokenizer.eos_id, **settings)  # without its end
    assert set(json.loads(engine.text(number))) <= {"naïve", "語"}


@pytest.mark.parametrize("kind", KINDS)
def test_logprobs_are_those_without_guesses(kind):
    engines = [guessing_engine("the model itself", kind), Engine(MODEL)]
    results = []
    for engine in engines:
        number = engine.submit(PROMPTS[2], 12, logprobs=3)
        engine.run()
        results.append([(a.token, [one.token for one in a.top], a.logprob.logprob) for a in engine.answers[number]])
    for (token, top, logprob), (same, same_top, other) in zip(*results, strict=True):
        assert (token, top) == (same, same_top) and logprob == pytest.approx(other, abs=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_kept_of_an_answer_continues_it(kind):
    engine = guessing_engine("the model itself", kind)
    first = engine.ask(PROMPTS[2], 14)
    for cut in (3, 13):
        longer = [*PROMPTS[2], *first[:cut], *PROMPTS[0]]
        assert engine.ask(longer, 9) == alone(longer, 9)
    number = engine.submit([*PROMPTS[2], *first, 7], 9)
    engine.run()
    assert engine.last(number).usage.cached_tokens == len(PROMPTS[2]) + 13


def test_a_request_that_is_suspended_or_cancelled_leaves_nothing_behind():
    longest = -(-MODEL.config.max_context_tokens // 8)
    engine = guessing_engine("the model itself", blocks=longest, cache=CacheSettings(max_bytes=0))
    numbers = [engine.submit(prompt, 32) for prompt in PROMPTS[:4]]
    for _ in range(3):
        engine.core.step()
    engine.core.cancel(numbers[3])
    engine.run()
    for number, prompt in zip(numbers[:3], PROMPTS, strict=False):
        assert engine.tokens(number) == alone(prompt, 32)
    assert engine.core.suspensions > 0 and nothing_is_held(engine)


def test_a_request_without_guesses_gets_none_and_others_get_theirs():
    engine = guessing_engine("the model itself")
    plain = engine.submit(PROMPTS[0], 12, guess=False)
    engine.run()
    assert engine.core.observer.drafted == 0
    both = [engine.submit(PROMPTS[1], 12, guess=False), engine.submit(PROMPTS[2], 12)]
    engine.run()
    assert engine.core.observer.drafted > 0
    for number, prompt in zip([plain, *both], PROMPTS, strict=False):
        assert engine.tokens(number) == alone(prompt, 12)


def test_guesses_take_only_what_prompts_leave_of_a_step():
    engine = guessing_engine("the model itself", step_tokens=8, cache=CacheSettings(max_bytes=0))
    first = engine.submit(PROMPTS[0], 30)
    for _ in range(3):
        engine.core.step()
    drafted = engine.core.observer.drafted
    long = engine.submit(PROMPTS[5], 2)
    while engine.core._tasks[long].unread > 7:
        engine.core.step()
    assert engine.core.observer.drafted == drafted
    engine.run()
    assert engine.tokens(first) == alone(PROMPTS[0], 30) and engine.tokens(long) == alone(PROMPTS[5], 2)


def test_where_guesses_are_dear_there_are_hardly_any():
    engine = guessing_engine("another model", costs=Costs(fixed_seconds=0.0, token_seconds=1.0))
    assert engine.ask(PROMPTS[0], 80) == alone(PROMPTS[0], 80)
    assert engine.core.observer.drafted <= 3


def test_odds_follow_what_happened():
    odds = Odds()
    for _ in range(30):
        odds.told(guessed=4, right=0)
    assert odds.likely < 0.05 and [odds.ask(0.5, 4) for _ in range(9)] == [0] * 8 + [1]
    odds.told(guessed=1, right=0)
    assert [odds.ask(0.5, 4) for _ in range(17)] == [0] * 16 + [1]  # a longer rest
    for _ in range(40):
        odds.told(guessed=1, right=1)
    assert odds.ask(0.5, 4) == 4


def test_the_costs_of_an_engine_are_measured_and_told():
    source = DraftModel(runtime=TorchRuntime(OTHER), most=3)
    core = open_engine(TorchRuntime(MODEL), EngineSettings(max_running=2, kv_tokens=200), guesses=source)
    costs = core.guessing.costs
    assert costs.token_seconds > 0 and costs.guess_seconds > 0 and "(measured)" in core.guessing.description
    assert core.num_running == 0 and core.kv_usage == 0


def test_what_cannot_guess_is_refused_with_the_way_out(tmp_path):
    settings = EngineSettings(max_running=2, kv_tokens=200)
    onnx = open_onnx(save_onnx(MODEL, tmp_path), RuntimeSettings(threads=1)).runtime
    with pytest.raises(ConfigError, match=r"taken back .* onnxruntime .* cannot"):
        open_engine(onnx, settings, guesses=PromptLookup())
    with pytest.raises(ConfigError, match="batch-invariant"):
        open_engine(
            TorchRuntime(MODEL),
            EngineSettings(max_running=2, kv_tokens=200, batch_invariant=True),
            guesses=PromptLookup(),
        )
    stranger = DraftModel(runtime=TorchRuntime(varied_model(vocab_size=40)))
    with pytest.raises(ConfigError, match="vocabulary of 40"):
        open_engine(TorchRuntime(MODEL), settings, guesses=stranger)
