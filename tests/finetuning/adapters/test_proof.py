"""The proof of gradients passes where everything learns, in every way to train, and names what does not."""

import pytest
import torch
from transformers import Trainer, TrainingArguments

from finetuning.adapters.small_adapters import small_wrapped, train
from mamba_slm.core.errors import CheckFailedError
from mamba_slm.finetuning.adapters.attach import attach
from mamba_slm.finetuning.adapters.proof import GradientProof
from mamba_slm.finetuning.adapters.settings import FULL_TENSORS, LoraSettings
from model.hf_models import random_tokens, wrapped
from small_models import recompute_activations

EVERYTHING = LoraSettings(rank=2, full=tuple(FULL_TENSORS))


def backward(model, **batch):
    tokens = random_tokens(1, 30)
    model.train()
    model(input_ids=tokens, labels=tokens, **batch).loss.backward()


@pytest.mark.parametrize("kind", ["portable", "classic, untied, nope", "learned positions"])
def test_every_kind_of_model_learns_everywhere(kind):
    proof = GradientProof()
    train(attach(wrapped(kind), EVERYTHING), proof=proof, steps=2)
    assert proof.is_done


def test_with_checkpointing_and_packed_rows_gradients_are_the_same_and_none_is_zero():
    packed = {"seq_idx": torch.tensor([[0] * 11 + [1] * 19])}
    gradients = []
    for checkpointed in (False, True):
        torch.manual_seed(0)
        model = attach(small_wrapped(), EVERYTHING)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if "lora_B" in name:
                    parameter.normal_(std=0.1)
        if checkpointed:
            recompute_activations(model.get_base_model())
        backward(model, **packed)
        proof = GradientProof()
        proof.check(model)
        assert proof.is_done  # B is not zero, so that A is looked at as well
        gradients.append({name: p.grad for name, p in model.named_parameters() if p.requires_grad})
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, rtol=1e-4, atol=1e-6)


def test_a_matrix_that_bypasses_its_adapter_is_named():
    model = attach(small_wrapped(), LoraSettings(rank=2))
    layer = model.get_submodule("base_model.model.model.sublayers.0.mixer.out_proj")
    layer.forward = layer.base_layer.forward  # as a fused kernel does that reads the weight
    backward(model)
    with pytest.raises(
        CheckFailedError, match=r"1 of \d+ .*sublayers\.0\.mixer\.out_proj\.lora_B.*no gradient"
    ) as error:
        GradientProof().check(model)
    assert error.value.exit_code == 6


def test_a_that_learns_nothing_is_found_on_the_second_step_and_not_before():
    model = attach(small_wrapped(), LoraSettings(rank=2))
    proof = GradientProof()
    backward(model)
    proof.check(model)
    assert not proof.is_done
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.add_(0.1)
    model.zero_grad()
    backward(model)
    name = "base_model.model.model.sublayers.2.mixer.q_proj.lora_A.default.weight"
    model.get_parameter(name).grad.zero_()
    with pytest.raises(CheckFailedError, match=r"q_proj\.lora_A\.default\.weight: gradient zero"):
        proof.check(model)


def test_gradients_that_are_not_finite_are_no_proof():
    model = attach(small_wrapped(), LoraSettings(rank=2, full=("D",)))
    backward(model)
    model.get_parameter("base_model.model.model.sublayers.0.mixer.D").grad[0] = torch.nan
    with pytest.raises(CheckFailedError, match=r"mixer\.D: gradient not finite"):
        GradientProof().check(model)


def test_the_trainer_calls_it_and_a_learning_rate_that_begins_at_zero_only_delays_it(tmp_path):
    model = attach(small_wrapped(), EVERYTHING)
    rows = [{"input_ids": row, "labels": row} for row in random_tokens(16, 12)]
    said = []
    arguments = TrainingArguments(
        output_dir=str(tmp_path), max_steps=4, per_device_train_batch_size=2, gradient_accumulation_steps=2,
        warmup_steps=2, learning_rate=1e-2, use_cpu=True, report_to=[], save_strategy="no", disable_tqdm=True,
        logging_strategy="no",
    )  # fmt: skip
    proof = GradientProof(said.append)
    Trainer(model=model, args=arguments, train_dataset=rows, callbacks=[proof]).train()
    assert proof.is_done
    assert len(said) == 1 and said[0].startswith("gradients reach all ")
