import pytest
import torch

from mamba_slm.core.errors import ConfigError, UnknownNameError
from mamba_slm.model.checkpoint import load_model
from mamba_slm.model.quantization import PLANS
from mamba_slm.model.quantized import save_quantized
from mamba_slm.model.trained_for import trained_for
from mamba_slm.ops.lowbit.blocks import dequantize, quantize_nearest
from mamba_slm.runs.metrics import read_metrics
from mamba_slm.training.config import TrainConfig
from mamba_slm.training.rounding import Rounding, plan_of, say_rounding
from tolerances import TOLERANCES, error_between
from training.small_run import TINY

TOKENS = torch.arange(20)[None] % TINY.vocab_size


def losses_of(trainer, kind="train"):
    return [row["loss"] for row in read_metrics(trainer.run.metrics_file, kind=kind)]


def test_the_quantized_folder_computes_what_the_run_computed(make_trainer, tmp_path):
    trainer = make_trainer(qat="mixed")
    checkpoint = trainer.train().last_checkpoint
    model, plan = load_model(checkpoint), trained_for(checkpoint)
    weights = model.state_dict()
    matrices = {
        name: quantize_nearest(weights.pop(f"{name}.weight"), scheme)
        for name, scheme in plan.fitted_to(model.config).items()
        if scheme is not None
    }
    save_quantized(tmp_path, model.config, matrices, weights, plan)
    with torch.no_grad(), trainer.rounding.always():
        expected = trainer.model.eval()(TOKENS)
        found = load_model(tmp_path)(TOKENS)
    assert error_between(found, expected) <= TOLERANCES["model", "float32"].values


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_model_learns_with_its_matrices_rounded(make_trainer, precision):
    trainer = make_trainer(max_steps=30, validation=False, qat="int4", precision=precision)
    trainer.train()
    losses = losses_of(trainer)
    assert losses[-1] < 0.8 * losses[0]


def test_checkpoints_hold_float32_weights_and_say_what_they_were_trained_for(make_trainer):
    trainer = make_trainer(qat="int4", qat_keep="in_proj=int8")
    folder = trainer.train().last_checkpoint
    plain = make_trainer("plain").train().last_checkpoint
    found = trained_for(folder)
    assert found == plan_of(trainer.config)
    assert (found.method, str(found)) == ("qat", "int4, blocks of 32; in_proj int8, blocks of 32")
    assert trained_for(plain) is None
    weight = load_model(folder).sublayers[0].mixer.out_proj.weight
    assert not torch.equal(weight, dequantize(quantize_nearest(weight, PLANS["int4"].default)))


def test_quantizing_the_checkpoint_gives_the_very_numbers_that_the_run_computed_with(make_trainer):
    trainer = make_trainer(qat="mixed")
    folder = trainer.train().last_checkpoint
    trainer.rounding.switch.is_on = True
    model, plan = load_model(folder), trained_for(folder)
    with torch.no_grad():
        expected = trainer.model.eval()(TOKENS)
        for name, scheme in plan.fitted_to(model.config).items():
            if scheme is not None:
                weight = model.get_submodule(name).weight
                weight.copy_(dequantize(quantize_nearest(weight, scheme)))
        assert torch.equal(model(TOKENS), expected)


def test_a_run_that_was_interrupted_goes_on_to_the_same_weights(make_trainer):
    settings = {"qat": "int4", "qat_start_step": 6, "schedule": "constant", "validation": False}
    whole = make_trainer("whole", **settings)
    whole.train()
    make_trainer("cut", max_steps=4, **settings).train()
    again = make_trainer("cut", **settings)
    again.train(resume=True)
    expected, found = whole.model.state_dict(), again.model.state_dict()
    assert all(torch.equal(expected[name], found[name]) for name in expected)


def test_rounding_begins_after_the_start_step_and_validation_rounds_from_the_beginning(make_trainer):
    plain, late, early = (
        make_trainer("plain"),
        make_trainer("late", qat="int4", qat_start_step=6),
        make_trainer("early", qat="int4"),
    )
    for trainer in (plain, late, early):
        trainer.train()
    assert losses_of(late)[:6] == losses_of(plain)[:6]
    assert losses_of(late)[6:] != losses_of(plain)[6:]
    assert losses_of(early)[0] != losses_of(plain)[0]
    assert losses_of(late, "validation")[0] != losses_of(plain, "validation")[0]


def test_gradient_checkpointing_and_smaller_micro_batches_change_nothing_or_the_last_bits(make_trainer):
    plain = make_trainer("plain", qat="int4")
    checkpointed = make_trainer("checkpointed", qat="int4", gradient_checkpointing=True)
    for trainer in (plain, checkpointed):
        trainer.train()
    assert losses_of(plain) == losses_of(checkpointed)


def test_settings_that_cannot_work_are_refused_before_anything_begins():
    with pytest.raises(ConfigError, match="qat is unset"):
        TrainConfig(qat_keep="in_proj=int8")
    with pytest.raises(UnknownNameError, match="int3"):
        TrainConfig(qat="int3")
    with pytest.raises(UnknownNameError, match="int5"):
        TrainConfig(qat="int4", qat_keep="in_proj=int5")
    with pytest.raises(ConfigError, match="block_size"):
        TrainConfig(qat="int4", qat_block_size=33)


def test_what_is_rounded_and_what_is_not_is_said_once():
    lines = []
    say_rounding(TrainConfig(), TINY, lines.append)
    assert lines == []
    say_rounding(TrainConfig(qat="int4", qat_start_step=10), TINY, lines.append)
    assert len(lines) == 1
    assert "from step 11 on" in lines[0]
    assert "int4, blocks of 32" in lines[0]
    with pytest.raises(UnknownNameError, match="in_proj"):
        say_rounding(TrainConfig(qat="int4", qat_keep="in_prj=int8"), TINY, lines.append)


def test_without_qat_nothing_is_installed(make_trainer):
    trainer = make_trainer()
    assert trainer.rounding.plan is None
    assert not any("Rounded" in type(part).__name__ for part in trainer.model.modules())
    assert isinstance(trainer.rounding, Rounding)
