"""transformers' own class runs the folder; its residual stream has our names; nothing is loaded by halves."""

import contextlib

import pytest
import torch
from safetensors.torch import load_file, save_file

from export.their_models import MULTIPLIERS, edit_config, save_granite
from mamba_slm.core.errors import CheckpointError, DataError, SetupError
from mamba_slm.export.hf.runner import HfRunner, open_hf, quiet_transformers, require_grouped_norm
from mamba_slm.export.trace import residual_names
from small_models import save_complete_model, small_tokenizer

TOKENS = [5, 9, 200, 7, 0, 31, 31]


def test_the_points_of_the_residual_stream_are_where_they_say(tmp_path):
    runner = open_hf(save_granite(tmp_path, **MULTIPLIERS))
    trace = runner.trace(TOKENS, residuals=True)
    names = residual_names("M-*-M-")
    assert [name for name, _ in trace.residuals] == names
    points = dict(trace.residuals)
    with torch.no_grad():
        expected = runner.network(torch.tensor([TOKENS]), output_hidden_states=True, use_cache=False)
    for place, hidden in enumerate(expected.hidden_states[:-1]):
        assert points[names[2 * place]].equal(hidden[0]), names[2 * place]
    assert points["final norm"].equal(expected.hidden_states[-1][0])
    layer = runner.network.model.layers[1]
    with torch.no_grad():
        fed = layer.shared_mlp(layer.post_attention_layernorm(points["layer 1 attention"]))
    found = points["layer 1 attention"] + fed * MULTIPLIERS["residual_multiplier"]
    assert torch.allclose(found, points["layer 1 feed-forward"], atol=1e-5)
    assert trace.logits.equal(expected.logits[0])
    assert runner.trace(TOKENS).residuals == ()


def test_a_runner_says_what_it_is_and_encodes_text(tmp_path):
    runner = open_hf(save_granite(tmp_path), dtype=torch.bfloat16)
    assert isinstance(runner, HfRunner)
    assert runner.description.startswith("transformers ")
    assert runner.description.endswith("GraniteMoeHybridForCausalLM, bfloat16")
    assert (runner.vocab_size, runner.max_tokens) == (320, 96)
    assert runner.encode("def f():\n") == small_tokenizer().encode("def f():\n")
    (tmp_path / "tokenizer.json").unlink()
    assert open_hf(tmp_path).encode("text") is None


@pytest.mark.parametrize("what", ["missing", "unexpected", "mismatched"])
def test_tensors_that_do_not_fit_the_config_are_refused_by_name(tmp_path, what):
    file, name = save_granite(tmp_path) / "model.safetensors", "model.layers.1.self_attn.q_proj.weight"
    tensors = load_file(file)
    if what == "missing":
        del tensors[name]
    elif what == "unexpected":
        name = "model.layers.1.extra.weight"
        tensors[name] = torch.zeros(3)
    else:
        tensors[name] = torch.zeros(3, 3)
    save_file(tensors, file, metadata={"format": "pt"})
    with pytest.raises(CheckpointError) as caught:
        open_hf(tmp_path)
    assert name in caught.value.message or what == "mismatched"


def test_damaged_weights_are_refused(tmp_path):
    file = save_granite(tmp_path) / "model.safetensors"
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match="transformers cannot load"):
        open_hf(tmp_path)


def test_code_in_a_folder_is_never_run(tmp_path):
    folder = save_complete_model(tmp_path / "model")
    (folder / "modeling_mamba_slm.py").write_text("raise SystemExit('this must not run')")
    edit_config(folder, model_type="somebody_elses")
    with pytest.raises(DataError, match="somebody_elses"):
        open_hf(folder)


@pytest.mark.parametrize(
    ("groups", "version", "works"), [(1, "5.17.0", True), (2, "5.22.2", False), (2, "5.23.0", True)]
)
def test_a_transformers_that_normalises_all_groups_together_is_refused_for_models_of_several(groups, version, works):
    with contextlib.nullcontext() if works else pytest.raises(SetupError, match=f"2 groups.*{version}"):
        require_grouped_norm({"mamba_n_groups": groups}, version)


def test_transformers_is_as_talkative_afterwards_as_before():
    from transformers.utils import logging

    before = logging.get_verbosity(), logging.is_progress_bar_enabled()
    with pytest.raises(KeyError), quiet_transformers():
        assert logging.get_verbosity() == logging.ERROR
        assert not logging.is_progress_bar_enabled()
        raise KeyError
    assert (logging.get_verbosity(), logging.is_progress_bar_enabled()) == before
