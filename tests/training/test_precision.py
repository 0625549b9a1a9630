import math

import pytest
import torch

from mamba_slm.core.errors import ConfigError, SetupError
from mamba_slm.model.init import build_model
from mamba_slm.training.gradients import accumulate_gradients
from mamba_slm.training.optim import build_optimizer
from mamba_slm.training.precision import Choice, Precision, choose_device, choose_precision, has_bf16_instructions
from training.small_run import TINY


def test_an_automatic_choice_says_why():
    device = choose_device("auto")
    assert device.reason.startswith("automatic: ")
    assert choose_precision("auto", device.value).reason.startswith("automatic: ")
    assert str(Choice("cpu", "asked for")) == "cpu (asked for)"


def test_what_is_asked_for_is_taken():
    assert choose_device("cpu") == Choice("cpu", "asked for")
    assert choose_precision("fp16", "cpu") == Choice("fp16", "asked for")


@pytest.mark.parametrize(("supported", "chosen"), [(True, "bf16"), (False, "fp32")])
def test_a_cpu_uses_bfloat16_only_where_it_has_instructions_for_it(monkeypatch, supported, chosen):
    monkeypatch.setattr("mamba_slm.training.precision.has_bf16_instructions", lambda: supported)
    assert choose_precision("auto", "cpu").value == chosen
    assert isinstance(has_bf16_instructions(), bool)


def test_a_device_that_is_not_there_is_refused():
    with pytest.raises(SetupError, match="cuda:99"):
        choose_device("cuda:99")
    with pytest.raises(ConfigError, match="'gpu'"):
        choose_device("gpu")


def test_an_unknown_precision_is_refused():
    with pytest.raises(ConfigError):
        choose_precision("fp8", "cpu")


@pytest.mark.parametrize("name", ["fp32", "bf16", "fp16"])
def test_masters_gradients_and_moments_are_float32_in_every_precision(name, batch):
    model = build_model(TINY)
    precision = Precision(name, "cpu")
    optimizer = build_optimizer(model, learning_rate=1e-3, weight_decay=0.1, betas=(0.9, 0.95), epsilon=1e-8)
    accumulate_gradients(model, batch, rows_at_once=2, precision=precision, device="cpu")
    precision.scaler.unscale_(optimizer)
    precision.scaler.step(optimizer)
    for parameter in model.parameters():
        assert parameter.dtype == parameter.grad.dtype == torch.float32
        assert optimizer.state[parameter]["exp_avg"].dtype == torch.float32


@pytest.mark.parametrize(("name", "allowed"), [("bf16", 0.02), ("fp16", 0.005)])
def test_half_precision_changes_loss_and_gradients_only_a_little(name, allowed, batch):
    def loss_and_gradient(name):
        model = build_model(TINY)
        precision = Precision(name, "cpu", initial_scale=256.0)
        loss = accumulate_gradients(model, batch, rows_at_once=4, precision=precision, device="cpu")
        return loss, torch.cat([p.grad.flatten() for p in model.parameters()]) / precision.scale

    exact_loss, exact = loss_and_gradient("fp32")
    loss, gradient = loss_and_gradient(name)
    assert loss == pytest.approx(exact_loss, rel=allowed)
    assert (gradient - exact).norm() <= 3 * allowed * exact.norm()


def test_only_fp16_scales_the_loss():
    assert Precision("fp32", "cpu").scale == Precision("bf16", "cpu").scale == 1.0
    assert Precision("fp16", "cpu").scale == 65536.0


def test_an_overflow_in_fp16_skips_the_step_and_halves_the_scale(make_trainer):
    trainer = make_trainer(precision="fp16", max_steps=6, validation=False)
    trainer.precision.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**40)
    before = trainer.model.embedding.weight.detach().clone()
    scales = []
    update = trainer.update_weights

    def watched(grad_norm):
        update(grad_norm)
        scales.append((math.isfinite(grad_norm), trainer.precision.scale))
        if not math.isfinite(grad_norm):
            assert torch.equal(trainer.model.embedding.weight, before)

    trainer.update_weights = watched
    trainer.train()
    assert scales[0] == (False, 2.0**39)
    assert any("overflow, step skipped" in line for line in trainer.lines)
    assert all(p.isfinite().all() for p in trainer.model.parameters())


def test_fp16_learns(make_trainer):
    trainer = make_trainer(precision="fp16", max_steps=25, validation=False)
    trainer.precision.scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    trainer.train()
    assert trainer.recent_losses[-1] < trainer.recent_losses[0] - 0.5
