"""`generate` of transformers: every strategy, every cache, the tokens that reading everything anew gives."""

import pytest
import torch
from transformers import DynamicCache
from transformers.generation.streamers import BaseStreamer

from mamba_slm.core.errors import UsageError
from mamba_slm.model.hf_cache import MambaCacheLayer
from model.hf_models import CONFIGS, random_tokens, wrapped
from tolerances import assert_close, tolerance_of

NEW_TOKENS = 24
CACHES = {"dynamic": {}, "static": {"cache_implementation": "static"}, "pieces of 5": {"prefill_chunk_size": 5}}


@pytest.fixture(params=list(CONFIGS))
def model(request):
    return wrapped(request.param)


def generate(model, tokens, **settings):
    """New tokens only; the defaults are greedy and never end early."""
    settings = {"max_new_tokens": NEW_TOKENS, "do_sample": False, "pad_token_id": 3, "eos_token_id": None} | settings
    return model.generate(tokens, **settings)[:, tokens.shape[1] :]


@pytest.mark.parametrize("cache", list(CACHES))
def test_greedy_tokens_do_not_depend_on_the_cache(model, cache):
    tokens = random_tokens(2, 13)
    expected = generate(model, tokens, use_cache=False)
    assert expected.unique().numel() > 4
    assert torch.equal(generate(model, tokens, **CACHES[cache]), expected)


@pytest.mark.parametrize(
    "strategy", [{"num_beams": 3}, {"num_beams": 4, "num_return_sequences": 2, "length_penalty": 0.5}]
)
@pytest.mark.parametrize("cache", ["dynamic", "static"])
def test_beams_take_their_states_along(model, strategy, cache):
    tokens = random_tokens(2, 13)
    expected = generate(model, tokens, use_cache=False, **strategy)
    assert torch.equal(generate(model, tokens, **CACHES[cache], **strategy), expected)


def test_samples_are_drawn_from_the_same_distributions(model):
    tokens, found = random_tokens(2, 13), []
    for way in ({}, {"use_cache": False}):
        torch.manual_seed(3)
        found.append(generate(model, tokens, do_sample=True, top_p=0.9, temperature=0.8, num_return_sequences=2, **way))
    assert torch.equal(*found)


def test_a_left_padded_batch_gives_what_single_prompts_give(model):
    prompts = [random_tokens(length, seed=length) for length in (2, 9, 13)]
    tokens = torch.nn.utils.rnn.pad_sequence(prompts, batch_first=True, padding_value=3, padding_side="left")
    mask = (tokens != 3).long()
    together = generate(model, tokens, attention_mask=mask)
    assert torch.equal(generate(model, tokens, attention_mask=mask, cache_implementation="static"), together)
    for prompt, found in zip(prompts, together, strict=True):
        assert torch.equal(generate(model, prompt[None])[0], found)


@pytest.mark.parametrize(
    "helper",
    ["the model itself", "another model", "prompt lookup"],
)
def test_assisted_generation_takes_rejected_drafts_back_exactly(model, helper):
    tokens = random_tokens(1, 7).repeat(1, 3)  # repeats itself, so that lookup finds something
    settings = {"prompt_lookup_num_tokens": 4, "max_matching_ngram_size": 1}
    if helper != "prompt lookup":
        draft = model if helper == "the model itself" else wrapped("portable", seed=77)
        settings = {"assistant_model": draft}
    calls = []
    handle = model.register_forward_hook(lambda _, __, out: calls.append(out.logits.shape[1]))
    found = generate(model, tokens, **settings)
    handle.remove()
    assert torch.equal(found, generate(model, tokens))
    assert max(calls) > 1, "nothing was drafted"


def test_a_cache_of_one_turn_serves_the_next(model):
    first, more = random_tokens(1, 8), random_tokens(1, 5, seed=9)
    cache = DynamicCache(config=model.config)
    out = model.generate(
        first, past_key_values=cache, max_new_tokens=6, do_sample=False, pad_token_id=3, return_dict_in_generate=True
    )
    text = torch.cat([out.sequences, more], dim=1)
    assert torch.equal(generate(model, text, past_key_values=cache), generate(model, text))


