"""Where the Mamba-2 layer that replaces an attention layer begins: with the attention's own projections.

Linear attention without softmax is a state-space layer (Wang et al., arXiv:2408.15237, "The Mamba in the Llama"):

    attention   y_t = Σ_s softmax(q_t · k_s) v_s          SSM   y_t = Σ_s (Π decay) dt_s (C_t · B_s) x_s

so C begins as the queries, B as the keys, x as the values and the output projection as the attention's. Heads that
share B and C (a group; all heads where there is one) get the n strongest directions of their mean query-key form

    M = mean over heads a of  W_q,a ᵀ W_k,kv(a)  ≈  Cᵀ B

which are exact where the group has no more than n of them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from mamba_slm.finetuning.conversion.shape import require_heads_fit
from mamba_slm.model.config import ModelConfig
from mamba_slm.model.init import build_model
from mamba_slm.model.pattern import MAMBA

MIXER = "sublayers.0.mixer."


@torch.no_grad()
def mamba_from_attention(attention: Mapping[str, Tensor], config: ModelConfig, *, seed: int = 0) -> dict[str, Tensor]:
    """The tensors of a `Mamba2` that begins with an attention's projections, in float32.

    The convolution begins as the identity, the step sizes do not depend on the token, and decay and gate are those of a
    new layer: attention says nothing about them. Every attention head begins as `expand` SSM heads of different decay.

    Args:
        attention: `q_proj`, `k_proj`, `v_proj`, `o_proj`, each [outputs inputs].
        config: sizes of the attention and of the mixer.
        seed: of what attention says nothing about.

    Returns: by the names of the mixer's parameters.

    Raises:
        ConfigError: the SSM heads cannot be cut from the attention heads.
    """
    require_heads_fit(config)
    mixer = new_mixer(config, seed)
    q, k, v, o = (attention[name].float() for name in ("q_proj", "k_proj", "v_proj", "o_proj"))
    sizes = [config.inner_size, config.inner_size, *[config.num_groups * config.state_size] * 2, config.num_ssm_heads]
    _, x, B, C, dt = mixer["in_proj.weight"].split(sizes)
    x.copy_(v[value_rows(config)])
    for group in range(config.num_groups):
        queries, keys = group_forms(q, k, config, group)
        found_c, found_b = strongest_directions(queries, keys, config.state_size)
        first = group * config.state_size
        C[first : first + config.state_size] = 0  # what the keys do not fill is written, and not yet read
        C[first : first + len(found_c)] = found_c
        B[first : first + len(found_b)] = found_b
    dt.zero_()
    mixer["conv_weight"].zero_()[:, -1] = 1
    mixer["conv_bias"].zero_()
    mixer["out_proj.weight"].copy_(o[:, output_columns(config)] / config.expand)
    return mixer


def new_mixer(config: ModelConfig, seed: int) -> dict[str, Tensor]:
    """The tensors of a freshly initialised mixer of these sizes."""
    alone = replace(config, pattern=MAMBA, vocab_size=1, tie_embeddings=True, position="nope", rope_scaling="none")
    state = build_model(alone, seed=seed).state_dict()
    return {name.removeprefix(MIXER): tensor for name, tensor in state.items() if name.startswith(MIXER)}


def value_rows(config: ModelConfig) -> Tensor:
    """[i] for every channel of x the row of v_proj that it begins as.

    The copies of an attention head, `expand` of them, follow one another, so that heads of a group are neighbours.
    """
    heads = torch.arange(config.num_heads)
    kv_head = heads // (config.num_heads // config.num_kv_heads)
    rows = kv_head[:, None] * config.head_dim + torch.arange(config.head_dim)  # [heads, head_dim]
    return rows[:, None].expand(-1, config.expand, -1).flatten()


def output_columns(config: ModelConfig) -> Tensor:
    """[i] for every channel of y the column of o_proj that reads it."""
    rows = torch.arange(config.hidden_size).unflatten(0, (config.num_heads, config.head_dim))
    return rows[:, None].expand(-1, config.expand, -1).flatten()


def group_forms(q: Tensor, k: Tensor, config: ModelConfig, group: int) -> tuple[Tensor, Tensor]:
    """Queries and keys [r d] of a group whose product queriesᵀ keys is the mean query-key form of its heads."""
    per_key = config.num_heads // config.num_kv_heads
    heads = range(group * config.num_heads // config.num_groups, (group + 1) * config.num_heads // config.num_groups)
    queries, keys = q.unflatten(0, (config.num_heads, -1)), k.unflatten(0, (config.num_kv_heads, -1))
    of_key: dict[int, list[int]] = {}
    for head in heads:
        of_key.setdefault(head // per_key, []).append(head)
    scale = 1 / math.sqrt(config.head_dim) / len(heads)
    summed = [queries[members].sum(dim=0) * scale for members in of_key.values()]
    return torch.cat(summed), torch.cat([keys[key] for key in of_key])


def strongest_directions(queries: Tensor, keys: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """C and B, each [n' d] with n' <= size rows, whose form CᵀB is nearest to queriesᵀ keys; r rows fit as they are.

    Both share the singular values, so that neither is much larger than the other.
    """
    left, left_factor = torch.linalg.qr(queries.T)
    right, right_factor = torch.linalg.qr(keys.T)
    u, values, v = torch.linalg.svd(left_factor @ right_factor.T)
    kept = min(size, len(values))
    root = values[:kept].sqrt()
    return (left @ u[:, :kept] * root).T, (right @ v[:kept].T * root).T
