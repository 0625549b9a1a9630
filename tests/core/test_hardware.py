import pytest

from mamba_slm.core.errors import UnknownNameError
from mamba_slm.core.hardware import GPUS, find_gpu, gpu_by_device_name


@pytest.mark.parametrize(
    ("typed", "name"),
    [
        ("H100 80GB", "H100 80GB"),
        ("h100", "H100 80GB"),
        ("h100-pcie", "H100 PCIe 80GB"),
        ("a100-40gb", "A100 40GB"),
        ("A100 80 GB", "A100 80GB"),
        ("rtx4090", "RTX 4090 24GB"),
    ],
)
def test_a_gpu_is_found_as_people_write_it(typed, name):
    assert find_gpu(typed).name == name


def test_an_unknown_gpu_gets_the_nearest_name():
    with pytest.raises(UnknownNameError, match="did you mean 'H100 80GB'"):
        find_gpu("H101 80GB")


@pytest.mark.parametrize(
    ("reported", "name"),
    [
        ("NVIDIA H100 80GB HBM3", "H100 80GB"),
        ("NVIDIA H100 PCIe", "H100 PCIe 80GB"),
        ("NVIDIA A100-SXM4-40GB", "A100 40GB"),
        ("NVIDIA A100-SXM4-80GB", "A100 80GB"),
        ("NVIDIA GeForce RTX 4090", "RTX 4090 24GB"),
        ("Tesla V100-SXM2-32GB", "V100 32GB"),
        ("NVIDIA L4", "L4 24GB"),
    ],
)
def test_a_gpu_is_found_by_the_name_its_driver_reports(reported, name):
    assert gpu_by_device_name(reported).name == name


@pytest.mark.parametrize("reported", ["NVIDIA GeForce RTX 4090 Laptop GPU", "GeForce GT 710", ""])
def test_a_gpu_that_is_not_in_the_table_is_not_guessed(reported):
    assert gpu_by_device_name(reported) is None


def test_every_row_is_plausible_and_names_its_source():
    for row in GPUS.values():
        assert row.half_flops_per_second > row.single_flops_per_second > 1e12
        assert 8 * 2**30 <= row.memory_bytes <= 300 * 2**30
        assert 0.1 <= row.price_per_hour_usd <= 10
        assert row.source


def test_a_gpu_without_bfloat16_units_computes_it_at_its_float32_rate():
    v100 = GPUS["V100 32GB"]
    assert v100.flops_per_second("bf16") == v100.flops_per_second("fp32") == v100.single_flops_per_second
    assert v100.flops_per_second("fp16") == v100.half_flops_per_second