def test_streams_and_scores(model):
    class Heard(BaseStreamer):
        def __init__(self):
            self.tokens = []

        def put(self, value):
            self.tokens += value.flatten().tolist()

        def end(self):
            pass

    heard, tokens = Heard(), random_tokens(1, 6)
    out = model.generate(
        tokens, streamer=heard, max_new_tokens=5, do_sample=False, pad_token_id=3, return_dict_in_generate=True,
        output_scores=True, output_hidden_states=True,
    )  # fmt: skip
    assert heard.tokens == out.sequences[0].tolist()
    assert len(out.scores) == 5
    assert len(out.hidden_states) == 5


@torch.no_grad()
def test_a_cache_can_be_cropped_to_any_length_since_recording_began():
    model, tokens = wrapped(), random_tokens(2, 30)
    expected = model(tokens, use_cache=False).logits
    for keep in range(6, 31):
        cache = model(tokens[:, :6], use_cache=True).past_key_values
        cache.activate_past_recording()
        for begin, end in ((6, 7), (7, 8), (8, 21), (21, 30)):
            model(tokens[:, begin:end], past_key_values=cache)
        cache.crop(keep - 30)
        assert cache.get_seq_length() == keep
        rest = model(torch.cat([tokens[:, keep:], tokens[:, :1]], dim=1), past_key_values=cache).logits
        assert_close(rest[:, :-1], expected[:, keep:], tolerance_of("model").values, f"cropped to {keep}")


@torch.no_grad()
def test_a_padded_batch_can_be_cropped_too():
    model, tokens = wrapped(), random_tokens(2, 12)
    mask = torch.ones_like(tokens)
    mask[1, :4] = 0
    cache = DynamicCache(config=model.config)
    cache.activate_past_recording()
    model(tokens[:, :10], attention_mask=mask[:, :10], past_key_values=cache)
    cache.crop(-3)
    rest = model(tokens[:, 7:], attention_mask=mask, past_key_values=cache).logits
    expected = model(tokens, attention_mask=mask, use_cache=False).logits[:, 7:]
    assert_close(rest, expected, tolerance_of("model").values)


@torch.no_grad()
def test_going_back_further_than_recorded_is_an_error():
    model, tokens = wrapped(), random_tokens(1, 9)
    cache = model(tokens, use_cache=True).past_key_values
    layer = cache.layers[0]
    assert isinstance(layer, MambaCacheLayer) and not layer.is_croppable
    layer.crop(0)  # without recording there is nothing to shorten
    with pytest.raises(UsageError, match="history holds 0"):
        cache.crop(-1)
    with pytest.raises(UsageError, match="negative"):
        layer.crop(3)
    cache.activate_past_recording()
    model(tokens[:, :2], past_key_values=cache)
    with pytest.raises(UsageError, match="cannot go back 3 tokens: the state's history holds 2"):
        cache.layers[0].crop(-3)
    with pytest.raises(UsageError, match="no keys and values"):
        layer.update(tokens, tokens)


@torch.no_grad()
def test_rows_of_a_cache_can_be_repeated_selected_moved_and_forgotten():
    model, tokens, more = wrapped("only mamba"), random_tokens(2, 9), random_tokens(2, 3, seed=8)
    expected = model(torch.cat([tokens, more], dim=1), use_cache=False).logits[:, 9:]
    cache = model(tokens, use_cache=True).past_key_values
    cache.activate_past_recording()
    cache.batch_repeat_interleave(2)
    cache.batch_select_indices(torch.tensor([3, 0]))
    cache.reorder_cache(torch.tensor([1, 0]))
    for layer in cache.layers:
        layer.offload()
        layer.prefetch()
        assert layer.batch_size == 2
        assert layer.get_mask_sizes(3) == (12, 0)
    assert_close(model(more, past_key_values=cache).logits, expected, tolerance_of("model").values)
    cache.reset()
    assert cache.get_seq_length() == 0 and cache.layers[0].batch_size == -1
    first = model(tokens, past_key_values=cache).logits
    assert_close(first, model(tokens, use_cache=False).logits, tolerance_of("model").values)
