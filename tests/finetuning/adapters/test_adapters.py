"""Adapters reach what they are told to reach, learn, and come back from disk as they were."""

import copy
import json

import pytest
import torch

from finetuning.adapters.small_adapters import logits, save_trained, small_wrapped, train
from mamba_slm.core.errors import CheckpointError, ConfigError, DataError, UsageError
from mamba_slm.finetuning.adapters.attach import attach, make_active, slice_mask
from mamba_slm.finetuning.adapters.coverage import coverage
from mamba_slm.finetuning.adapters.folder import load_adapter
from mamba_slm.finetuning.adapters.settings import FULL_TENSORS, LoraSettings
from mamba_slm.model.adapter import merge
from mamba_slm.model.adapter_choice import AdapterChoice
from mamba_slm.model.hf import HybridSlmForSequenceClassification
from model.hf_models import CONFIGS, random_tokens, wrapped
from small_models import varied_model

EVERYTHING = tuple(FULL_TENSORS)
SETTINGS = {
    "lora": LoraSettings(rank=4, alpha=8),
    "rslora": LoraSettings(rank=4, alpha=8, rslora=True, targets=("in_proj", "o_proj")),
    "dora": LoraSettings(rank=4, alpha=8, dora=True),
    "with small tensors": LoraSettings(rank=2, full=EVERYTHING),
    "only x and dt": LoraSettings(rank=2, targets=("in_proj",), in_proj_slices=("x", "dt"), full=("A_log", "conv")),
}
CLOSE = {"rtol": 1e-5, "atol": 1e-5}


@pytest.mark.parametrize("name", ["rslora", "dora", "with small tensors", "only x and dt"])
def test_an_adapter_learns_and_is_the_same_when_loaded_merged_by_us_and_merged_by_peft(name, tmp_path):
    settings = SETTINGS[name]
    before = logits(small_wrapped())
    torch.testing.assert_close(logits(attach(small_wrapped(), settings)), before, rtol=0, atol=1e-5)
    model = save_trained(tmp_path / "adapter", tmp_path / "base", settings)
    learned = logits(model)
    assert (learned - before).abs().max() > 1e-2
    with model.disable_adapter():
        torch.testing.assert_close(logits(model), before, rtol=0, atol=1e-6)
    torch.testing.assert_close(logits(model), learned, rtol=0, atol=0)
    assert torch.equal(logits(load_adapter(small_wrapped(), tmp_path / "adapter")), learned)
    ours = varied_model()
    merge(ours, [AdapterChoice(folder=tmp_path / "adapter")])
    with torch.no_grad():
        torch.testing.assert_close(ours(random_tokens(2, 17, seed=9)), learned, **CLOSE)
    unloaded = model.merge_and_unload()
    torch.testing.assert_close(logits(unloaded), learned, **CLOSE)
    assert unloaded.state_dict().keys() == small_wrapped().state_dict().keys()


