"""Model folders travel between our loader and transformers without losing a bit, with and without this package."""

import json
import subprocess
import sys
import textwrap
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, AutoTokenizer

from mamba_slm.core.errors import CheckpointError, UsageError
from mamba_slm.generation.text import prompt_tokens
from mamba_slm.model.checkpoint import load_model, save_model
from mamba_slm.model.hf import HybridSlmForCausalLM
from mamba_slm.model.hf_bundle import FILE_NAME, modelling_source
from mamba_slm.model.hf_config import HybridSlmConfig
from mamba_slm.model.hf_folder import make_loadable
from mamba_slm.model.init import build_model
from mamba_slm.model.kept_float32 import KeptFloat32
from mamba_slm.model.packed import nearest
from mamba_slm.model.quantization import PLANS
from mamba_slm.model.quantized import save_quantized
from mamba_slm.training.publishing import complete_for_transformers
from model.hf_models import CONFIGS, random_tokens, varied, wrapped
from model.test_init import assert_initialised
from small_models import save_complete_model, small_tokenizer, varied_model

SSM_PARAMETERS = ("A_log", "D", "dt_bias")


@pytest.fixture(params=list(CONFIGS))
def kind(request):
    return request.param


@pytest.fixture
def folder(tmp_path, kind):
    save_model(varied(kind), tmp_path)
    return tmp_path


def same_tensors(one, two):
    one, two = dict(one.named_parameters()), dict(two.named_parameters())
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


def test_a_folder_of_ours_loads_with_the_auto_classes(folder, kind):
    assert AutoConfig.from_pretrained(folder).architecture == CONFIGS[kind]
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert isinstance(model, HybridSlmForCausalLM)
    assert same_tensors(model, wrapped(kind))
    assert same_tensors(AutoModel.from_pretrained(folder), wrapped(kind).model)


def test_what_transformers_saves_loads_here_to_the_last_bit(tmp_path, kind):
    wrapped(kind).save_pretrained(tmp_path)
    ours = load_model(tmp_path)
    assert ours.config == CONFIGS[kind]
    assert same_tensors(ours, varied(kind))
    assert same_tensors(AutoModelForCausalLM.from_pretrained(tmp_path), wrapped(kind))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_loading_and_saving_in_16_bits_leaves_the_state_space_alone(folder, tmp_path, dtype, kind):
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype)
    model.save_pretrained(tmp_path / "again")
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "again", dtype=dtype)
    original = varied(kind)
    assert same_tensors(again, model)
    for name, parameter in original.named_parameters():
        kept = model.get_parameter(f"model.{name}" if name != "lm_head.weight" else name)
        if name.endswith((*SSM_PARAMETERS, "conv_weight", "conv_bias", "norm.weight")):
            assert torch.equal(kept, parameter), name
        else:
            assert kept.dtype == dtype, name


@pytest.mark.parametrize("cast", [lambda m: m.to(torch.bfloat16), lambda m: m.bfloat16(), lambda m: m.half()])
@pytest.mark.parametrize("make", [varied, wrapped])
def test_casting_a_model_never_rounds_what_must_stay_float32(make, cast):
    model, original = cast(make("portable")), dict(make("portable").named_parameters())
    kept = {f"{path}.{name}" for path, module in model.named_modules() if isinstance(module, KeptFloat32)
            for name in module.kept_float32}  # fmt: skip
    assert {name.rpartition(".")[2] for name in kept} >= {*SSM_PARAMETERS, "conv_weight", "conv_bias", "weight"}
    for name, parameter in model.named_parameters():
        if name in kept:
            assert torch.equal(parameter, original[name]), name
        else:
            assert parameter.dtype in (torch.bfloat16, torch.float16), name
    assert model.double().get_parameter(sorted(kept)[0]).dtype == torch.float64  # widening loses nothing


def test_tied_weights_stay_tied(tmp_path, kind):
    save_model(varied(kind), tmp_path)
    make_loadable(tmp_path)  # without a tokenizer
    model = AutoModelForCausalLM.from_pretrained(tmp_path)
    tied = CONFIGS[kind].tie_embeddings
    assert (model.lm_head.weight is model.model.embedding.weight) is tied
    model.resize_token_embeddings(330)
    assert (model.lm_head.weight is model.model.embedding.weight) is tied
    assert model.config.vocab_size == model(random_tokens(1, 3)).logits.shape[-1] == 330
    model.save_pretrained(tmp_path / "larger")
    ours = load_model(tmp_path / "larger")
    assert ours.config.vocab_size == 330
    assert (ours.lm_head is None) is tied


def test_a_model_made_from_a_config_is_initialised_by_our_rules():
    model = AutoModelForCausalLM.from_config(HybridSlmConfig.from_architecture(CONFIGS["classic, untied, nope"]))
    assert_initialised(model)
    assert 0.015 < model.model.embedding.weight.std() < 0.025
    assert 0.015 < model.lm_head.weight.std() < 0.025
    ours = build_model(CONFIGS["classic, untied, nope"], seed=1)
    for name, parameter in ours.named_parameters():  # the same widths, though not the same numbers
        if parameter.dim() > 1:
            found = model.get_parameter(f"model.{name}" if name != "lm_head.weight" else name)
            assert abs(float(found.detach().std() / parameter.detach().std()) - 1) < 0.15, name


