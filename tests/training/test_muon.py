"""Muon moves the matrices of the sublayers, AdamW everything else, and together they are one optimiser."""

import dataclasses

import pytest
import torch

from mamba_slm.core.errors import ConfigError
from mamba_slm.model.init import build_model
from mamba_slm.training.muon import takes_muon
from mamba_slm.training.optim import build_optimizer, load_optimizer_tensors, optimizer_tensors, parameter_groups
from training.small_run import TINY

SETTINGS = {"learning_rate": 1e-2, "weight_decay": 0.1, "betas": (0.9, 0.95), "epsilon": 1e-8}


def muon_of(model):
    return build_optimizer(model, **SETTINGS, name="muon")


def train(model, optimizer, seeds):
    for seed in seeds:
        tokens = torch.randint(0, 64, (2, 9), generator=torch.Generator().manual_seed(seed))
        model.loss(tokens[:, :-1], tokens[:, 1:]).backward()
        optimizer.step()
        optimizer.zero_grad()


def newton_schulz(matrix):
    """Five iterations as the authors publish them, in float32."""
    x = matrix.float() / matrix.norm()
    is_tall = x.shape[0] > x.shape[1]
    x = x.T if is_tall else x
    for _ in range(5):
        gram = x @ x.T
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
    return x.T if is_tall else x


def test_muon_takes_the_matrices_of_the_sublayers_and_nothing_else():
    model = build_model(dataclasses.replace(TINY, tie_embeddings=False))
    taken = {name for name, parameter in model.named_parameters() if takes_muon(name, parameter)}
    assert taken == {name for name, _ in model.named_parameters() if name.endswith("proj.weight")}
    assert not any(name.startswith(("embedding", "lm_head")) for name in taken)


def test_its_steps_are_those_of_torch_muon_and_torch_adamw_on_their_own_parameters():
    ours, theirs = build_model(TINY), build_model(TINY)
    groups = parameter_groups(theirs.named_parameters(), weight_decay=0.1)
    named = [(name, parameter, group["weight_decay"])
             for group in groups for name, parameter in zip(group["names"], group["params"], strict=True)]  # fmt: skip
    muon = torch.optim.Muon(
        [parameter for name, parameter, _ in named if takes_muon(name, parameter)],
        lr=1e-2,
        weight_decay=0.1,
        adjust_lr_fn="match_rms_adamw",
    )
    adamw = torch.optim.AdamW(
        [
            {"params": [parameter], "weight_decay": decay}
            for name, parameter, decay in named
            if not takes_muon(name, parameter)
        ],
        lr=1e-2,
        betas=(0.9, 0.95),
    )

    class Both:
        def step(self):
            muon.step()
            adamw.step()

        def zero_grad(self):
            muon.zero_grad()
            adamw.zero_grad()

    train(ours, muon_of(ours), range(3))
    train(theirs, Both(), range(3))
    for (name, a), b in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        if takes_muon(name, a):
            assert torch.allclose(a, b, rtol=0, atol=2e-4), name  # bfloat16 amplifies AdamW's rounding elsewhere
        else:
            assert torch.allclose(a, b, rtol=1e-4, atol=1e-5), name


def test_the_first_step_is_the_published_one():
    model = build_model(TINY)
    name = "sublayers.1.mixer.down_proj.weight"
    weight = model.get_parameter(name)
    before = weight.detach().clone()
    optimizer = muon_of(model)
    gradient = torch.randn(weight.shape, generator=torch.Generator().manual_seed(0))
    weight.grad = gradient.clone()
    optimizer.step()
    step = 0.2 * max(weight.shape) ** 0.5 * newton_schulz(gradient)  # momentum only changes its length
    found = (before * (1 - 1e-2 * 0.1) - weight.detach()) / 1e-2
    assert torch.linalg.vector_norm(found - step) < 0.03 * torch.linalg.vector_norm(step)


def test_its_step_has_the_root_mean_square_of_an_adamw_step():
    model = build_model(TINY)
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    optimizer = build_optimizer(model, **{**SETTINGS, "weight_decay": 0.0}, name="muon")
    train(model, optimizer, range(1))
    for name, parameter in model.named_parameters():
        if takes_muon(name, parameter):
            rms = ((parameter - before[name]) / 1e-2).pow(2).mean().sqrt()
            assert 0.1 < rms < 0.3, name


def test_a_learning_rate_set_on_its_groups_holds_for_both_parts():
    model = build_model(TINY)
    optimizer = build_optimizer(model, **{**SETTINGS, "weight_decay": 0.0}, name="muon")
    for group in optimizer.param_groups:
        group["lr"] = 0.0
    before = [parameter.detach().clone() for parameter in model.parameters()]
    train(model, optimizer, range(2))
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


def test_its_state_survives_a_round_trip_to_the_last_bit():
    first, second = build_model(TINY), build_model(TINY)
    optimizer = muon_of(first)
    train(first, optimizer, range(3))
    second.load_state_dict(first.state_dict())
    restored = muon_of(second)
    load_optimizer_tensors(restored, optimizer_tensors(optimizer))
    train(first, optimizer, range(3, 6))
    train(second, restored, range(3, 6))
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


def test_it_keeps_one_moment_for_a_matrix_and_two_for_the_rest():
    model = build_model(TINY)
    optimizer = muon_of(model)
    train(model, optimizer, range(1))
    keys = {}
    for name in optimizer_tensors(optimizer):
        keys.setdefault(name.rpartition("/")[0], set()).add(name.rpartition("/")[2])
    for name, parameter in model.named_parameters():
        expected = {"momentum_buffer"} if takes_muon(name, parameter) else {"exp_avg", "exp_avg_sq", "step"}
        assert keys[name] == expected


@pytest.mark.parametrize(("saved", "asked"), [("muon", "adamw"), ("adamw", "muon")])
def test_the_state_of_another_optimiser_is_refused_and_both_are_named(saved, asked):
    model = build_model(TINY)
    optimizer = build_optimizer(model, **SETTINGS, name=saved)
    train(model, optimizer, range(1))
    other = build_optimizer(build_model(TINY), **SETTINGS, name=asked)
    with pytest.raises(ConfigError, match=f"state of {saved}, and the run asks for {asked}"):
        load_optimizer_tensors(other, optimizer_tensors(optimizer))


def test_a_run_with_muon_learns_and_goes_on_to_the_last_bit(make_trainer):
    whole = make_trainer("whole", optimizer="muon", max_steps=8)
    assert whole.train().loss < 3.9  # ln 64 is 4.16
    make_trainer("cut", optimizer="muon", max_steps=4, schedule="constant").train()
    straight = make_trainer("straight", optimizer="muon", max_steps=8, schedule="constant")
    straight.train()
    resumed = make_trainer("cut", optimizer="muon", max_steps=8, schedule="constant")
    resumed.train(resume=True)
    for a, b in zip(straight.model.parameters(), resumed.model.parameters(), strict=True):
        assert torch.equal(a, b)
