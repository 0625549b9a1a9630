"""What the machine can do: all products of the model, and a buffer as large as its weights."""

import pytest

from mamba_slm.evaluation.bench.cells import Cell, read_weight_bytes
from mamba_slm.evaluation.bench.rates import MatrixProducts, Reading, machine_rate, projection_shapes
from mamba_slm.evaluation.bench.worker import RateWork
from small_models import varied_model

CONFIG = varied_model().config


def test_the_products_are_those_of_every_matrix_of_the_sublayers():
    matrices = [
        tuple(parameter.shape)
        for name, parameter in varied_model().named_parameters()
        if parameter.dim() == 2 and "conv" not in name and "embedding" not in name
    ]
    assert list(projection_shapes(CONFIG)) == matrices


def test_training_counts_three_products_with_the_head_and_prefill_one_without():
    inside = sum(outputs * inputs for outputs, inputs in projection_shapes(CONFIG))
    head = CONFIG.vocab_size * CONFIG.hidden_size
    prefill = MatrixProducts(CONFIG, Cell(task="prefill", tokens=16, precision="fp32"))
    train = MatrixProducts(CONFIG, Cell(task="train", tokens=16, precision="bf16"))
    assert prefill.flops == 2 * 16 * inside
    assert train.flops == 3 * 2 * 16 * (inside + head)
    assert prefill.rate() > 0
    assert train.rate() > 0


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_reading_covers_as_many_bytes_as_the_weights(precision):
    reading = machine_rate(CONFIG, Cell(task="decode", tokens=16, precision=precision))
    assert isinstance(reading, Reading)
    assert reading.num_bytes == pytest.approx(read_weight_bytes(CONFIG, precision), abs=4)
    assert reading.rate() > 0


def test_the_rate_takes_part_in_the_rounds_like_a_contender(job):
    work = RateWork(job("rate", "decode"))
    assert work.facts == {"unit": "bytes/s"}
    assert work.prove() == {}
    assert work.round()["rate"] > 0
