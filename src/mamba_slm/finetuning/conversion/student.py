"""A hybrid whose training loss is what its teacher says; everything else of it is an ordinary `LanguageModel`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Self

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from mamba_slm.core.errors import ConfigError
from mamba_slm.finetuning.conversion.distillation import Distillation
from mamba_slm.finetuning.conversion.divergence import distillation_loss
from mamba_slm.model.config import ModelConfig
from mamba_slm.model.context import prepare
from mamba_slm.model.pattern import MAMBA
from mamba_slm.model.stack import LanguageModel, LossSum
from mamba_slm.ops.loss import DEFAULT_LOSS_CHUNK_TOKENS, IGNORE_INDEX
from mamba_slm.training.hooks import Hook, RunView
from mamba_slm.training.reports import StepReport


class Student(LanguageModel):
    """Learns from a teacher while gradients are wanted; its loss in evaluation is the usual one.

    The teacher is no part of it: neither its parameters nor its place in a checkpoint.
    """

    teacher_of: Callable[[], LanguageModel]
    distillation: Distillation
    align_tokens: int = 0
    """Tokens of the run in the first stage."""
    tokens: int = 0
    """Tokens of the run so far; `FollowsTokens` keeps it."""

    @classmethod
    def begin(
        cls, model: LanguageModel, teacher: LanguageModel, distillation: Distillation, *, align_tokens: int
    ) -> Self:
        """The same weights as a student.

        Raises:
            ConfigError: teacher and model have not the same layers, width or vocabulary.
        """
        require_alike(model.config, teacher.config)
        with torch.device("meta"):
            student = cls(model.config)
        student.load_state_dict(model.state_dict(), assign=True)
        teacher = teacher.requires_grad_(False).eval()
        student.teacher_of = lambda: teacher
        student.distillation, student.align_tokens = distillation, align_tokens
        if distillation.trained == "mamba":
            new = {id(p) for index in student.replaced for p in student.sublayers[index].parameters()}
            for parameter in student.parameters():
                parameter.requires_grad_(id(parameter) in new)
        return student

    @property
    def replaced(self) -> list[int]:
        """Sublayers that were attention."""
        return [index for index, kind in enumerate(self.config.pattern) if kind == MAMBA]

    @property
    def is_aligning(self) -> bool:
        """Whether this is the first stage."""
        return self.tokens < self.align_tokens

    def loss_sum(
        self,
        inputs: Tensor,
        targets: Tensor,
        *,
        document_ids: Tensor | None = None,
        padding_mask: Tensor | None = None,
        chunk_tokens: int = DEFAULT_LOSS_CHUNK_TOKENS,
    ) -> LossSum:
        """The loss of the stage times the number of targets; in evaluation -log p(target)."""
        if not (self.training and torch.is_grad_enabled()):
            return super().loss_sum(
                inputs, targets, document_ids=document_ids, padding_mask=padding_mask, chunk_tokens=chunk_tokens
            )
        num_targets = int((targets != IGNORE_INDEX).sum())
        if self.is_aligning:
            total = self.alignment_error(inputs, document_ids, padding_mask) * num_targets
            return LossSum(total=total, num_targets=num_targets)
        teacher = self.teacher_of()
        with torch.no_grad():
            expected = teacher.hidden_states(inputs, document_ids=document_ids, padding_mask=padding_mask)
        hidden = self.hidden_states(inputs, document_ids=document_ids, padding_mask=padding_mask)
        total = distillation_loss(
            hidden.flatten(0, 1),
            self.head_weight,
            expected.flatten(0, 1),
            teacher.head_weight,
            targets.flatten(),
            share=self.distillation.teacher_weight,
            temperature=self.distillation.temperature,
        )
        return LossSum(total=total, num_targets=num_targets)

    def alignment_error(self, inputs: Tensor, document_ids: Tensor | None, padding_mask: Tensor | None) -> Tensor:
        """Mean over the new layers of ‖their update - the attention's‖² / ‖the attention's‖² on the teacher's inputs.

        Source: the hidden-state alignment of MOHAWK (Bick et al., arXiv:2408.10189), whose layers need each other as
        little. Gradients reach the new layers alone.
        """
        residuals: list[Tensor] = []
        with torch.no_grad():
            self.teacher_of().hidden_states(
                inputs, document_ids=document_ids, padding_mask=padding_mask, residuals=residuals
            )
        size = (inputs.shape[0], inputs.shape[1])
        context = prepare(
            size, inputs.device, positions=None, document_ids=document_ids, padding_mask=padding_mask, state=None
        )
        real = 1.0 if padding_mask is None else padding_mask[..., None].float()
        errors = []
        for index in self.replaced:
            before, after = residuals[index], residuals[index + 1]
            sublayer = self.sublayers[index]
            if self.gradient_checkpointing:
                found = checkpoint(sublayer, before, context, None, use_reentrant=False, preserve_rng_state=False)
            else:
                found = sublayer(before, context, None)
            assert isinstance(found, Tensor)
            difference, update = (found - after) * real, (after - before) * real
            errors.append(difference.square().sum() / update.square().sum().clamp(min=1e-20))
        return torch.stack(errors).mean()


def require_alike(student: ModelConfig, teacher: ModelConfig) -> None:
    """Raise ConfigError unless the two differ in their mixers alone."""
    for name in ("vocab_size", "hidden_size", "num_layers", "num_feed_forward"):
        mine, theirs = getattr(student, name), getattr(teacher, name)
        if mine != theirs:
            raise ConfigError(f"the teacher has {name} {theirs}, the model {mine}")
    if any(kind not in (MAMBA, theirs) for kind, theirs in zip(student.pattern, teacher.pattern, strict=True)):
        raise ConfigError(f"{student.pattern} does not come from a teacher of {teacher.pattern}")


class FollowsTokens(Hook):
    """Tells the student how far the run is, from its first step in this process on."""

    def __init__(self, student_of: Callable[[], Student], say: Callable[[str], None]):
        self.student_of, self.say = student_of, say

    def reads_model(self, moment: str, step: int) -> bool:
        return False

    def on_start(self, view: RunView) -> None:
        student = self.student_of()
        student.tokens = view.tokens
        self.say(self.stage(student))

    def on_step_end(self, view: RunView, report: StepReport) -> None:
        student = self.student_of()
        was_aligning, student.tokens = student.is_aligning, view.tokens
        if was_aligning and not student.is_aligning:
            self.say(self.stage(student))

    def stage(self, student: Student) -> str:
        """What the loss is now."""
        if student.is_aligning:
            return f"stage 1, to {student.align_tokens:,} tokens: each new layer learns what the teacher's wrote"
        share = student.distillation.teacher_weight
        return f"stage 2: next tokens, {share:.0%} as the teacher expects them and {1 - share:.0%} as the text has them"
