"""Promises of bits per byte: every token once, with the promised context, and the same number however it is batched."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mamba_slm.core.errors import CheckFailedError, ConfigError, DataError
from mamba_slm.evaluation.bits_per_byte import Window, measure_bits_per_byte, windows_of
from mamba_slm.model.config import ModelConfig
from mamba_slm.model.init import build_model

VOCAB_SIZE = 20


@pytest.fixture(scope="module")
def model():
    config = ModelConfig(
        pattern="M-*-",
        vocab_size=VOCAB_SIZE,
        hidden_size=32,
        num_heads=2,
        num_kv_heads=1,
        feed_forward_size=48,
        state_size=8,
        ssm_head_dim=16,
        chunk_size=8,
        max_context_tokens=32,
    )
    return build_model(config, seed=0)


def some_documents():
    random = np.random.default_rng(0)
    return [np.array([0, *random.integers(1, VOCAB_SIZE, size), 0], np.uint16) for size in (0, 1, 5, 30, 31, 32, 77)]


def nats_one_window_at_a_time(model, document, context, stride):
    """The definition: for each scored token, log-softmax of its own window."""
    total = 0.0
    for window in windows_of(len(document), document=0, context_tokens=context, stride_tokens=stride):
        inputs = torch.tensor(document[window.start : window.end].astype(np.int64))[None]
        with torch.no_grad():
            log_probabilities = model(inputs)[0].double().log_softmax(-1)
        for position in range(window.scored_from, window.end):
            total -= log_probabilities[position - window.start, int(document[position + 1])].item()
    return total


@given(st.integers(0, 60), st.integers(1, 20), st.data())
def test_windows_score_every_token_but_the_first_once_with_enough_context(num_tokens, context, data):
    stride = data.draw(st.integers(1, context))
    windows = list(windows_of(num_tokens, document=0, context_tokens=context, stride_tokens=stride))
    scored = [position for window in windows for position in range(window.scored_from, window.end)]
    assert scored == list(range(max(0, num_tokens - 1)))
    for window in windows:
        assert window.end - window.start <= context
        tokens_before_the_first_scored = window.scored_from - window.start + 1
        assert window.start == 0 or tokens_before_the_first_scored > context - stride


def test_the_worked_table_of_the_docstring():
    assert list(windows_of(14, document=2, context_tokens=8, stride_tokens=4)) == [
        Window(2, 0, 8, 0),
        Window(2, 4, 12, 8),
        Window(2, 8, 13, 12),
    ]


@pytest.mark.parametrize("context, stride", [(32, None), (32, 32), (16, 8), (7, 3), (1, 1)])
def test_it_is_the_sum_over_windows_by_definition(model, context, stride):
    documents = some_documents()
    measured = measure_bits_per_byte(
        model, documents, num_bytes=1000, context_tokens=context, stride_tokens=stride, batch_tokens=64
    )
    step = stride or context * 3 // 4
    expected = sum(nats_one_window_at_a_time(model, document, context, step) for document in documents)
    assert measured.bits == pytest.approx(expected / math.log(2), rel=1e-5)
    assert measured.bits_per_byte == measured.bits / 1000
    assert measured.loss == pytest.approx(expected / measured.num_tokens, rel=1e-5)
    assert measured.num_tokens == sum(len(document) - 1 for document in documents)
    assert measured.num_documents == len(documents)


def test_batching_and_order_do_not_matter(model):
    documents = some_documents()
    one = measure_bits_per_byte(model, documents, num_bytes=1, batch_tokens=1)
    for order in (documents, documents[::-1]):
        assert measure_bits_per_byte(model, order, num_bytes=1).bits == pytest.approx(one.bits, rel=1e-5)


def test_a_uniform_model_costs_log2_of_the_vocabulary_per_token(model):
    uniform = build_model(model.config, seed=0)
    with torch.no_grad():
        uniform.embedding.weight.zero_()
    measured = measure_bits_per_byte(uniform, some_documents(), num_bytes=10)
    assert measured.bits == pytest.approx(measured.num_tokens * math.log2(VOCAB_SIZE), rel=1e-6)


def test_the_line_for_the_report_names_the_protocol(model):
    how = measure_bits_per_byte(model, some_documents(), num_bytes=1, context_tokens=16, stride_tokens=4).how
    assert "7 whole documents" in how
    assert "windows of 16 tokens every 4" in how


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"context_tokens": 33}, "do not fit the model's context of 32"),
        ({"context_tokens": 0}, "do not fit"),
        ({"context_tokens": 8, "stride_tokens": 9}, "stride_tokens"),
        ({"stride_tokens": 0}, "stride_tokens"),
    ],
)
def test_windows_that_would_skip_tokens_or_exceed_the_context_are_refused(model, arguments, message):
    with pytest.raises(ConfigError, match=message):
        measure_bits_per_byte(model, some_documents(), num_bytes=1, **arguments)


def test_nothing_to_score_foreign_tokens_and_broken_weights_are_errors(model):
    with pytest.raises(DataError, match="no held-out text"):
        measure_bits_per_byte(model, [], num_bytes=0)
    with pytest.raises(ConfigError, match="vocabulary has 20"):
        measure_bits_per_byte(model, [np.array([0, 20, 0])], num_bytes=3)
    broken = build_model(model.config, seed=0)
    with torch.no_grad():
        broken.embedding.weight[0, 0] = math.nan
    with pytest.raises(CheckFailedError, match="not finite"):
        measure_bits_per_byte(broken, some_documents(), num_bytes=1)
