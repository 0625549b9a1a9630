"""A hybrid learns from its teacher: the losses are what they say, and nothing else of it changes."""

import pytest
import torch
import torch.nn.functional as F

from mamba_slm.core.errors import ConfigError
from mamba_slm.finetuning.conversion.distillation import Distillation
from mamba_slm.finetuning.conversion.divergence import distillation_loss
from mamba_slm.finetuning.conversion.student import Student
from mamba_slm.model.config import ModelConfig
from mamba_slm.model.init import build_model
from tolerances import TOLERANCES, assert_close

LOSS = TOLERANCES["loss", "float32"]
SIZES = {
    "vocab_size": 40,
    "hidden_size": 32,
    "num_heads": 4,
    "num_kv_heads": 2,
    "feed_forward_size": 48,
    "state_size": 8,
    "ssm_head_dim": 8,
    "max_context_tokens": 64,
}
TEACHER, HYBRID = ModelConfig(pattern="*-*-*-", **SIZES), ModelConfig(pattern="M-*-M-", **SIZES)
TOKENS = torch.randint(0, 40, (2, 24), generator=torch.Generator().manual_seed(0))
TARGETS = torch.where(torch.arange(24) % 5 == 0, -100, TOKENS.roll(-1, dims=1))


def student(align_tokens=0, **settings):
    teacher = build_model(TEACHER, seed=1)
    return Student.begin(build_model(HYBRID, seed=2), teacher, Distillation(**settings), align_tokens=align_tokens)


def heads(seed=0):
    generator = torch.Generator().manual_seed(seed)
    hidden, weight, expected, teacher = (torch.randn(size, generator=generator) for size in ((48, 6), (40, 6)) * 2)
    return hidden.requires_grad_(), weight.requires_grad_(), expected, teacher


@pytest.mark.parametrize("temperature", [1.0, 2.0])
@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_the_loss_is_the_sum_of_its_definition_in_any_number_of_pieces(share, temperature):
    hidden, weight, expected, teacher = heads()
    targets = TARGETS.flatten()
    arguments = (hidden, weight, expected, teacher, targets)
    counted = targets != -100
    found, wanted = (hidden @ weight.T)[counted], (expected @ teacher.T)[counted]
    p, q = F.softmax(wanted / temperature, -1), F.softmax(found / temperature, -1)
    defined = share * temperature**2 * (p * (p.log() - q.log())).sum()
    defined = defined + (1 - share) * F.cross_entropy(found, targets[counted], reduction="sum")
    gradients = torch.autograd.grad(defined, (hidden, weight))
    for chunk_logits in (2**20, 40 * 7):
        loss = distillation_loss(*arguments, share=share, temperature=temperature, chunk_logits=chunk_logits)
        assert_close(loss, defined, LOSS.values)
        for got, expected_gradient in zip(torch.autograd.grad(loss, (hidden, weight)), gradients, strict=True):
            assert_close(got, expected_gradient, LOSS.gradients)


def test_a_student_that_is_its_teacher_has_nothing_to_learn():
    teacher = build_model(TEACHER, seed=1)
    same = Student.begin(
        build_model(TEACHER, seed=1), teacher, Distillation(teacher_weight=1.0), align_tokens=0
    ).train()
    assert abs(same.loss_sum(TOKENS, TARGETS).total.item()) < 1e-4


def test_the_teacher_is_no_part_of_the_student_and_evaluation_is_as_ever():
    plain, learning = build_model(HYBRID, seed=2), student()
    assert learning.state_dict().keys() == plain.state_dict().keys()
    expected = plain.loss_sum(TOKENS, TARGETS)
    assert torch.equal(learning.eval().loss_sum(TOKENS, TARGETS).total, expected.total)
    with torch.no_grad():
        assert torch.equal(learning.train().loss_sum(TOKENS, TARGETS).total, expected.total)
    assert not torch.equal(learning.train().loss_sum(TOKENS, TARGETS).total, expected.total)


def with_gradient(model):
    return {name for name, parameter in model.named_parameters() if parameter.grad is not None}


def test_the_first_stage_reaches_the_new_layers_alone_and_the_second_every_weight():
    learning = student(align_tokens=100).train()
    first = learning.loss_sum(TOKENS, TARGETS)
    first.total.backward()
    assert {name.split(".")[1] for name in with_gradient(learning)} == {"0", "4"}
    learning.zero_grad(set_to_none=True)
    learning.tokens = 100
    learning.loss_sum(TOKENS, TARGETS).total.backward()
    assert with_gradient(learning) == {name for name, _ in learning.named_parameters()}


def test_only_the_new_layers_are_trained_where_that_is_asked():
    learning = student(trained="mamba").train()
    learning.loss_sum(TOKENS, TARGETS).total.backward()
    assert {name.split(".")[1] for name in with_gradient(learning)} == {"0", "4"}


def test_the_alignment_error_is_that_of_each_update_on_the_teachers_inputs():
    learning, teacher = student(align_tokens=100).train(), build_model(TEACHER, seed=1)
    hybrid, residuals, errors = build_model(HYBRID, seed=2), [], []
    with torch.no_grad():
        teacher.hidden_states(TOKENS, residuals=residuals)
        for index in (0, 4):
            inside = []
            alone = build_model(ModelConfig(**{**vars(HYBRID), "pattern": "M"}), seed=0)
            alone.sublayers[0].load_state_dict(hybrid.sublayers[index].state_dict())
            alone.hidden_states(embedded=residuals[index], residuals=inside)
            update = residuals[index + 1] - residuals[index]
            errors.append(float((inside[1] - inside[0] - update).square().sum() / update.square().sum()))
    loss = learning.loss_sum(TOKENS, TARGETS)
    assert loss.total.item() / loss.num_targets == pytest.approx(sum(errors) / 2, rel=1e-4)


def test_gradient_checkpointing_changes_nothing():
    totals = []
    for checkpointing in (False, True):
        learning = student(align_tokens=100).train()
        learning.gradient_checkpointing = checkpointing
        loss = learning.loss_sum(TOKENS, TARGETS).total
        loss.backward()
        totals.append((loss.detach(), learning.sublayers[0].mixer.in_proj.weight.grad))
    assert torch.equal(totals[0][0], totals[1][0])
    assert_close(totals[1][1], totals[0][1], LOSS.gradients)


def test_the_borders_of_documents_reach_student_and_teacher():
    learning = student(align_tokens=100).train()
    documents = torch.cat([torch.zeros(2, 11), torch.ones(2, 13)], dim=1).long()
    for tokens in (0, 100):
        learning.tokens = tokens
        apart = learning.loss_sum(TOKENS, TARGETS, document_ids=documents).total
        assert not torch.equal(apart, learning.loss_sum(TOKENS, TARGETS).total)


@pytest.mark.parametrize(
    ("changes", "named"),
    [({"vocab_size": 41}, "vocab_size"), ({"pattern": "*-*-"}, "num_layers"), ({"pattern": "M-M-M-"}, "come from")],
)
def test_another_models_teacher_is_refused(changes, named):
    teacher = build_model(ModelConfig(**{**vars(TEACHER), **changes}))
    with pytest.raises(ConfigError, match=named):
        Student.begin(build_model(HYBRID), teacher, Distillation(), align_tokens=0)


@pytest.mark.parametrize("settings", [{"align_share": 1.5}, {"teacher_weight": -0.1}, {"temperature": 0.0}])
def test_settings_out_of_range_are_refused_by_name(settings):
    with pytest.raises(ConfigError, match=next(iter(settings))):
        Distillation(**settings)
