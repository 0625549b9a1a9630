"""Initialisation: the ranges of the reference implementation, whatever way the model came to be."""

import math

import pytest
import torch
import torch.nn.functional as F

from mamba_slm.model.attention import Attention
from mamba_slm.model.init import build_model, draw_steps, initialize, inverse_softplus
from mamba_slm.model.mamba2 import Mamba2
from mamba_slm.model.presets import preset
from mamba_slm.model.stack import LanguageModel
from mamba_slm.model.swiglu import SwiGLU

CONFIGS = {
    "nano": preset("nano", vocab_size=300),
    "classic": preset("nano", vocab_size=300, layout="classic", num_groups=2, position="learned"),
}


def assert_initialised(model):
    """The range test of the numerics page."""
    for name, parameter in model.named_parameters():
        assert parameter.dtype == torch.float32, name
        assert parameter.isfinite().all(), name
        assert parameter.any(), f"{name} is all zero"
    mixers = [module for module in model.modules() if isinstance(module, Mamba2)]
    assert mixers
    for mixer in mixers:
        steps = F.softplus(mixer.dt_bias)
        assert ((steps >= 1e-4) & (steps <= 0.1001)).all()
        decay = mixer.A_log.exp()
        assert ((decay >= 1) & (decay <= 16.0001)).all()
        assert (mixer.D == 1).all()
        for parameter in (mixer.conv_weight, mixer.conv_bias):
            assert (parameter.abs() <= 0.5).all()
            assert parameter.abs().max() > 0.4  # fills the range
        for parameter in (mixer.A_log, mixer.dt_bias):
            assert parameter.unique().numel() == parameter.numel()  # heads differ


def built(config):
    return build_model(config, seed=1)


def materialised(config):
    """As FSDP does it: meta device, then uninitialised memory, then the rules."""
    model = build_model(config, device="meta").to_empty(device="cpu")
    for parameter in model.parameters():
        parameter.data.fill_(float("nan"))
    initialize(model, seed=1)
    return model


def overwritten(config):
    """A model that PyTorch's own defaults had touched."""
    model = LanguageModel(config)
    initialize(model, seed=1)
    return model


@pytest.mark.parametrize("how", [built, materialised, overwritten])
@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_every_tensor_starts_in_its_range(config, how):
    assert_initialised(how(config))


@pytest.mark.parametrize("how", [materialised, overwritten])
@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_the_weights_depend_on_config_and_seed_alone(config, how):
    torch.manual_seed(77)  # the global generator plays no part
    expected, model = build_model(config, seed=1).state_dict(), how(config)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, expected[name]), name


def test_another_seed_gives_other_weights():
    one, two = (build_model(CONFIGS["nano"], seed=seed).state_dict() for seed in (1, 2))
    constant = ("norm.weight", ".D")
    assert all(torch.equal(one[name], two[name]) == name.endswith(constant) for name in one)


def test_building_leaves_the_global_generator_alone():
    before = torch.get_rng_state()
    build_model(CONFIGS["nano"], seed=1)
    assert torch.equal(torch.get_rng_state(), before)


def test_projections_back_to_the_residual_stream_shrink_with_depth():
    shallow = build_model(preset("nano", vocab_size=300, pattern="M-*-"), seed=1)
    deep = build_model(preset("nano", vocab_size=300, pattern="M-*-M-*-M-*-M-*-"), seed=1)

    def bounds(model):
        """Largest weight times √inputs, of outgoing and of incoming projections."""
        outgoing, incoming = [], []
        for module in model.modules():
            if isinstance(module, Mamba2):
                outgoing.append(module.out_proj)
                incoming.append(module.in_proj)
            elif isinstance(module, Attention):
                outgoing.append(module.o_proj)
                incoming += [module.q_proj, module.k_proj, module.v_proj]
            elif isinstance(module, SwiGLU):
                outgoing.append(module.down_proj)
                incoming.append(module.gate_up_proj)
        return [
            max(float(linear.weight.detach().abs().max()) * math.sqrt(linear.in_features) for linear in group)
            for group in (outgoing, incoming)
        ]

    for model in (shallow, deep):
        outgoing, incoming = bounds(model)
        assert 0.99 < incoming <= 1
        assert 0.99 < outgoing * math.sqrt(len(model.sublayers)) <= 1.0001


def test_steps_are_log_uniform_and_never_below_the_floor():
    steps = draw_steps(20_000, torch.Generator().manual_seed(0))
    assert float(steps.min()) >= 1e-3 * 0.999
    assert float(steps.max()) <= 1e-1 * 1.001
    middle = float((steps < 1e-2).float().mean())  # half of them in each decade
    assert 0.48 < middle < 0.52


@pytest.mark.parametrize("value", [1e-4, 1e-3, 0.1, 1.0, 15.0])
def test_inverse_softplus_is_exact_where_the_naive_formula_is_not(value):
    x = inverse_softplus(torch.tensor(value))
    assert F.softplus(x).item() == pytest.approx(value, rel=1e-3)


def test_a_fresh_model_predicts_nothing_in_particular():
    model = build_model(CONFIGS["nano"], seed=1)
    tokens = torch.randint(0, 300, (2, 65))
    loss = model.loss(tokens[:, :-1], tokens[:, 1:]).item()
    assert abs(loss - math.log(300)) < 0.3
