"""transformers' models against ours, beyond the paths of the registry; and where transformers itself is the limit."""

import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import GraniteMoeHybridConfig, GraniteMoeHybridForCausalLM
from transformers.cache_utils import DynamicCache

from conformance.measure import projection_of
from conformance.models import ALL_CONFIGS, CONFIGS, LENGTHS, SIZES, fresh_model, sequences
from conformance.oracles import (
    GRANITE_LAYOUTS,
    HYBRID_LAYOUTS,
    Oracle,
    alone,
    cached,
    granite,
    granite_network,
    mixer_config,
    mixer_output,
    rows_of,
)
from conformance.paths import one_by_one, packed
from mamba_slm.model.config import ModelConfig
from mamba_slm.model.context import prepare
from mamba_slm.model.granite import from_granite_tensors, granite_config, tensor_pairs, to_granite_tensors
from mamba_slm.model.granite_import import model_config_from_granite
from mamba_slm.model.init import build_model
from mamba_slm.model.mamba2 import Mamba2
from mamba_slm.model.stack import LanguageModel
from mamba_slm.model.state import InferenceState, MambaState
from tolerances import assert_close, error_between, tolerance_of

ALLOWED = tolerance_of("oracle")
VISIBLE = 1e-3
"""A difference above this is another function, not rounding."""
hybrids = pytest.mark.parametrize("layout", HYBRID_LAYOUTS)


def gradients_of(logits, model):
    """Gradients of the fixed projection, by parameter."""
    return dict(
        zip(
            dict(model.named_parameters()),
            torch.autograd.grad(projection_of(logits), list(model.parameters())),
            strict=True,
        )
    )


@hybrids
def test_packed_documents_are_what_granite_computes_of_each_document_alone(layout):
    model, theirs = fresh_model(layout), fresh_model(layout)
    ours, expected = packed(model, sequences()), alone(granite(theirs), sequences())
    for found, document in zip(ours, expected, strict=True):
        assert_close(found, document, ALLOWED.values)
    wanted = gradients_of(expected, theirs)
    for name, gradient in gradients_of(ours, model).items():
        assert_close(gradient, wanted[name], ALLOWED.gradients, name)


def test_granites_pytorch_code_cannot_keep_packed_documents_apart():
    """Why packed documents are no path of Granite: without its CUDA kernels it refuses ids, and else it leaks."""
    oracle, (first, second) = granite(fresh_model("portable")), sequences((40, 50))
    row = torch.cat([first, second])[None]
    starts = torch.cat([torch.arange(40), torch.arange(50)])[None]
    ids = torch.tensor([0] * 40 + [1] * 50, dtype=torch.int32)[None]
    with torch.no_grad():
        with pytest.raises(ValueError, match="can't keep packed sequences apart"):
            oracle(row, position_ids=starts, seq_idx=ids)
        found = oracle(row, position_ids=starts)[0, 40:]
        expected = oracle(second[None])[0]
    assert error_between(found, expected) > VISIBLE


def test_granites_cache_takes_padding_on_the_right_for_tokens():
    """Why batch decoding is padded on the left: the convolution would go on from the padding. Ours goes on rightly."""
    model, rows = fresh_model("portable"), sequences((20, 30))
    tokens, mask = rows_of(rows, "right")
    following = torch.tensor([[7], [8]])
    with torch.no_grad():
        oracle = granite(model)
        cache = oracle.new_cache()
        oracle(tokens, mask=mask, cache=cache)
        theirs = oracle(following, mask=torch.cat([mask, mask.new_ones(2, 1)], dim=1), cache=cache)[0, 0]
        state = model.new_state(2)
        model(tokens, padding_mask=mask, state=state)
        ours = model(following, state=state)[0, 0]
        expected = oracle(torch.cat([rows[0], following[0]])[None])[0, -1]
    assert error_between(theirs, expected) > VISIBLE
    assert_close(ours, expected, ALLOWED.values)


def test_a_time_step_limit_makes_granites_prefill_and_decoding_differ():
    """Why a limit on dt is refused: transformers applies it to a prompt and not to a token that follows."""
    model, tokens = fresh_model("portable"), sequences()[2]
    limited = GraniteMoeHybridConfig(**granite_config(model.config) | {"time_step_limit": [0.0, 0.02]})
    oracle = Oracle(GraniteMoeHybridForCausalLM(limited).eval(), granite(model).tensors)
    with torch.no_grad():
        at_once, step_by_step = oracle(tokens[None])[0], cached(oracle, tokens, range(1, 64))
    assert error_between(step_by_step, at_once) > VISIBLE


