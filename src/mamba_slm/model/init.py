"""All weight initialisation, in one function, with the source of every rule.

| tensor | rule | source |
|---|---|---|
| A_log | log of uniform(1, 16) | mamba_ssm `Mamba2` |
| dt_bias | inverse softplus of a step drawn log-uniformly from [1e-3, 1e-1], at least 1e-4 | mamba_ssm `Mamba2` |
| D, norm weights | 1 | mamba_ssm |
| convolution | uniform(-1/√k, 1/√k) for weight and bias, as PyTorch's Conv1d | mamba_ssm |
| projections into a sublayer | uniform(-1/√inputs, 1/√inputs), as PyTorch's Linear | mamba_ssm |
| projections back to the residual stream | the same, divided by √(number of sublayers) | GPT-2, mamba_ssm |
| embedding, head | normal(0, 0.02) | GPT-2, mamba_ssm |
| sublayers of plugins | their own `initialize` | |
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from mamba_slm.model.attention import Attention
from mamba_slm.model.config import ModelConfig
from mamba_slm.model.mamba2 import Mamba2
from mamba_slm.model.stack import LanguageModel, Sublayer
from mamba_slm.model.swiglu import SwiGLU

EMBEDDING_STD = 0.02
SMALLEST_STEP, LARGEST_STEP, STEP_FLOOR = 1e-3, 1e-1, 1e-4
SMALLEST_DECAY, LARGEST_DECAY = 1.0, 16.0


def build_model(config: ModelConfig, *, seed: int = 0, device: str | torch.device = "cpu") -> LanguageModel:
    """A freshly initialised model in float32. The weights depend on config and seed alone, not on the device.

    On the device "meta" nothing is allocated or initialised.
    """
    with torch.device("meta"):
        model = LanguageModel(config)
    if torch.device(device).type == "meta":
        return model
    model = model.to_empty(device="cpu")
    initialize(model, seed=seed)
    return model.to(device)


@torch.no_grad()
def initialize(model: LanguageModel, *, seed: int) -> None:
    """Overwrite every parameter of a CPU model by the rules above, in the order of the sublayers."""
    generator = torch.Generator().manual_seed(seed)
    model.embedding.weight.normal_(0, EMBEDDING_STD, generator=generator)
    if model.position_embedding is not None:
        model.position_embedding.weight.normal_(0, EMBEDDING_STD, generator=generator)
    if model.lm_head is not None:
        model.lm_head.weight.normal_(0, EMBEDDING_STD, generator=generator)
    for sublayer in model.sublayers:
        assert isinstance(sublayer, Sublayer)
        sublayer.norm.weight.fill_(1)
        initialize_mixer(sublayer.mixer, generator, num_sublayers=len(model.sublayers))
    model.final_norm.weight.fill_(1)


@torch.no_grad()
def initialize_mixer(mixer: nn.Module, generator: torch.Generator | None, *, num_sublayers: int) -> None:
    """The rows of the table that belong to one mixer; a generator of None means PyTorch's own."""
    residual_scale = 1 / math.sqrt(num_sublayers)
    if isinstance(mixer, Mamba2):
        initialize_mamba2(mixer, residual_scale, generator)
    elif isinstance(mixer, Attention):
        for projection in (mixer.q_proj, mixer.k_proj, mixer.v_proj):
            uniform_by_inputs(projection, generator)
        uniform_by_inputs(mixer.o_proj, generator, scale=residual_scale)
    elif isinstance(mixer, SwiGLU):
        uniform_by_inputs(mixer.gate_up_proj, generator)
        uniform_by_inputs(mixer.down_proj, generator, scale=residual_scale)
    elif getattr(mixer, "is_plugin_mixer", False):
        mixer.initialize(generator, residual_scale=residual_scale)  # type: ignore[operator]


def initialize_mamba2(mixer: Mamba2, residual_scale: float, generator: torch.Generator | None) -> None:
    """The Mamba-2 rows of the table."""
    uniform_by_inputs(mixer.in_proj, generator)
    bound = 1 / math.sqrt(mixer.conv_weight.shape[1])
    mixer.conv_weight.uniform_(-bound, bound, generator=generator)
    mixer.conv_bias.uniform_(-bound, bound, generator=generator)
    mixer.A_log.uniform_(SMALLEST_DECAY, LARGEST_DECAY, generator=generator).log_()
    mixer.dt_bias.copy_(inverse_softplus(draw_steps(mixer.dt_bias.shape[0], generator)))
    mixer.D.fill_(1)
    mixer.norm.weight.fill_(1)
    uniform_by_inputs(mixer.out_proj, generator, scale=residual_scale)


def draw_steps(heads: int, generator: torch.Generator | None) -> Tensor:
    """[h] step sizes, log-uniform."""
    low, high = math.log(SMALLEST_STEP), math.log(LARGEST_STEP)
    steps = torch.empty(heads, device="cpu")
    return steps.uniform_(low, high, generator=generator).exp().clamp(min=STEP_FLOOR)


def inverse_softplus(value: Tensor) -> Tensor:
    """The x with softplus(x) = value, exact for small values too."""
    return value + torch.log(-torch.expm1(-value))


def uniform_by_inputs(linear: nn.Linear, generator: torch.Generator | None, *, scale: float = 1.0) -> None:
    """uniform(-s/√inputs, s/√inputs)."""
    bound = scale / math.sqrt(linear.in_features)
    linear.weight.uniform_(-bound, bound, generator=generator)
