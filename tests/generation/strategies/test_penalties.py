"""Promises of the penalties, and of the history that they read."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers.generation.logits_process import NoRepeatNGramLogitsProcessor, RepetitionPenaltyLogitsProcessor

from mamba_slm.core.errors import ConfigError
from mamba_slm.generation.strategies.history import History
from mamba_slm.generation.strategies.penalties import (
    FrequencyPenalty,
    LogitBias,
    NoRepeatNgram,
    PresencePenalty,
    RepetitionPenalty,
)

VOCAB = 7
texts = st.lists(st.integers(0, VOCAB - 1), min_size=1, max_size=24)


def history_of(prompt, made=()):
    history = History([prompt], vocab_size=VOCAB)
    for token in made:
        history.append([token])
    return history


def test_repetition_penalty_lowers_seen_tokens_of_either_sign_and_leaves_the_rest():
    logits = torch.tensor([[2.0, -2.0, 2.0, -2.0, -math.inf]])
    seen = torch.tensor([[True, True, False, False, True]])
    assert RepetitionPenalty(2.0).apply(logits, seen).tolist() == [[1.0, -4.0, 2.0, -2.0, -math.inf]]


@given(texts, texts)
def test_repetition_penalty_and_forbidden_ngrams_are_those_of_transformers(prompt, made):
    logits = torch.linspace(-2, 3, VOCAB)[None]
    tokens = torch.tensor([prompt + made])
    history = history_of(prompt, made)
    assert torch.equal(
        RepetitionPenalty(1.3).process(logits, history), RepetitionPenaltyLogitsProcessor(1.3)(tokens, logits.clone())
    )
    for size in (1, 2, 3):
        theirs = NoRepeatNGramLogitsProcessor(size)(tokens, logits.clone())
        if theirs.isfinite().any():
            assert torch.equal(NoRepeatNgram(size).process(logits, history), theirs)


@given(texts)
def test_text_made_under_forbidden_ngrams_holds_none_twice(prompt):
    history = history_of(prompt)
    before = {tuple(prompt[i : i + 2]) for i in range(len(prompt) - 1)}
    made = []
    for _ in range(8):
        logits = NoRepeatNgram(2).process(torch.linspace(1, 0, VOCAB)[None], history)
        pair = (history.tokens(0)[-1], int(logits.argmax()))
        if logits.isfinite().all():
            seen = before | set(made)
            assert pair not in seen or all((pair[0], token) in seen for token in range(VOCAB))
        else:
            assert pair not in before | set(made)
        made.append(pair)
        history.append([pair[1]])


def test_a_row_in_which_everything_is_forbidden_is_left_as_it_is():
    logits = torch.zeros(1, VOCAB)
    assert NoRepeatNgram(1).process(logits, history_of(range(VOCAB))).isfinite().all()


@given(texts, texts, st.floats(-2, 2))
def test_frequency_and_presence_count_what_was_made_and_not_the_prompt(prompt, made, penalty):
    logits = torch.linspace(-2, 3, VOCAB)[None]
    history = history_of(prompt, made)
    for token in range(VOCAB):
        times = made.count(token)
        by_frequency = FrequencyPenalty(penalty).process(logits, history)[0, token]
        by_presence = PresencePenalty(penalty).process(logits, history)[0, token]
        assert by_frequency == pytest.approx(float(logits[0, token]) - penalty * times, abs=1e-4)
        assert by_presence == pytest.approx(float(logits[0, token]) - penalty * (times > 0), abs=1e-4)


def test_a_bias_is_added_and_minus_infinity_forbids():
    logits = torch.ones(2, VOCAB)
    biased = LogitBias(((2, 1.5), (4, -math.inf))).process(logits, history_of([0]))
    assert biased[:, 2].tolist() == [2.5, 2.5]
    assert biased[:, 4].tolist() == [-math.inf] * 2
    assert torch.equal(logits, torch.ones(2, VOCAB))
    with pytest.raises(ConfigError, match="token 7, but the model's vocabulary has 7"):
        LogitBias(((7, 1.0),)).process(logits, history_of([0]))
    for bad in ((-1, 1.0), (1, math.inf), (1, math.nan)):
        with pytest.raises(ConfigError, match="logit bias"):
            LogitBias((bad,))


@given(st.lists(texts, min_size=1, max_size=3), st.data())
def test_tables_kept_up_to_date_are_those_made_anew(prompts, data):
    kept = History(prompts, vocab_size=VOCAB)
    assert kept.seen.shape == kept.counts.shape == (len(prompts), VOCAB)
    fresh = History(prompts, vocab_size=VOCAB)
    for _ in range(4):
        tokens = data.draw(st.lists(st.integers(0, VOCAB - 1), min_size=kept.num_rows, max_size=kept.num_rows))
        kept.append(tokens)
        fresh.append(tokens)
        rows = data.draw(st.lists(st.integers(0, kept.num_rows - 1), min_size=1, max_size=4))
        kept, fresh = kept.select(rows), fresh.select(rows)
    assert torch.equal(kept.seen, fresh.seen)
    assert torch.equal(kept.counts, fresh.counts)
    assert [kept.tokens(row) for row in range(kept.num_rows)] == [fresh.tokens(row) for row in range(fresh.num_rows)]
