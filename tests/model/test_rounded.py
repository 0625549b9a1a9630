import dataclasses

import pytest
import torch
from torch import nn

from mamba_slm.core.errors import UnknownNameError
from mamba_slm.model.config import ModelConfig
from mamba_slm.model.init import build_model
from mamba_slm.model.quantization import PLANS, Quantization, matrix_names, parse_keep
from mamba_slm.model.rounded import RoundedEmbedding, RoundedProjection, Switch, round_in_training
from mamba_slm.ops.lowbit.blocks import dequantize, quantize_nearest

CONFIG = ModelConfig(
    pattern="M-*-",
    vocab_size=96,
    hidden_size=64,
    num_heads=4,
    num_kv_heads=2,
    feed_forward_size=96,
    state_size=16,
    ssm_head_dim=16,
    chunk_size=8,
    max_context_tokens=32,
)
TOKENS = torch.randint(0, 96, (2, 16), generator=torch.Generator().manual_seed(1))
UNTIED = {True: CONFIG, False: dataclasses.replace(CONFIG, tie_embeddings=False)}


def rounded(plan, config=CONFIG, *, is_on=True):
    model = build_model(config, seed=0)
    round_in_training(model, plan, switch := Switch(is_on=is_on))
    return model, switch


def converted(model, plan, config):
    """A plain model with every matrix as it is after it was quantized to the nearest."""
    plain = build_model(config, seed=0)
    tensors = dict(model.state_dict())
    for name, scheme in plan.fitted_to(config).items():
        if scheme is not None:
            weight = tensors[f"{name}.weight"]
            tensors[f"{name}.weight"] = dequantize(quantize_nearest(weight, scheme))
    plain.load_state_dict(tensors)
    return plain


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
@pytest.mark.parametrize("name", ["int8", "int4", "nf4", "fp4", "mixed"])
def test_logits_and_loss_are_those_of_the_converted_model_to_the_last_bit(name, tied):
    model, _ = rounded(PLANS[name], UNTIED[tied])
    plain = converted(model, PLANS[name], UNTIED[tied])
    assert torch.equal(model(TOKENS), plain(TOKENS))
    assert torch.equal(model.loss(TOKENS, TOKENS), plain.loss(TOKENS, TOKENS))
    assert not torch.equal(model(TOKENS), build_model(UNTIED[tied], seed=0)(TOKENS))


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
def test_gradients_are_those_of_the_converted_model_passed_straight_to_the_weights(tied):
    plan = PLANS["int4"]
    model, _ = rounded(plan, UNTIED[tied])
    plain = converted(model, plan, UNTIED[tied])
    for each in (model, plain):
        each.loss(TOKENS, TOKENS).backward()
    pairs = zip(model.named_parameters(), plain.parameters(), strict=True)
    assert [name for (name, ours), theirs in pairs if not torch.equal(ours.grad, theirs.grad)] == []


def test_parameters_and_their_names_stay_so_that_optimisers_and_checkpoints_see_no_difference():
    plain = build_model(CONFIG, seed=0)
    before = dict(plain.named_parameters())
    round_in_training(plain, PLANS["int4"], Switch(is_on=True))
    after = dict(plain.named_parameters())
    assert list(before) == list(after)
    assert all(before[name] is after[name] for name in before)
    assert list(plain.state_dict()) == list(build_model(CONFIG, seed=0).state_dict())


def test_every_matrix_is_rounded_and_nothing_else():
    model, _ = rounded(PLANS["int4"])
    found = {name for name, part in model.named_modules() if isinstance(part, RoundedEmbedding | RoundedProjection)}
    assert found == set(matrix_names(CONFIG))
    assert not any(type(part) in (nn.Linear, nn.Embedding) for part in model.modules())


def test_a_switch_that_is_off_changes_nothing():
    model, switch = rounded(PLANS["int8-dynamic"], is_on=False)
    plain = build_model(CONFIG, seed=0)
    assert torch.equal(model(TOKENS), plain(TOKENS))
    switch.is_on = True
    assert not torch.equal(model(TOKENS), plain(TOKENS))


def test_parts_that_are_kept_are_not_rounded():
    plan = PLANS["int4"].keeping(parse_keep("in_proj=int8,embedding=bf16"))
    model, _ = rounded(plan)
    assert type(model.embedding) is nn.Embedding
    assert model.sublayers[0].mixer.in_proj.scheme.format == "int8"
    assert model.sublayers[0].mixer.out_proj.scheme.format == "int4"


def test_rows_that_no_block_divides_stay_as_they_are():
    config = dataclasses.replace(CONFIG, feed_forward_size=68)
    model, _ = rounded(PLANS["int4"], config)
    assert not isinstance(model.sublayers[1].mixer.down_proj, RoundedProjection)
    assert model(TOKENS).isfinite().all()


def test_a_part_that_no_model_has_is_refused_with_the_nearest_name():
    with pytest.raises(UnknownNameError, match="in_proj"):
        rounded(Quantization(default=None, parts=parse_keep("in_pro=int8")))


def test_int8_dynamic_rounds_the_inputs_of_products_too():
    weights_only, _ = rounded(PLANS["int8"])
    inputs_too, _ = rounded(PLANS["int8-dynamic"])
    exact, coarse = weights_only(TOKENS), inputs_too(TOKENS)
    assert not torch.equal(exact, coarse)
    assert (exact - coarse).abs().max() < 0.05 * exact.abs().max()


def test_nested_scales_of_an_embedding_are_those_of_the_whole_matrix():
    plan = Quantization(default=dataclasses.replace(PLANS["nf4"].default, double=True))
    model, _ = rounded(plan)
    assert torch.equal(model(TOKENS), converted(model, plan, CONFIG)(TOKENS))
