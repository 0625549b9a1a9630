"""Promises of adapters by name: a request returns what the merged model returns, whoever else runs in its batch."""

import pytest
import torch

from mamba_slm.generation.generate import generate
from mamba_slm.generation.runtime import TorchRuntime
from mamba_slm.generation.speculative.proposals import DraftModel, PromptLookup
from mamba_slm.model.fingerprint import fingerprint
from mamba_slm.model.packed import nearest_model
from mamba_slm.model.quantization import PLANS
from mamba_slm.serving.adapters.own_tensors import with_own
from mamba_slm.serving.cache.prefix_cache import CacheSettings
from mamba_slm.serving.engine.observer import Observer
from serving.adapters.adapted_engine import adapted_engine, merged, store_of
from serving.adapters.adapter_folders import SMALL, write_adapter
from serving.engines import random_prompts
from small_models import varied_model

KINDS = {
    "plain": {"seed": 1},
    "wide": {"seed": 2, "rank": 7, "parts": ("in_proj", "k_proj", "o_proj")},
    "dora": {"seed": 3, "dora": True},
    "small": {"seed": 4, "full": SMALL},
}
PROMPTS = random_prompts([5, 17, 33, 2, 40], seed=7)


def fresh_model():
    return varied_model(max_context_tokens=96).eval().requires_grad_(False)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("adapters")
    for name, settings in KINDS.items():
        write_adapter(place / name, fresh_model(), **settings)
    return place


def alone(model, prompt, max_new_tokens=10):
    return list(generate(model, [prompt], max_new_tokens=max_new_tokens).completions[0].tokens)


ENGINES = [{}, {"batch_invariant": True}, {"step_tokens": 9}, {"compiled": True}]
ENGINES += [{"compiled": True, "batch_invariant": True}]


@pytest.mark.parametrize("settings", ENGINES, ids=str)
def test_requests_of_every_adapter_and_of_the_base_run_together_and_return_what_the_merged_models_return(
    folder, settings
):
    model = fresh_model()
    alone_models = {"": fresh_model(), **{name: merged(model, folder / name) for name in KINDS}}
    store = store_of(model, folder)
    engine = adapted_engine(model, store, max_running=5, **settings)
    numbers = {}
    for place, prompt in enumerate(PROMPTS):
        for name in alone_models:
            key = store.get(name).key if name else ""
            numbers[name, place] = engine.submit(prompt, 4 + place, adapter=key)
        engine.core.step()
    engine.run()
    answers = {at: engine.tokens(number) for at, number in numbers.items()}
    for (name, place), tokens in answers.items():
        assert tokens == alone(alone_models[name], PROMPTS[place], 4 + place), (name, place)
    assert len({tuple(answers[name, 4]) for name in alone_models}) == len(alone_models)  # they do differ


@pytest.mark.parametrize("compiled", [False, True])
def test_a_quantized_base_adds_the_same_changes_to_its_rounded_products(folder, compiled):
    rounded = nearest_model(fresh_model(), PLANS["int8"], dtype=torch.float32)
    base = fresh_model()
    store = store_of(rounded, folder, base_fingerprint=fingerprint(base.config, base.state_dict()))
    engine = adapted_engine(rounded, store, max_running=5, compiled=compiled)
    keys = ["", store.get("plain").key, store.get("wide").key, store.get("small").key]
    numbers = [engine.submit(prompt, 8, adapter=key) for prompt in PROMPTS[2:4] for key in keys]
    engine.run()
    together = [engine.tokens(number) for number in numbers]
    assert together == [engine.ask(prompt, 8, adapter=key, use_cache=False) for prompt in PROMPTS[2:4] for key in keys]
    if not compiled:  # which rounds float32 where PyTorch rounds what it is given
        assert together[0] == alone(nearest_model(fresh_model(), PLANS["int8"], dtype=torch.float32), PROMPTS[2], 8)
    assert len({tuple(tokens) for tokens in together[:4]}) == 4


class Guessed(Observer):
    """How many guesses there were, and how many were right."""

    drafted = accepted = 0

    def guessed(self, *, drafted, accepted):
        self.drafted += drafted
        self.accepted += accepted


@pytest.mark.parametrize("compiled", [False, True])
def test_guesses_of_rows_with_adapters_change_no_answer(folder, compiled):
    model = fresh_model()
    store = store_of(model, folder)
    engine = adapted_engine(
        model, store, compiled=compiled, guesses=PromptLookup(most=5, shortest=1), max_running=5, step_tokens=100
    )
    engine.core.observer = Guessed()
    prompts = [PROMPTS[0] * 4, PROMPTS[1]]
    numbers = {
        (name, place): engine.submit(prompt, 30, adapter=store.get(name).key)
        for name in ("plain", "wide", "dora")
        for place, prompt in enumerate(prompts)
    }
    engine.run()
    for (name, place), number in numbers.items():
        assert engine.tokens(number) == alone(merged(fresh_model(), folder / name), prompts[place], 30), (name, place)
    assert 0 < engine.core.observer.accepted <= engine.core.observer.drafted
    beside = engine.submit(prompts[0], 12), engine.submit(prompts[0], 12, adapter=store.get("small").key)
    engine.run()
    assert engine.tokens(beside[0]) == alone(fresh_model(), prompts[0], 12)
    assert engine.tokens(beside[1]) == alone(merged(fresh_model(), folder / "small"), prompts[0], 12)


def test_an_adapter_with_small_tensors_of_its_own_gets_no_guesses(folder):
    model = fresh_model()
    store = store_of(model, folder)
    draft = DraftModel(runtime=TorchRuntime(fresh_model()), most=3)
    engine = adapted_engine(model, store, guesses=draft)
    engine.core.observer = Guessed()
    engine.ask(PROMPTS[0] * 4, 20, adapter=store.get("small").key)
    assert engine.core.observer.drafted == 0
    engine.ask(PROMPTS[0] * 4, 20, adapter=store.get("plain").key)
    assert engine.core.observer.drafted > 0


def test_states_of_one_adapter_are_never_continued_by_another(folder):
    model = fresh_model()
    store = store_of(model, folder)
    engine = adapted_engine(model, store, cache=CacheSettings(every=8, min_tokens=4))
    for name in ("plain", "wide", "", "plain"):
        key = store.get(name).key if name else ""
        number = engine.submit(PROMPTS[4], 6, adapter=key)
        engine.run()
        assert engine.tokens(number) == alone(
            merged(fresh_model(), folder / name) if name else fresh_model(), PROMPTS[4], 6
        )
    assert engine.last(number).usage.cached_tokens == len(PROMPTS[4])  # its own state it does continue
    assert engine.core.cache.counts.misses["salt"] == 2


def test_a_model_with_own_tensors_shares_the_others():
    model = fresh_model()
    own = with_own(model, {"sublayers.0.mixer.D": torch.full_like(model.sublayers[0].mixer.D, 3.0)})
    assert own.embedding.weight is model.embedding.weight
    assert float(own.sublayers[0].mixer.D[0]) == 3.0 != float(model.sublayers[0].mixer.D[0])
    tokens = torch.tensor([PROMPTS[0]])
    assert not torch.equal(own(tokens), model(tokens)) and torch.equal(model(tokens), fresh_model()(tokens))