def test_adapters_are_switched_and_each_keeps_its_own_small_tensors(tmp_path):
    first = save_trained(tmp_path / "one", tmp_path / "base", SETTINGS["with small tensors"], seed=1)
    second = save_trained(tmp_path / "two", tmp_path / "base", SETTINGS["only x and dt"], seed=2)
    third = save_trained(tmp_path / "three", tmp_path / "base", SETTINGS["lora"], seed=3)
    model = small_wrapped()
    base = logits(model)
    for name in ("one", "two", "three"):
        model = load_adapter(model, tmp_path / name, name)
    for name, alone in (("one", first), ("two", second), ("three", third), ("one", first)):
        make_active(model, name)
        assert torch.equal(logits(model), logits(alone)), name
    assert not [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    with model.disable_adapter():
        assert torch.equal(logits(model), base)
    assert torch.equal(logits(model), logits(first))
    make_active(model, "two", trainable=True)
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert {name.rpartition(".")[2] for name in trained} == {"weight", "A_log", "conv_weight", "conv_bias"}
    assert all(".two." in name for name in trained if "lora" in name)
    make_active(model, "three")
    model.delete_adapter("two")
    assert torch.equal(logits(model), logits(third))
    with pytest.raises(UsageError, match="no adapter 'two'"):
        make_active(model, "two")
    with pytest.raises(UsageError, match="already"):
        load_adapter(model, tmp_path / "one", "one")
    with pytest.raises(UsageError, match="only one of them can be active"):
        load_adapter(model, tmp_path / "two", "again").base_model.set_adapter(["one", "again"])


def test_training_goes_on_from_a_stored_adapter_beside_a_frozen_one(tmp_path):
    save_trained(tmp_path / "one", tmp_path / "base", SETTINGS["with small tensors"])
    other = attach(small_wrapped(), SETTINGS["lora"], "other")
    model = load_adapter(other, tmp_path / "one", "one", trainable=True)
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    train(model, steps=2)
    changed = {name for name, parameter in model.named_parameters() if not torch.equal(parameter, before[name])}
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert changed == trained
    assert not any(".other." in name for name in changed)


def test_small_tensors_stay_float32_and_copies_go_their_own_way():
    model = train(attach(wrapped(), LoraSettings(rank=2, full=EVERYTHING)))
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    other = copy.deepcopy(model).to(torch.bfloat16)
    mixer = other.get_submodule("base_model.model.model.sublayers.0.mixer")
    assert mixer.in_proj.base_layer.weight.dtype == torch.bfloat16
    for values in (mixer, mixer.trained_in_full.base, mixer.trained_in_full.values["default"]):
        assert values.A_log.dtype == values.conv_weight.dtype == torch.float32
    assert mixer.A_log is mixer.trained_in_full.values["default"].A_log
    with other.disable_adapter():
        assert mixer.A_log is mixer.trained_in_full.base.A_log
    train(other, steps=1)
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, before[name]), name


def test_an_adapted_model_generates_through_transformers_what_the_merged_one_does():
    model = train(attach(wrapped(), SETTINGS["with small tensors"]))
    tokens = random_tokens(2, 5)
    mask = torch.ones_like(tokens)
    asked = {"input_ids": tokens, "attention_mask": mask, "max_new_tokens": 8, "do_sample": False, "pad_token_id": 0}
    adapted = model.generate(**asked)
    assert torch.equal(model.merge_and_unload().generate(**asked), adapted)
    assert not torch.equal(wrapped().generate(**asked), adapted)


def test_coverage_counts_sublayers_and_parameters():
    every = coverage(attach(wrapped(), LoraSettings(rank=4)))
    assert (every.num_reached, every.num_sublayers, every.not_reached) == (6, 6, ())
    assert str(every).startswith("adapters in 6 of 6 sublayers (Mamba 2 of 2, attention 1 of 1, feed-forward 3 of 3), ")
    usual = coverage(attach(wrapped(), LoraSettings(rank=4, targets=("q_proj", "v_proj"), full=("D",))))
    assert usual.by_kind == {"M": (2, 2), "*": (1, 1), "-": (0, 3)}
    assert usual.num_in_full == 2 * CONFIGS["portable"].num_ssm_heads
    half = coverage(attach(wrapped(), LoraSettings(targets=("q_proj",))))
    assert half.num_reached == 1 and len(half.not_reached) == 5
    assert half.num_trainable == 16 * (32 + 32)
    assert half.share == pytest.approx(half.num_trainable / half.num_parameters)


def test_rows_of_other_slices_never_change():
    config = CONFIGS["portable"]
    model = train(attach(wrapped(), LoraSettings(rank=2, targets=("in_proj",), in_proj_slices=("B", "dt"))), steps=4)
    rows = slice_mask(config, ("B", "dt"))[:, 0].bool()
    assert rows.sum() == config.num_groups * config.state_size + config.num_ssm_heads
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            assert (parameter[~rows] == 0).all() and (parameter[rows] != 0).any(dim=1).all(), name


