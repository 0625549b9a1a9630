"""Perplexity of texts, against the definition."""

import math

import numpy as np
import pytest
import torch

from mamba_slm.core.errors import ConfigError, DataError
from mamba_slm.data.document import Document
from mamba_slm.data.encode import encode_batch
from mamba_slm.evaluation.perplexity import STRETCHES, measure_perplexity
from small_models import small_tokenizer, varied_model
from tolerances import TOLERANCES

TEXTS = ["def cached(function): return function  # the cache is kept, naïve as it is", "語 and a short one"]


def documents():
    return [Document(id=str(number), text=text) for number, text in enumerate(TEXTS)]


def plain_nats(model, ids, *, context, stride):
    """By definition: every token after the longest part of its document that a window holds before it."""
    total = 0.0
    for tokens in ids:
        tokens, scored, start = torch.as_tensor(np.asarray(tokens, np.int64)), 0, 0
        while scored < len(tokens) - 1:
            end = min(start + context, len(tokens) - 1)
            with torch.no_grad():
                logprobs = model(tokens[None, start:end])[0].double().log_softmax(-1)
            for place in range(scored, end):
                total -= float(logprobs[place - start, tokens[place + 1]])
            scored, start = end, start + stride
    return total


@pytest.mark.parametrize("context, stride", [(16, 16), (16, 5), (48, 12)])
def test_perplexities_are_those_of_the_definition(context, stride):
    model, tokenizer = varied_model(), small_tokenizer()
    found = measure_perplexity(model, tokenizer, documents(), text="two", context_tokens=context, stride_tokens=stride)
    ids = encode_batch(tokenizer, documents())
    nats = plain_nats(model, ids, context=context, stride=stride)
    allowed = TOLERANCES["model", "float32"].values * 10
    num_tokens, num_bytes = sum(len(one) - 1 for one in ids), sum(len(text.encode()) for text in TEXTS)
    assert found.measured.bits_per_byte == pytest.approx(nats / math.log(2) / num_bytes, rel=allowed)
    assert found.token_perplexity == pytest.approx(math.exp(nats / num_tokens), rel=allowed * 10)
    assert found.num_words == sum(len(text.split()) for text in TEXTS) == 18
    assert math.log(found.word_perplexity) * found.num_words == pytest.approx(nats, rel=allowed)
    assert math.log2(found.byte_perplexity) == pytest.approx(found.measured.bits_per_byte)
    fields = found.to_dict()
    assert (fields["context_tokens"], fields["stride_tokens"], fields["num_tokens"]) == (context, stride, num_tokens)


def test_losses_by_position_are_means_over_the_pieces_of_the_text():
    model, tokenizer = varied_model(), small_tokenizer()
    found = measure_perplexity(model, tokenizer, documents(), text="two", context_tokens=16, by_position=True)
    assert [(at.start, at.end) for at in found.positions] == [(2 * part, 2 * part + 2) for part in range(STRETCHES)]
    rows = [
        one[start : start + 17] for one in encode_batch(tokenizer, documents()) for start in range(0, len(one) - 16, 17)
    ]
    nats = plain_nats(model, rows, context=16, stride=16)
    assert sum(at.loss * at.num_tokens for at in found.positions) == pytest.approx(nats, rel=1e-4)
    assert f"{len(rows)} pieces" in found.position_rows


def test_no_text_and_windows_that_do_not_fit_are_refused():
    model, tokenizer = varied_model(), small_tokenizer()
    with pytest.raises(DataError, match=r"nothing\.txt holds no text"):
        measure_perplexity(model, tokenizer, [Document(id="1", text=" \n")], text="nothing.txt")
    with pytest.raises(ConfigError, match="windows of 64 tokens do not fit"):
        measure_perplexity(model, tokenizer, documents(), text="two", context_tokens=64)
    with pytest.raises(ConfigError, match="stride_tokens must lie in"):
        measure_perplexity(model, tokenizer, documents(), text="two", stride_tokens=49)
    with pytest.raises(DataError, match="one row of 48 is longer"):
        measure_perplexity(model, tokenizer, [Document(id="1", text="few")], text="few", by_position=True)
