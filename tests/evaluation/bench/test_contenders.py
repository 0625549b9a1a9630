"""Ours and transformers do the same work: same logits, same loss and gradients, as many new tokens."""

import json

import numpy
import pytest
import torch

from mamba_slm.core.errors import DataError, UsageError
from mamba_slm.evaluation.bench.cells import Cell
from mamba_slm.evaluation.bench.contenders import Ours, build_contender, named_config
from mamba_slm.evaluation.bench.peers import llama_settings
from mamba_slm.evaluation.bench.proofs import agreement_of
from mamba_slm.evaluation.bench.sizes import llama_of_equal_size
from mamba_slm.evaluation.bench.worker import ContenderWork
from mamba_slm.model.count import count_parameters
from mamba_slm.model.packed import nearest_model
from mamba_slm.model.presets import preset
from mamba_slm.model.quantization import PLANS
from small_models import varied_model

NAMES = ("ours", "granite", "llama")


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("task", ["train", "prefill", "decode"])
def test_ours_and_granite_prove_the_same_function_and_every_contender_can_be_timed(job, tmp_path, task, precision):
    works = {name: ContenderWork(job(name, task, precision)) for name in NAMES}
    proofs = {name: work.prove() for name, work in works.items()}
    agreement = agreement_of(works["ours"].job.cell, proofs, tmp_path)
    assert agreement["relative_difference"] <= (1e-5 if precision == "fp32" else agreement["limit"])
    assert all(work.round()["seconds"] > 0 for work in works.values())
    json.dumps([work.facts for work in works.values()])


def test_the_logits_of_decoding_are_those_of_reading_at_once(job):
    for name in NAMES:
        contender = ContenderWork(job(name, "decode")).contender
        tokens = torch.randint(300, (1, 20))
        at_once, stepwise = (contender.last_logits(tokens, one_by_one) for one_by_one in (0, 4))
        assert torch.allclose(at_once, stepwise, atol=1e-4), name


def test_a_round_of_decoding_begins_at_the_same_place_every_time(job):
    contender = ContenderWork(job("ours", "decode")).contender
    contender.last_logits(torch.randint(300, (1, 20)), 4)
    for _ in range(2):
        assert contender.decode(5) > 0
        assert contender.state.num_tokens.tolist() == [19]


def test_training_moves_the_weights_of_both_alike(job):
    works = {name: ContenderWork(job(name, "train")) for name in ("ours", "granite")}
    losses = {name: [work.prove()["loss"] for _ in range(4)] for name, work in works.items()}
    assert losses["ours"][-1] < losses["ours"][0]
    assert losses["ours"] == pytest.approx(losses["granite"], rel=1e-3)


def test_the_llama_has_the_parameters_that_were_counted():
    config = llama_of_equal_size(preset("nano"))
    contender = build_contender("llama", "nano", seed=0, precision="fp32")
    assert contender.parameters == count_parameters(config).total
    assert contender.settings["intermediate_size"] == llama_settings(config)["intermediate_size"]


def test_a_preset_has_the_weights_of_its_seed_in_both():
    tokens = torch.randint(4096, (1, 8))
    ours, granite, other = (
        build_contender(name, "nano", seed=seed, precision="fp32").last_logits(tokens, 0)
        for name, seed in (("ours", 1), ("granite", 1), ("granite", 2))
    )
    assert torch.allclose(ours, granite, atol=1e-4)
    assert not torch.allclose(ours, other, atol=1e-1)


def test_a_model_that_is_neither_preset_nor_folder_is_named(tmp_path):
    with pytest.raises(DataError, match="60N"):
        named_config("60N")
    assert named_config("nano") == preset("nano")


def test_two_functions_that_differ_are_an_error_that_says_by_how_much(tmp_path):
    from mamba_slm.core.errors import CheckFailedError

    cell = Cell(task="prefill", tokens=8, precision="fp32")
    numpy.save(tmp_path / "ours.npy", numpy.ones(4))
    numpy.save(tmp_path / "granite.npy", numpy.ones(4) * 1.01)
    with pytest.raises(CheckFailedError, match=r"differ by 9\.9e-03 in last logits"):
        agreement_of(cell, {}, tmp_path)
    same = {"loss": 3.0, "gradient_norm": 1.0}
    train = Cell(task="train", tokens=8, precision="fp32")
    assert agreement_of(train, {"ours": same, "granite": same}, tmp_path)["relative_difference"] == 0
    for wrong in ({"loss": 3.0, "gradient_norm": 1.1}, {"loss": float("nan"), "gradient_norm": 1.0}):
        with pytest.raises(CheckFailedError) as caught:
            agreement_of(train, {"ours": wrong, "granite": same}, tmp_path)
        assert caught.value.exit_code == 6


def test_a_quantized_model_is_timed_as_it_is_but_not_in_training():
    packed = nearest_model(varied_model(), PLANS["int8"])
    ours = Ours(packed, weights="fp32")
    assert ours.model is packed and ours.weight_bytes == packed.num_bytes
    with pytest.raises(UsageError, match="training needs a model in floating point"):
        ours.prepare_training("fp32")
    with pytest.raises(UsageError, match="its weights cannot be int4"):
        Ours(packed, weights="int4")
