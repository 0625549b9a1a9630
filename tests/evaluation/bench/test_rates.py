"""What the machine can do: all products of the model, and a buffer as large as its weights."""

import pytest
import torch

from mamba_slm.evaluation.bench.cells import Cell
from mamba_slm.evaluation.bench.limits import machine_limits
from mamba_slm.evaluation.bench.rates import MachineRates, MatrixProducts, Reading, has_products, projection_shapes
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
    prefill = MatrixProducts(CONFIG, Cell(task="prefill", tokens=16, precision="fp32"), "fp32")
    train = MatrixProducts(CONFIG, Cell(task="train", tokens=16, precision="bf16"), "bf16")
    assert prefill.flops == 2 * 16 * inside
    assert train.flops == 3 * 2 * 16 * (inside + head)
    assert prefill.rate() > 0
    assert train.rate() > 0


def test_products_of_8_bits_have_a_rate_where_pytorch_has_them():
    measured = MachineRates(CONFIG, Cell(task="prefill", tokens=16, precision="fp32"), ["fp32", "int8", "fp32"])
    assert list(measured.rates()) == (["fp32", "int8"] if has_products("int8") else ["fp32"])
    assert measured.unit == "FLOP/s"


@pytest.mark.parametrize("huge_pages", [True, False])
def test_reading_has_a_rate_for_every_size(huge_pages):
    reading = Reading([4096, 130], huge_pages=huge_pages)
    assert reading.sizes == [128, 4096]
    assert reading.rate(4096) > 0
    assert reading.rate(130) > 0


def test_the_rates_take_part_in_the_rounds_like_a_contender(job):
    work = RateWork(job("rate", "decode"))
    assert work.facts == {"unit": "bytes/s"}
    assert work.measure(["4096", "8192", "4096"]) == {}
    assert set(work.round()["rates"]) == {"4096", "8192"}


def test_the_limits_are_those_of_every_number_of_threads_and_leave_it_as_it_was():
    threads = torch.get_num_threads()
    limits = machine_limits(CONFIG, threads=2, passes=1)
    assert [row["threads"] for row in limits["products"]] == [1, 2]
    assert all(row["fp32"] > 0 and row["bf16"] > 0 for row in limits["products"])
    read = {(row["threads"], row["precision"], row["huge_pages"]): row for row in limits["reading"]}
    assert len(read) == 2 * 4 * 2
    assert read[1, "int4", True]["bytes"] == pytest.approx(read[1, "fp32", True]["bytes"] / 8, abs=1)
    assert all(row["bytes_per_second"] > 0 for row in read.values())
    assert torch.get_num_threads() == threads