@pytest.mark.parametrize("scaling", ["none", "linear", "ntk", "yarn", "llama3"])
def test_stretched_rotary_positions_are_the_same(scaling):
    stretched = {"max_context_tokens": 512, "rope_scaling": scaling, "rope_scaling_factor": 4.0}
    config = ModelConfig(**{**SIZES, **stretched}, pattern="*-M-")
    model = build_model(config, seed=3)
    with torch.no_grad():
        model.sublayers[0].mixer.q_proj.weight.mul_(8)  # attention that depends on positions
        model.embedding.weight.mul_(20)
        (expected,), (found,) = alone(granite(model), sequences()[4:]), one_by_one(model, sequences()[4:])
        model.architecture = replace(config, rope_scaling="none")
        (plain,) = one_by_one(model, sequences()[4:])
    assert_close(found, expected, ALLOWED.values)
    assert (error_between(plain, expected) > VISIBLE) == (scaling != "none")


def randomized_granite(config: GraniteMoeHybridConfig) -> GraniteMoeHybridForCausalLM:
    """Weights of transformers' own initialisation, where a constant or a rising series could hide a swapped pair."""
    torch.manual_seed(8)
    network = GraniteMoeHybridForCausalLM(config).eval()
    with torch.no_grad():
        network.model.embed_tokens.weight.mul_(20)
        for name, parameter in network.named_parameters():
            if name.endswith(("norm.weight", ".D", "layernorm.weight")):
                parameter.uniform_(0.5, 1.5)
            elif name.endswith((".A_log", ".dt_bias", "conv1d.bias")):
                parameter.uniform_(-1, 1)
    return network


THEIR_CONFIGS = {
    "rope, tied": {"position_embedding_type": "rope", "tie_word_embeddings": True, "mamba_n_groups": 2},
    "nope, untied": {"position_embedding_type": None, "tie_word_embeddings": False, "mamba_n_groups": 1},
}


@pytest.fixture(params=THEIR_CONFIGS)
def their_network(request):
    """A GraniteMoeHybrid that never was a model of ours, spelled as transformers 5 does."""
    return randomized_granite(
        GraniteMoeHybridConfig(
            vocab_size=SIZES["vocab_size"],
            hidden_size=32,
            num_hidden_layers=3,
            layer_types=["linear_attention", "full_attention", "linear_attention"],
            num_attention_heads=4,
            num_key_value_heads=2,
            shared_intermediate_size=40,
            attention_multiplier=8**-0.5,
            num_local_experts=0,
            num_experts_per_tok=0,
            mamba_n_heads=8,
            mamba_d_state=16,
            mamba_chunk_size=64,
            initializer_range=0.2,
            **THEIR_CONFIGS[request.param],
        )
    )


def test_a_granite_that_was_never_ours_computes_the_same_here(their_network):
    config = model_config_from_granite(their_network.config.to_dict())
    model = LanguageModel(config)
    model.load_state_dict(from_granite_tensors(their_network.state_dict(), config))
    expected = [their_network(tokens[None]).logits[0] for tokens in sequences()]
    found = one_by_one(model, sequences())
    for ours, theirs in zip(found, expected, strict=True):
        assert_close(ours, theirs, ALLOWED.values)
    projection_of(expected).backward()
    wanted = {name: parameter.grad for name, parameter in their_network.named_parameters()}
    gradients = to_granite_tensors(gradients_of(found, model), config)
    assert set(gradients) == set(wanted)
    for name, gradient in gradients.items():
        assert_close(gradient, wanted[name], ALLOWED.gradients, name)


def test_import_and_export_give_back_every_bit(their_network):
    config = model_config_from_granite(their_network.config.to_dict())
    theirs = dict(their_network.named_parameters())
    back = to_granite_tensors(from_granite_tensors(theirs, config), config)
    assert set(back) == set(theirs)
    assert all(torch.equal(back[name], tensor) for name, tensor in theirs.items())


def test_what_transformers_saves_can_be_imported(their_network, tmp_path):
    their_network.save_pretrained(tmp_path)
    config = model_config_from_granite(json.loads((tmp_path / "config.json").read_text(encoding="utf-8")))
    model = LanguageModel(config)
    model.load_state_dict(from_granite_tensors(load_file(tmp_path / "model.safetensors"), config))
    tokens = sequences()[1][None]
    with torch.no_grad():
        assert_close(model(tokens), their_network(tokens).logits, ALLOWED.values)


@pytest.mark.parametrize("layout", GRANITE_LAYOUTS)
def test_what_we_write_is_loaded_by_transformers_without_a_missing_or_unexpected_tensor(layout, tmp_path):
    model = fresh_model(layout)
    (tmp_path / "config.json").write_text(json.dumps(granite_config(model.config), allow_nan=False), encoding="utf-8")
    tensors = {
        name: tensor.contiguous() for name, tensor in to_granite_tensors(model.state_dict(), model.config).items()
    }
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    network, report = GraniteMoeHybridForCausalLM.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(report.values()), report
    tokens = sequences()[1][None]
    with torch.no_grad():
        assert_close(network(tokens).logits, model(tokens), ALLOWED.values)


