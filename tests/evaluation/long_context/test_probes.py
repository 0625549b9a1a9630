"""Promises of the probes: a model that remembers scores 1, one that guesses scores chance, lengths are kept."""

import pytest
import torch

from mamba_slm.core.errors import ConfigError
from mamba_slm.evaluation.long_context.probes import needle, probe, recall
from mamba_slm.generation.runtime import TorchRuntime
from small_models import small_tokenizer, varied_model

TOKENIZER = small_tokenizer()


class Copier(TorchRuntime):
    """Predicts what followed the last time that the latest two tokens (or the latest one) stood there."""

    def __init__(self):
        super().__init__(varied_model(max_context_tokens=2000))
        self.longest = 0

    class State:
        def __init__(self, tokens=()):
            self.tokens = list(tokens)
            self.num_tokens = torch.zeros(1, dtype=torch.int64)

        def snapshot(self):
            return Copier.State(self.tokens)

    def new_state(self, rows):
        return Copier.State()

    def next_logits(self, tokens, padding_mask, state):
        state.tokens += tokens[0].tolist()
        self.longest = max(self.longest, len(state.tokens))
        read = state.tokens
        logits = torch.zeros(1, self.config.vocab_size)
        for context in (1, 2, 3, 4, 5, 6):
            for place in range(len(read) - context):
                if read[place : place + context] == read[-context:]:
                    logits[0, read[place + context]] += 10.0**context
        return logits


@pytest.mark.parametrize("depth", [0, 0.5, 1])
def test_who_copies_finds_the_needle_at_every_depth(depth):
    runtime = Copier()
    found = needle(runtime, TOKENIZER, tokens=220, depth=depth, times=4)
    assert (found.right, found.asked, found.chance) == (4, 4, 0.1)
    assert 200 < runtime.longest <= 220


def test_who_copies_recalls_every_pair():
    runtime = Copier()
    found = recall(runtime, TOKENIZER, tokens=81, times=2)
    assert (found.right, found.asked, found.chance) == (40, 40, 1 / 20)
    assert runtime.longest == 81


def test_who_never_learned_it_scores_about_chance():
    runtime = TorchRuntime(varied_model(max_context_tokens=400))
    assert needle(runtime, TOKENIZER, tokens=300, depth=0.5, times=30).share < 0.4
    assert recall(runtime, TOKENIZER, tokens=201, times=2).share < 0.25


def test_the_same_seed_asks_the_same_questions():
    runtime = TorchRuntime(varied_model(max_context_tokens=400))
    first, second = (recall(runtime, TOKENIZER, tokens=101, times=2, seed=3) for _ in range(2))
    assert first == second


def test_lengths_without_room_are_refused_with_one_that_has():
    runtime = Copier()
    with pytest.raises(ConfigError, match="no room for needle and question") as caught:
        needle(runtime, TOKENIZER, tokens=20, depth=0, times=1)
    enough = int(caught.value.hint.split()[1].replace(",", ""))
    assert needle(runtime, TOKENIZER, tokens=enough, depth=0, times=1).asked == 1
    with pytest.raises(ConfigError, match="are 1 pairs"):
        recall(runtime, TOKENIZER, tokens=5, times=1)
    with pytest.raises(ConfigError, match="more than the model's context of 2,000"):
        probe(runtime, TOKENIZER, tasks=["recall"], lengths=[3000], depths=[0], times=1)
