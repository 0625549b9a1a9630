"""A comparison measures what it says, and finds the layer where a change was made."""

import math
from dataclasses import replace

import pytest
import torch

from mamba_slm.core.errors import CheckFailedError, UsageError
from mamba_slm.export.compare import compare, comparison_as_json, difference_in_words, require_equal
from mamba_slm.export.probes import random_sequences
from mamba_slm.export.source import Source
from mamba_slm.export.trace import OurRunner, Trace
from model.hf_models import varied
from small_models import VOCAB_SIZE, small_tokenizer

SEQUENCES = random_sequences(VOCAB_SIZE, 40)


def runner(kind="portable", change=None, amount=0.3):
    """A model of ours, with one value of one tensor changed."""
    model = varied(kind)
    if change is not None:
        with torch.no_grad():
            dict(model.named_parameters())[change].view(-1)[3] += amount
    return OurRunner(Source(None, model, small_tokenizer()))


class Rows:
    """Logits that do not depend on the tokens."""

    description, max_tokens = "rows", 100

    def __init__(self, *rows):
        self.logits = torch.tensor(rows)
        self.vocab_size = self.logits.shape[1]

    def trace(self, tokens, *, residuals=False):
        return Trace(self.logits[: len(tokens)])

    def encode(self, text):
        return None


def test_a_model_equals_itself():
    found = compare(runner(), runner(), SEQUENCES)
    assert (found.max_logit_error, found.argmax_agreement, found.mean_kl) == (0, 1, 0)
    assert found.perplexity_a == found.perplexity_b > 1
    assert (found.num_sequences, found.num_tokens) == (len(SEQUENCES), sum(map(len, SEQUENCES)))
    assert (found.layers, found.first_drift) == ((), None)
    require_equal(found)


@pytest.mark.parametrize(
    ("change", "layer"),
    [
        ("embedding.weight", "embedding"),
        ("sublayers.0.mixer.A_log", "layer 0 Mamba-2"),
        ("sublayers.1.mixer.down_proj.weight", "layer 0 feed-forward"),
        ("sublayers.2.mixer.q_proj.weight", "layer 1 attention"),
        ("sublayers.4.mixer.conv_weight", "layer 2 Mamba-2"),
        ("sublayers.5.norm.weight", "layer 2 feed-forward"),
        ("final_norm.weight", "final norm"),
    ],
)
def test_one_changed_value_is_found_in_its_layer(change, layer):
    # every token once: a changed value of the embedding shows only where its token is read
    sequences = torch.arange(VOCAB_SIZE).view(8, -1).tolist()
    found = compare(runner(), runner(change=change), sequences)
    assert found.first_drift == layer
    with pytest.raises(CheckFailedError, match=f"first layer that drifts: {layer}"):
        require_equal(found)


def test_a_small_change_is_found_too():
    found = compare(runner(), runner(change="sublayers.2.mixer.v_proj.weight", amount=2e-3), SEQUENCES, tolerance=1e-5)
    assert found.first_drift == "layer 1 attention"


def test_a_changed_head_shows_in_the_logits_alone():
    kind = "classic, untied, nope"
    found = compare(runner(kind), runner(kind, change="lm_head.weight"), SEQUENCES)
    assert found.first_drift == "logits"
    assert max(layer.max_error for layer in found.layers) == 0


def test_the_numbers_are_those_of_their_definitions():
    a, b = Rows([0.0, 1.0, 2.0], [3.0, 0.0, 0.0]), Rows([0.0, 1.0, 0.5], [3.0, 0.0, 0.0])
    found = compare(a, b, [[0, 2]], tolerance=9)
    assert found.max_logit_error == 1.5
    assert found.argmax_agreement == 0.5
    p, q = (each.logits[0].double().softmax(dim=0) for each in (a, b))
    assert found.mean_kl == pytest.approx(float((p * (p / q).log()).sum()) / 2)
    assert found.perplexity_a == pytest.approx(1 / float(p[2]))
    assert found.perplexity_b == pytest.approx(1 / float(q[2]))


def test_a_padded_vocabulary_is_compared_where_both_have_tokens():
    found = compare(Rows([0.0, 1.0]), Rows([0.0, 1.0, 99.0]), [[1]])
    assert (found.max_logit_error, found.argmax_agreement) == (0, 1)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_logit_that_is_no_number_is_infinitely_wrong(bad):
    found = compare(Rows([0.0, 1.0]), Rows([0.0, bad]), [[1]])
    assert found.max_logit_error == math.inf
    with pytest.raises(CheckFailedError):
        require_equal(found, tolerance=1e9)
    assert comparison_as_json(found)["max_logit_error"] is None


@pytest.mark.parametrize("tokens", [[], [5] * 101, [VOCAB_SIZE], [-1]])
def test_what_one_side_cannot_run_is_refused(tokens):
    with pytest.raises(UsageError):
        compare(runner(), runner(), [tokens])


def test_nothing_to_compare_is_refused():
    with pytest.raises(UsageError, match="no sequence"):
        compare(runner(), runner(), [])


def test_the_difference_is_said_in_words():
    found = replace(compare(runner(), runner(), SEQUENCES), max_logit_error=0.25, first_drift="layer 1 attention")
    text = difference_in_words(found, tolerance=1e-4)
    assert "off by 2.5e-01 (allowed 1e-04)" in text
    assert text.endswith("layer 1 attention")