def first_mixer(layout):
    """The Mamba-2 mixer nearest the embedding."""
    return next(module for module in fresh_model(layout).modules() if isinstance(module, Mamba2))


def two_rows(length):
    """The context of a call with two whole sequences."""
    return prepare((2, length), torch.device("cpu"), document_ids=None, padding_mask=None, state=None)


@pytest.mark.parametrize("layout", CONFIGS)
@pytest.mark.parametrize("length", LENGTHS)
def test_the_mixer_alone_is_transformers_mamba2_mixer(layout, length):
    config, mixer = CONFIGS[layout], first_mixer(layout)
    generator = torch.Generator().manual_seed(9)
    u = torch.randn(2, length, config.hidden_size, generator=generator).requires_grad_()
    weight = torch.randn(u.shape, generator=generator)
    ours, theirs = mixer(u, two_rows(length), None), mixer_output(mixer, u)
    assert_close(ours, theirs, ALLOWED.values)
    leaves = {"input": u, **dict(mixer.named_parameters())}
    found = torch.autograd.grad((ours * weight).sum(), list(leaves.values()))
    wanted = torch.autograd.grad((theirs * weight).sum(), list(leaves.values()))
    for name, gradient, expected in zip(leaves, found, wanted, strict=True):
        assert_close(gradient, expected, ALLOWED.gradients, name)


@pytest.mark.parametrize("layout", CONFIGS)
def test_the_step_of_the_mixer_alone_keeps_the_state_of_transformers_mamba2_mixer(layout):
    config, mixer = CONFIGS[layout], first_mixer(layout)
    u = torch.randn(2, 40, config.hidden_size, generator=torch.Generator().manual_seed(9))
    state = InferenceState.empty(config, 2, device=torch.device("cpu"), dtype=torch.float32)
    memory = next(layer for layer in state.layers if isinstance(layer, MambaState))
    cache = DynamicCache(config=mixer_config(config))
    with torch.no_grad():
        for part in (u[:, :30], *u[:, 30:].split(1, dim=1)):
            assert_close(
                mixer(part, two_rows(part.shape[1]), memory), mixer_output(mixer, part, cache=cache), ALLOWED.values
            )
            theirs = cache.layers[0]
            assert_close(memory.ssm, theirs.recurrent_states[0], ALLOWED.values, "SSM state")
            window = theirs.conv_states[0].transpose(1, 2)[:, 1:]  # theirs holds one input more than is read again
            assert_close(memory.window, window, ALLOWED.values, "window")


def same_shape_pairs():
    """Names of two tensors of one layer that could be taken for each other."""
    for layer, kind in enumerate("M*"):
        prefix = f"model.layers.{layer}"
        yield f"{prefix}.input_layernorm.weight", f"{prefix}.post_attention_layernorm.weight"
        if kind == "M":
            yield f"{prefix}.mamba.A_log", f"{prefix}.mamba.D"
            yield f"{prefix}.mamba.D", f"{prefix}.mamba.dt_bias"
        else:
            yield f"{prefix}.self_attn.k_proj.weight", f"{prefix}.self_attn.v_proj.weight"
            yield f"{prefix}.self_attn.q_proj.weight", f"{prefix}.self_attn.o_proj.weight"


@pytest.mark.parametrize(("one", "other"), list(same_shape_pairs()))
def test_two_tensors_that_change_places_are_seen(one, other):
    model, tokens = fresh_model("portable"), sequences()[1][None]
    oracle = granite(model)
    with torch.no_grad():
        expected = oracle(tokens)
        oracle.tensors[one], oracle.tensors[other] = oracle.tensors[other], oracle.tensors[one]
        assert error_between(oracle(tokens), expected) > VISIBLE


def test_gate_and_up_that_change_places_are_seen():
    model, tokens = fresh_model("portable"), sequences()[1][None]
    oracle, name = granite(model), "model.layers.0.shared_mlp.input_linear.weight"
    with torch.no_grad():
        expected = oracle(tokens)
        oracle.tensors[name] = torch.cat(oracle.tensors[name].chunk(2)[::-1])
        assert error_between(oracle(tokens), expected) > VISIBLE


@pytest.mark.parametrize("layout", GRANITE_LAYOUTS)
def test_the_pairs_are_exactly_the_tensors_of_both_models(layout):
    config = ALL_CONFIGS[layout]
    pairs, network = list(tensor_pairs(config)), granite_network(config)
    assert {pair.ours: pair.our_shape for pair in pairs} == {
        name: tuple(tensor.shape) for name, tensor in fresh_model(layout).named_parameters()
    }
    assert {pair.granite: pair.granite_shape for pair in pairs} == {
        name: tuple(tensor.shape) for name, tensor in network.named_parameters()
    }
    assert network.model.embed_tokens.padding_idx is None  # it would stop the gradient of one token
