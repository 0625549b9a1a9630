import pytest
import torch

from mamba_slm.core.errors import ConfigError
from mamba_slm.model.init import build_model
from mamba_slm.training.optim import build_optimizer, load_optimizer_tensors, optimizer_tensors, parameter_groups
from training.small_run import TINY

DECAYS = {
    "embedding.weight",
    "sublayers.0.mixer.in_proj.weight",
    "sublayers.0.mixer.out_proj.weight",
    "sublayers.1.mixer.gate_up_proj.weight",
    "sublayers.1.mixer.down_proj.weight",
    "sublayers.2.mixer.q_proj.weight",
    "sublayers.2.mixer.k_proj.weight",
    "sublayers.2.mixer.v_proj.weight",
    "sublayers.2.mixer.o_proj.weight",
    "sublayers.3.mixer.gate_up_proj.weight",
    "sublayers.3.mixer.down_proj.weight",
}
NEVER_DECAYS = {
    "sublayers.0.norm.weight",
    "sublayers.0.mixer.conv_weight",
    "sublayers.0.mixer.conv_bias",
    "sublayers.0.mixer.A_log",
    "sublayers.0.mixer.D",
    "sublayers.0.mixer.dt_bias",
    "sublayers.0.mixer.norm.weight",
    "sublayers.1.norm.weight",
    "sublayers.2.norm.weight",
    "sublayers.3.norm.weight",
    "final_norm.weight",
}


def optimizer_of(model):
    return build_optimizer(model, learning_rate=1e-2, weight_decay=0.1, betas=(0.9, 0.95), epsilon=1e-8)


def train_one_step(model, optimizer, seed):
    tokens = torch.randint(0, 64, (2, 9), generator=torch.Generator().manual_seed(seed))
    model.loss(tokens[:, :-1], tokens[:, 1:]).backward()
    optimizer.step()
    optimizer.zero_grad()


def test_matrices_decay_and_nothing_else_does():
    groups = parameter_groups(build_model(TINY).named_parameters(), weight_decay=0.1)
    assert [group["weight_decay"] for group in groups] == [0.1, 0.0]
    assert set(groups[0]["names"]) == DECAYS
    assert set(groups[1]["names"]) == NEVER_DECAYS


def test_an_untied_head_decays_too():
    from dataclasses import replace

    model = build_model(replace(TINY, tie_embeddings=False))
    assert "lm_head.weight" in parameter_groups(model.named_parameters(), weight_decay=0.1)[0]["names"]


def test_every_parameter_is_in_exactly_one_group():
    model = build_model(TINY)
    groups = parameter_groups(model.named_parameters(), weight_decay=0.1)
    names = [name for group in groups for name in group["names"]]
    assert sorted(names) == sorted(name for name, _ in model.named_parameters())


def test_a_frozen_parameter_is_left_out():
    model = build_model(TINY)
    model.embedding.weight.requires_grad_(False)
    names = [name for group in parameter_groups(model.named_parameters(), weight_decay=0.1) for name in group["names"]]
    assert "embedding.weight" not in names


def test_a_model_without_trainable_parameters_is_refused():
    model = build_model(TINY).requires_grad_(False)
    with pytest.raises(ConfigError):
        optimizer_of(model)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_master_weights_are_refused(dtype):
    with pytest.raises(ConfigError, match="must be float32"):
        optimizer_of(build_model(TINY).to(dtype))


def test_the_optimizer_is_fused_adamw_with_the_given_betas():
    optimizer = optimizer_of(build_model(TINY))
    assert isinstance(optimizer, torch.optim.AdamW)
    assert all(group["fused"] and group["betas"] == (0.9, 0.95) for group in optimizer.param_groups)


def test_decay_shrinks_a_matrix_without_a_gradient_and_leaves_the_rest_alone():
    model = build_model(TINY)
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    optimizer = optimizer_of(model)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    for name, parameter in model.named_parameters():
        expected = before[name] * (1 - 1e-2 * 0.1) if name in DECAYS else before[name]
        assert torch.allclose(parameter, expected, rtol=1e-6, atol=0), name


def test_moments_survive_a_round_trip_to_the_last_bit():
    first, second = build_model(TINY), build_model(TINY)
    optimizer = optimizer_of(first)
    for seed in range(3):
        train_one_step(first, optimizer, seed)
    second.load_state_dict(first.state_dict())
    restored = optimizer_of(second)
    load_optimizer_tensors(restored, optimizer_tensors(optimizer))
    for seed in range(3, 6):
        train_one_step(first, optimizer, seed)
        train_one_step(second, restored, seed)
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b)


def test_moments_of_another_model_are_refused_by_name():
    model = build_model(TINY)
    optimizer = optimizer_of(model)
    train_one_step(model, optimizer, 0)
    tensors = optimizer_tensors(optimizer)
    tensors["sublayers.9.norm.weight/exp_avg"] = torch.zeros(32)
    with pytest.raises(ConfigError, match=r"sublayers\.9\.norm"):
        load_optimizer_tensors(optimizer_of(build_model(TINY)), tensors)
