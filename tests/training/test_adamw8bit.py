"""AdamW with moments of 8 bits steps nearly as AdamW does, in a quarter of the memory."""

import logging

import pytest
import torch

from mamba_slm.core.errors import ConfigError
from mamba_slm.training.adamw8bit import quiet
from mamba_slm.training.optim import build_optimizer, load_optimizer_tensors, optimizer_tensors, require_optimizer

pytest.importorskip("bitsandbytes", reason="the extra bnb is not installed")
SETTINGS = {"learning_rate": 1e-3, "weight_decay": 0.1, "betas": (0.9, 0.95), "epsilon": 1e-8}


class Pair(torch.nn.Module):
    """A matrix whose moments are quantised and a vector whose moments are not."""

    def __init__(self):
        super().__init__()
        random = torch.Generator().manual_seed(0)
        self.matrix = torch.nn.Parameter(torch.randn(64, 128, generator=random))
        self.vector = torch.nn.Parameter(torch.randn(128, generator=random))


def step(model, optimizer, seed):
    random = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=random) * 0.01 + 0.01
    optimizer.step()


def moved(name, steps=20):
    model = Pair()
    before = [parameter.detach().clone() for parameter in model.parameters()]
    optimizer = build_optimizer(model, **SETTINGS, name=name)
    for seed in range(steps):
        step(model, optimizer, seed)
    return [parameter.detach() - old for parameter, old in zip(model.parameters(), before, strict=True)], optimizer


def test_small_parameters_move_as_under_adamw_and_large_ones_nearly_so():
    (matrix, vector), _ = moved("adamw8bit")
    (matrix_32, vector_32), _ = moved("adamw")
    assert torch.allclose(vector, vector_32, rtol=1e-4, atol=1e-6)
    assert torch.linalg.vector_norm(matrix - matrix_32) < 0.03 * torch.linalg.vector_norm(matrix_32)
    assert not torch.equal(matrix, matrix_32)


def test_moments_of_a_large_parameter_take_a_byte_per_value_and_a_scale_per_block():
    _, optimizer = moved("adamw8bit", steps=1)
    sizes = {name: value.numel() * value.element_size() for name, value in optimizer_tensors(optimizer).items()}
    of_matrix = sum(size for name, size in sizes.items() if name.startswith("matrix/"))
    assert of_matrix == 64 * 128 * 2 * (1 + 4 / 256) + 8
    assert not any("qmap" in name for name in sizes)


def test_its_state_survives_a_round_trip_to_the_last_bit():
    first, second = Pair(), Pair()
    optimizer = build_optimizer(first, **SETTINGS, name="adamw8bit")
    for seed in range(3):
        step(first, optimizer, seed)
    second.load_state_dict(first.state_dict())
    restored = build_optimizer(second, **SETTINGS, name="adamw8bit")
    load_optimizer_tensors(restored, optimizer_tensors(optimizer))
    for seed in range(3, 6):
        step(first, optimizer, seed)
        step(second, restored, seed)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


def test_a_run_goes_on_to_the_last_bit(make_trainer):
    settings = {"optimizer": "adamw8bit", "schedule": "constant"}
    make_trainer("cut", max_steps=4, **settings).train()
    straight = make_trainer("straight", max_steps=8, **settings)
    straight.train()
    resumed = make_trainer("cut", max_steps=8, **settings)
    resumed.train(resume=True)
    for a, b in zip(straight.model.parameters(), resumed.model.parameters(), strict=True):
        assert torch.equal(a, b)


def test_the_state_of_adamw_is_refused_and_both_are_named():
    _, adamw = moved("adamw", steps=1)
    _, adamw_8bit = moved("adamw8bit", steps=1)
    with pytest.raises(ConfigError, match="state of adamw, and the run asks for adamw8bit"):
        load_optimizer_tensors(adamw_8bit, optimizer_tensors(adamw))


@pytest.mark.parametrize("engine", ["fsdp", "deepspeed"])
def test_an_engine_that_cuts_its_blocks_is_refused_with_the_reason(engine):
    with pytest.raises(ConfigError, match=f"adamw8bit does not work with {engine}: blocks of 256 values"):
        require_optimizer("adamw8bit", engine=engine)


def test_a_remark_about_another_kernel_is_kept_from_the_screen_while_it_is_loaded(caplog):
    logger = logging.getLogger("a.library")
    with caplog.at_level(logging.WARNING):
        with quiet("a.library"):
            logger.warning("about something else")
        logger.warning("about this")
    assert [record.message for record in caplog.records] == ["about this"]
