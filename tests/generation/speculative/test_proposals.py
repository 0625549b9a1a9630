"""Guesses: what followed the last time, or what a smaller model would say, whatever was taken back in between."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mamba_slm.core.errors import ConfigError
from mamba_slm.generation.generate import generate
from mamba_slm.generation.onnx_runtime import open_onnx
from mamba_slm.generation.runtime import RuntimeSettings, TorchRuntime
from mamba_slm.generation.speculative.proposals import DraftModel, PromptLookup, common_length
from onnx_folders import save_onnx
from small_models import varied_model


def no_draw(logits):
    raise AssertionError("nothing needs to be drawn")


def looked_up(text, settings, most):
    """The definition: the longest end of the text that occurred before, at its last place; then what followed it."""
    for size in range(settings.longest, settings.shortest - 1, -1):
        for end in range(len(text) - 1, size - 1, -1):
            if size <= len(text) and text[end - size : end] == text[-size:]:
                guesses = list(text)
                for place in range(most):
                    guesses.append(guesses[end + place])
                return guesses[len(text) :]
    return []


@given(
    text=st.lists(st.integers(0, 3), min_size=1, max_size=60),
    more=st.lists(st.integers(0, 3), max_size=20),
    longest=st.integers(1, 4),
    shortest=st.integers(1, 4),
    most=st.integers(1, 9),
)
def test_lookup_finds_the_last_place_with_the_longest_common_end(text, more, longest, shortest, most):
    settings = PromptLookup(longest=max(longest, shortest), shortest=min(longest, shortest))
    proposer = settings.start(None)
    for end in range(len(text), len(text) + len(more) + 1):
        grown = (text + more)[:end]
        assert proposer.propose(grown, most, no_draw) == looked_up(grown, settings, most)


@pytest.mark.parametrize("settings", [{"most": 0}, {"shortest": 0}, {"shortest": 3, "longest": 2}])
def test_settings_that_make_no_sense_are_refused(settings):
    with pytest.raises(ConfigError, match="prompt lookup needs"):
        PromptLookup(**settings)


def runtimes(tmp_path):
    model = varied_model(vocab_size=40)
    return TorchRuntime(model), open_onnx(save_onnx(model, tmp_path), RuntimeSettings(threads=1)).runtime


@pytest.mark.parametrize("kind", [0, 1], ids=["torch", "onnx"])
def test_a_draft_model_says_what_it_would_generate_after_any_text_that_grows(kind, tmp_path):
    runtime = runtimes(tmp_path)[kind]
    proposer = DraftModel(runtime=runtime, most=4).start(runtime)
    text = [5, 6, 7, 8, 9]
    generator = torch.Generator().manual_seed(1)
    for right in (0, 4, 2, 1, 3, 4, 4, 0, 2):  # guesses that were right, then a token of the model itself
        guesses = proposer.propose(text, 4, lambda logits: int(logits.argmax()))
        made = generate(runtime, [text], max_new_tokens=4).completions[0].tokens
        assert tuple(guesses) == made
        text = text + guesses[:right] + [int(torch.randint(0, 40, (), generator=generator))]


def test_a_draft_model_guesses_no_further_than_its_own_context():
    runtime = TorchRuntime(varied_model(vocab_size=40, max_context_tokens=12))
    proposer = DraftModel(runtime=runtime, most=4).start(runtime)
    assert len(proposer.propose(list(range(10)), 4, lambda logits: 1)) == 2
    assert proposer.propose(list(range(12)), 4, lambda logits: 1) == []
    assert proposer.propose(list(range(30)), 4, lambda logits: 1) == []


def test_a_draft_model_with_another_vocabulary_is_refused():
    small, large = TorchRuntime(varied_model(vocab_size=40)), TorchRuntime(varied_model(vocab_size=48))
    with pytest.raises(ConfigError, match="vocabulary of 40 tokens, the model one of 48"):
        DraftModel(runtime=small).start(large)


@given(st.lists(st.integers(0, 2)), st.lists(st.integers(0, 2)))
def test_the_common_length_is_the_longest_common_beginning(first, second):
    count = common_length(first, second)
    assert first[:count] == second[:count]
    assert first[count : count + 1] != second[count : count + 1] or count == len(first) == len(second)
