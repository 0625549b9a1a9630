"""What attention is told: intervals of slots wherever they say it all, a mask only where they cannot."""

from dataclasses import replace

import pytest
import torch

from conformance.models import CONFIGS
from mamba_slm.model.attention import attention_terms
from mamba_slm.model.context import advance, prepare
from mamba_slm.model.state import InferenceState
from mamba_slm.ops.attention import causal_mask

CONFIG = CONFIGS["portable"]
WINDOWED = replace(CONFIG, attention_window=4)
CPU = torch.device("cpu")


def masked(*rows):
    return torch.tensor([[letter == "x" for letter in row] for row in rows])


def terms_of(config, size, *, positions=None, document_ids=None, padding_mask=None, state=None):
    context = prepare(
        size, CPU, positions=positions, document_ids=document_ids, padding_mask=padding_mask, state=state
    )  # fmt: skip
    if state is not None:
        advance(state, context)
    return attention_terms(config, context)


def seen(terms, t, s):
    """[b t s] by all terms together."""
    return causal_mask((t, s), terms.first_key, terms.mask, CPU)[:, 0]


@pytest.mark.parametrize("mask", [None, masked("xxxxx", "xxx.."), masked("xxxxx", "xxxxx")])
def test_plain_rows_and_padding_on_the_right_need_nothing(mask):
    terms = terms_of(CONFIG, (2, 5), padding_mask=mask)
    assert terms.first_key is terms.mask is terms.bias is None


def test_padding_on_the_left_moves_the_first_key_and_padding_sees_itself():
    terms = terms_of(CONFIG, (2, 5), padding_mask=masked("xxxxx", "..xxx"))
    assert terms.mask is None and terms.first_key.tolist() == [[0] * 5, [0, 1, 2, 2, 2]]


def test_documents_begin_at_their_own_first_key():
    ids = torch.tensor([[3, 3, 5, 5, 3], [1, 1, 1, 1, 1]])
    terms = terms_of(CONFIG, (2, 5), document_ids=ids, padding_mask=masked("xxxxx", ".xxxx"))
    assert terms.mask is None and terms.first_key.tolist() == [[0, 0, 2, 2, 4], [0, 1, 1, 1, 1]]


def test_a_window_is_an_interval_within_documents_and_behind_padding():
    ids = torch.tensor([[0, 0, 0, 1, 1, 1, 1, 1, 1, 1], [2] * 10])
    terms = terms_of(WINDOWED, (2, 10), document_ids=ids, padding_mask=masked("xxxxxxxxxx", "..xxxxxxxx"))
    assert terms.mask is None
    assert terms.first_key.tolist() == [[0, 0, 0, 3, 3, 3, 3, 4, 5, 6], [0, 1, 2, 2, 2, 2, 3, 4, 5, 6]]


def test_a_window_over_positions_that_jump_needs_a_mask():
    positions = torch.tensor([[0, 1, 2, 3, 4, 50, 51, 52]])
    terms = terms_of(WINDOWED, (1, 8), positions=positions)
    assert terms.first_key is None and seen(terms, 8, 8)[0, 6].tolist() == [False] * 5 + [True, True, False]
    assert terms_of(WINDOWED, (1, 8), positions=positions.clamp(max=4).cummax(dim=1).values).mask is not None
    assert terms_of(WINDOWED, (1, 8), positions=torch.arange(100, 108)[None]).mask is None


@pytest.mark.parametrize("config", [CONFIG, WINDOWED], ids=["all", "window"])
def test_a_mask_is_made_only_while_padding_lies_between_the_tokens_of_a_state(config):
    state = InferenceState.empty(config, 2, device=CPU, dtype=torch.float32)
    terms = terms_of(config, (2, 4), padding_mask=masked("xxxx", ".xxx"), state=state)
    assert terms.mask is None and terms.first_key.tolist() == [[0] * 4, [0, 1, 1, 1]]
    terms = terms_of(config, (2, 3), padding_mask=masked("xxx", "x.."), state=state)
    assert (terms.mask is None) is (config is CONFIG)  # positions of padding stand still, which a window counts
    terms = terms_of(config, (2, 2), state=state)
    assert terms.first_key is None
    near = [True] * 8 + [False] if config is CONFIG else [False] * 4 + [True] * 4 + [False]
    assert seen(terms, 2, 9)[0, 0].tolist() == near
    padded = [False, True, True, True, True, False, False, True, True]
    assert seen(terms, 2, 9)[1, 1].tolist() == (padded if config is CONFIG else [False] * 3 + padded[3:])


def test_only_linear_biases_are_biases():
    terms = terms_of(replace(CONFIG, position="alibi"), (1, 3))
    assert terms.mask is None and terms.bias.shape == (1, 4, 3, 3)