def test_an_untied_head_and_embedding_may_have_adapters(tmp_path):
    settings = LoraSettings(rank=2, targets=("head", "embedding"))
    model = train(attach(wrapped("classic, untied, nope"), settings))
    assert coverage(model).num_trainable == 2 * 2 * (320 + 32)
    tokens = random_tokens(2, 9)
    full, lean = model(input_ids=tokens, labels=tokens), model(input_ids=tokens, labels=tokens, skip_logits=True)
    torch.testing.assert_close(lean.loss, full.loss)
    with pytest.raises(ConfigError, match="head is its embedding"):
        attach(wrapped(), settings)


def test_a_reward_model_keeps_its_score_in_the_adapter(tmp_path):
    config = wrapped().config
    config.num_labels, config.pad_token_id = 1, 0
    torch.manual_seed(0)
    model = attach(HybridSlmForSequenceClassification(config), LoraSettings(rank=2, full=("D",)))
    assert any("score" in name for name, parameter in model.named_parameters() if parameter.requires_grad)


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"rank": 0}, "rank"),
        ({"alpha": 0}, "alpha"),
        ({"dropout": 1.0}, "dropout"),
        ({"targets": ()}, "without targets"),
        ({"targets": ("q_proj",), "in_proj_slices": ("z",)}, "without in_proj"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        LoraSettings(**settings)


def test_targets_that_the_model_lacks_are_refused():
    with pytest.raises(ConfigError, match="M-M-"):
        attach(wrapped("only mamba"), LoraSettings(targets=("q_proj", "k_proj")))
    with pytest.raises(UsageError, match="model of ours"):
        attach(torch.nn.Linear(2, 2), LoraSettings())
    for name in ("one.two", "", "lora"):
        with pytest.raises(UsageError, match="cannot be called"):
            attach(wrapped(), LoraSettings(), name)


def test_an_adapter_of_another_model_is_refused(tmp_path):
    save_trained(tmp_path / "adapter", tmp_path / "base", SETTINGS["lora"])
    retrained = varied_model(seed=5)
    with pytest.raises(CheckpointError, match=r"belongs to another model.*which was in .*base"):
        merge(retrained, [AdapterChoice(folder=tmp_path / "adapter")])
    with pytest.raises(CheckpointError, match="belongs to another model"):
        load_adapter(wrapped("only mamba"), tmp_path / "adapter")
    (tmp_path / "adapter" / "mamba_slm_adapter.json").unlink()  # as plain peft saves it: shapes are all there is
    with pytest.raises(CheckpointError, match="which is not there in the model"):
        merge(wrapped_as_ours("only mamba"), [AdapterChoice(folder=tmp_path / "adapter")])


def wrapped_as_ours(kind):
    from model.hf_models import varied

    return varied(kind)


def test_a_damaged_or_newer_or_missing_adapter_is_refused(tmp_path):
    save_trained(tmp_path / "adapter", tmp_path / "base", SETTINGS["lora"])
    weights, described = tmp_path / "adapter/adapter_model.safetensors", tmp_path / "adapter/mamba_slm_adapter.json"
    with pytest.raises(DataError, match="is no adapter"):
        merge(varied_model(), [AdapterChoice(folder=tmp_path / "base")])
    kept = described.read_text()
    described.write_text(json.dumps(json.loads(kept) | {"format_version": 99}))
    with pytest.raises(CheckpointError, match="format version 99"):
        load_adapter(small_wrapped(), tmp_path / "adapter")
    described.write_text(kept)
    weights.write_bytes(weights.read_bytes()[:-9])
    with pytest.raises(CheckpointError, match="cannot be read"):
        merge(varied_model(), [AdapterChoice(folder=tmp_path / "adapter")])