def test_missing_weights_are_initialised_and_present_ones_kept(tmp_path):
    model = wrapped()
    tensors = model.state_dict()
    del tensors["model.sublayers.0.mixer.A_log"]
    tensors["model.sublayers.0.mixer.D"] = torch.full((4,), 7.0)
    model.save_pretrained(tmp_path, state_dict=tensors)
    found = AutoModelForCausalLM.from_pretrained(tmp_path).model.sublayers[0].mixer
    assert (found.D == 7).all()
    assert ((found.A_log.exp() >= 1) & (found.A_log.exp() <= 16.0001)).all()
    with pytest.raises(CheckpointError, match="does not fit its config"):
        load_model(tmp_path)


@pytest.fixture
def complete(tmp_path):
    return save_complete_model(tmp_path / "model")


def test_a_complete_folder_brings_its_tokenizer_and_the_tokens_that_end_a_text(complete):
    tokenizer = AutoTokenizer.from_pretrained(complete)
    text = "def grüße(x): # 語"
    assert tokenizer(text)["input_ids"] == prompt_tokens(small_tokenizer(), text)  # begins as in training
    assert tokenizer.decode(tokenizer(text)["input_ids"], skip_special_tokens=True) == text
    assert (tokenizer.eos_token_id, tokenizer.pad_token_id, tokenizer.padding_side) == (0, 3, "left")
    model = AutoModelForCausalLM.from_pretrained(complete)
    assert (model.generation_config.eos_token_id, model.generation_config.pad_token_id) == (0, 3)
    assert same_tensors(load_model(complete), load_model(complete))


def test_completing_a_folder_twice_changes_nothing_and_keeps_what_others_wrote(complete):
    (complete / "tokenizer_config.json").write_text('{"mine": 1}')
    before = {path.name: path.read_bytes() for path in complete.iterdir()}
    complete_for_transformers(complete)
    assert {path.name: path.read_bytes() for path in complete.iterdir()} == before


WITHOUT_PACKAGE = """
    import sys

    class Absent:
        def find_spec(self, name, path=None, target=None):
            if name.partition(".")[0] == "mamba_slm":
                raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    sys.meta_path.insert(0, Absent())
    import json, torch
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer
    folder, out = sys.argv[1:3]
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    model = AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True)
    tokens = torch.tensor(json.loads(sys.argv[3]))
    settings = {"max_new_tokens": 8, "do_sample": False, "attention_mask": torch.ones_like(tokens)}
    torch.save({
        "logits": model(tokens).logits,
        "greedy": model.generate(tokens, **settings),
        "beams": model.generate(tokens, num_beams=3, **settings),
        "lookup": model.generate(tokens, prompt_lookup_num_tokens=3, **settings),
        "text": AutoTokenizer.from_pretrained(folder, trust_remote_code=True)("def f")["input_ids"],
    }, out + ".pt")
    AutoModelForSequenceClassification.from_pretrained(folder, trust_remote_code=True, num_labels=1)
    model.save_pretrained(out)
    again = AutoModelForCausalLM.from_pretrained(out, trust_remote_code=True)
    assert torch.equal(again(tokens).logits, model(tokens).logits)
    assert "mamba_slm" not in sys.modules
"""


def test_without_the_package_the_code_in_the_folder_gives_the_same_bits(complete, tmp_path):
    tokens = random_tokens(1, 14)
    out = tmp_path / "saved"
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(WITHOUT_PACKAGE), complete, out, json.dumps(tokens.tolist())],
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = torch.load(f"{out}.pt", weights_only=True)
    model: Any = AutoModelForCausalLM.from_pretrained(complete)
    with torch.no_grad():
        assert torch.equal(found["logits"], model(tokens).logits)
    settings = {"max_new_tokens": 8, "do_sample": False, "attention_mask": torch.ones_like(tokens)}
    assert torch.equal(found["greedy"], model.generate(tokens, **settings))
    assert torch.equal(found["beams"], model.generate(tokens, num_beams=3, **settings))
    assert torch.equal(found["lookup"], found["greedy"])
    assert found["text"] == prompt_tokens(small_tokenizer(), "def f")
    assert (out / FILE_NAME).is_file()
    assert load_model(out).config == load_model(complete).config


def test_the_one_file_needs_nothing_of_this_package():
    source = modelling_source()
    compile(source, FILE_NAME, "exec")
    imports = {
        line.split()[1].partition(".")[0] for line in source.splitlines() if line.startswith(("import ", "from "))
    }
    assert "torch" in imports and "transformers" in imports
    assert imports <= {"torch", "transformers", *sys.stdlib_module_names}


def test_a_quantized_folder_is_refused_with_the_way_out(tmp_path):
    model, plan = varied_model(), PLANS["int8"]
    save_quantized(tmp_path, model.config, nearest(model, plan), model.state_dict(), plan)
    with pytest.raises(UsageError, match="cannot be loaded by transformers") as refused:
        AutoModelForCausalLM.from_pretrained(tmp_path)
    assert "--dequantize" in str(refused.value.hint)
