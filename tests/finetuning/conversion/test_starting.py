"""A Mamba-2 layer begins with the attention that it replaces."""

import pytest
import torch

from mamba_slm.core.errors import ConfigError
from mamba_slm.finetuning.conversion.shape import HybridShape
from mamba_slm.finetuning.conversion.starting import mamba_from_attention, strongest_directions
from mamba_slm.model.config import ModelConfig

LLAMA = ModelConfig(
    pattern="*-*-",
    vocab_size=64,
    hidden_size=32,
    num_heads=4,
    num_kv_heads=2,
    feed_forward_size=48,
    max_context_tokens=64,
)


def attention_of(config, seed=0):
    generator = torch.Generator().manual_seed(seed)
    kv = config.num_kv_heads * config.head_dim
    sizes = {"q_proj": (32, 32), "k_proj": (kv, 32), "v_proj": (kv, 32), "o_proj": (32, 32)}
    return {name: torch.randn(size, generator=generator) for name, size in sizes.items()}


def parts(mixer, config):
    sizes = [config.inner_size, config.inner_size, *[config.num_groups * config.state_size] * 2, config.num_ssm_heads]
    return dict(zip(["z", "x", "B", "C", "dt"], mixer["in_proj.weight"].split(sizes), strict=True))


@pytest.mark.parametrize(("groups", "expand"), [(1, 1), (1, 2), (2, 2), (4, 1), (4, 2)])
def test_queries_keys_values_and_outputs_of_every_head_become_c_b_x_and_out_proj(groups, expand):
    config = HybridShape(keep_attention=0.5, num_groups=groups, expand=expand, state_size=16).hybrid(LLAMA)
    attention = attention_of(config)
    mixer = mamba_from_attention(attention, config)
    found = parts(mixer, config)
    p, heads = config.ssm_head_dim, config.num_ssm_heads
    query = attention["q_proj"].unflatten(0, (4, 8))
    key, value = (attention[name].unflatten(0, (2, 8)) for name in ("k_proj", "v_proj"))
    B, C = (found[name].unflatten(0, (groups, 16)) for name in "BC")
    for head in range(heads):
        theirs = head // expand
        assert torch.equal(found["x"][head * p : (head + 1) * p], value[theirs // 2])
        columns = mixer["out_proj.weight"][:, head * p : (head + 1) * p]
        assert torch.allclose(columns, attention["o_proj"][:, theirs * 8 : (theirs + 1) * 8] / expand)
    for group in range(groups):
        members = range(group * 4 // groups, (group + 1) * 4 // groups)
        mean = torch.stack([query[head].T @ key[head // 2] for head in members]).mean(dim=0) / 8**0.5
        assert torch.allclose(C[group].T @ B[group], mean, atol=1e-4)
    assert not found["dt"].any()


def test_too_many_directions_become_the_best_form_of_lower_rank():
    generator = torch.Generator().manual_seed(1)
    queries, keys = torch.randn(12, 20, generator=generator), torch.randn(12, 20, generator=generator)
    C, B = strongest_directions(queries, keys, 5)
    form = queries.T @ keys
    _, values, _ = torch.linalg.svd(form)
    error = torch.linalg.matrix_norm(form - C.T @ B)
    assert torch.allclose(error, values[5:].square().sum().sqrt(), rtol=1e-4)
    assert torch.allclose(torch.linalg.matrix_norm(C), torch.linalg.matrix_norm(B), rtol=1e-4)


def test_what_attention_says_nothing_about_is_a_new_layers_and_depends_on_the_seed_alone():
    config = HybridShape(keep_attention=0.5, state_size=16).hybrid(LLAMA)
    first, again, other = (mamba_from_attention(attention_of(config), config, seed=seed) for seed in (1, 1, 2))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["A_log"], other["A_log"])
    steps = torch.nn.functional.softplus(first["dt_bias"])
    assert (steps > 1e-4).all() and (steps < 0.11).all()
    assert first["conv_weight"][:, -1].eq(1).all() and first["conv_weight"][:, :-1].eq(0).all()


@pytest.mark.parametrize(
    ("shape", "named"),
    [
        ({"ssm_head_dim": 16}, "ssm_head_dim 16 does not divide"),
        ({"num_groups": 3}, "num_groups"),
        ({"placement": "1,9"}, "outside"),
        ({"keep_attention": 1.5}, "1.5"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(shape, named):
    with pytest.raises(ConfigError, match=named):
        HybridShape(**shape).hybrid(LLAMA)
