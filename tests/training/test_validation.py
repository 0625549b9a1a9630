import dataclasses
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mamba_slm.core.errors import DataError
from mamba_slm.data.loader import validation_batches
from mamba_slm.data.packing import NO_TARGET
from mamba_slm.model.init import build_model
from mamba_slm.text.train_tokenizer import train_tokenizer
from mamba_slm.training.precision import Precision
from mamba_slm.training.validation import token_lengths, validate, validations_since_best
from training.small_run import TINY


def validated(batches, **options):
    options = {"rows_at_once": 4, "precision": Precision("fp32", "cpu"), "device": "cpu", **options}
    return validate(build_model(TINY), batches, **options)


def test_the_loss_is_the_mean_over_all_targets_however_they_are_batched(validation_shards):
    losses = [
        validated(validation_batches(validation_shards, context_tokens=32, batch_rows=rows), rows_at_once=at_once)[0]
        for rows, at_once in [(1, 1), (3, 2), (8, 8)]
    ]
    assert losses == pytest.approx([losses[0]] * 3, rel=1e-5)
    assert losses[0] == pytest.approx(math.log(64), rel=0.1)  # an untrained model guesses


def test_bits_per_byte_is_the_loss_in_bits_over_the_bytes_of_the_targets(batch):
    lengths = token_lengths(train_tokenizer(["a text of no importance"], vocab_size=264))[:64]
    loss, bits_per_byte = validated([batch], bytes_per_token=lengths)
    num_bytes = sum(int(lengths[target]) for target in batch.targets.flatten() if target != NO_TARGET)
    assert bits_per_byte == pytest.approx(loss * batch.num_targets / math.log(2) / num_bytes)
    assert validated([batch])[1] is None


def test_token_lengths_add_up_to_the_length_of_the_text_and_special_tokens_have_none():
    text = "def naïve(): return '日本' * 3\n"
    tokenizer = train_tokenizer([text * 5], vocab_size=280)
    lengths = token_lengths(tokenizer)
    assert len(lengths) == tokenizer.vocab_size
    assert lengths[tokenizer.encode(text)].sum() == len(text.encode())
    assert lengths[tokenizer.eos_id] == lengths[tokenizer.bos_id] == 0


def test_validation_leaves_gradients_and_training_mode_alone(batch):
    model = build_model(TINY).train()
    validate(model, [batch], rows_at_once=4, precision=Precision("fp32", "cpu"), device="cpu")
    assert model.training
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_validation_that_is_stopped_has_no_result(batch):
    seen = iter([False, True])
    assert validated([batch, batch], is_stopped=lambda: next(seen)) is None


def test_validation_data_without_targets_is_refused(batch):
    with pytest.raises(DataError):
        validated([dataclasses.replace(batch, targets=batch.targets * 0 + NO_TARGET)])


@given(st.lists(st.floats(0, 10) | st.just(math.nan), max_size=20))
def test_patience_counts_from_the_first_time_the_best_was_reached(losses):
    since = validations_since_best(losses)
    finite = [loss for loss in losses if not math.isnan(loss)]
    if not finite:
        assert since == len(losses)
    else:
        assert losses[len(losses) - 1 - since] == min(finite)
        assert min(finite) not in losses[: len(losses) - 1 - since]


def narrow(monkeypatch, rows):
    """A model on a device that holds so many rows at most."""
    model = build_model(TINY)
    whole = model.loss_sum

    def loss_sum(inputs, targets, **more):
        if len(inputs) > rows:
            raise MemoryError("too many rows")
        return whole(inputs, targets, **more)

    monkeypatch.setattr(model, "loss_sum", loss_sum)
    return model


def test_where_memory_runs_out_validation_goes_on_with_half_the_rows_and_the_same_result(monkeypatch, batch):
    said = []
    settings = {"rows_at_once": 4, "precision": Precision("fp32", "cpu"), "device": "cpu"}
    found = validate(narrow(monkeypatch, 1), [batch, batch], **settings, say_smaller=said.append)
    assert found[0] == pytest.approx(validate(build_model(TINY), [batch, batch], **settings)[0])
    assert said == [
        "validation: too many rows; rows at once: 2 from here on",
        "validation: too many rows; rows at once: 1 from here on",
    ]


@pytest.mark.parametrize("rows, say", [(0, print), (1, None)])
def test_memory_that_runs_out_with_one_row_or_unasked_is_an_error(monkeypatch, batch, rows, say):
    with pytest.raises(MemoryError):
        validate(
            narrow(monkeypatch, rows),
            [batch],
            rows_at_once=2,
            precision=Precision("fp32", "cpu"),
            device="cpu",
            say_smaller=say,
        )
