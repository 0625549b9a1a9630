"""A model that a Trainer trains as a `LanguageModel` of ours: the same modules, adapters included, nothing copied."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from mamba_slm.core.errors import UsageError
from mamba_slm.model.stack import Backbone, LanguageModel


class SharedLanguageModel(LanguageModel):
    """What generation and measuring want of a model; its logits go through the head as the Trainer's model has it."""

    def __init__(self, backbone: Backbone, head: nn.Module):
        nn.Module.__init__(self)
        self.config = self.architecture = backbone.architecture
        self.embedding, self.position_embedding = backbone.embedding, backbone.position_embedding
        self.sublayers, self.final_norm = backbone.sublayers, backbone.final_norm
        self.gradient_checkpointing = False
        self.lm_head = head  # type: ignore[assignment]

    def logits(self, hidden: Tensor) -> Tensor:
        """Hidden states [... d] under the head, adapter included, to logits [... v] in float32."""
        weight = getattr(self.lm_head, "weight", self.embedding.weight)
        return self.lm_head(hidden.to(weight.dtype)).float()  # type: ignore[misc]


def language_model_of(model: Any) -> LanguageModel:
    """The `LanguageModel` inside a model of transformers made of ours, with or without adapters of peft around it.

    Raises:
        UsageError: it is another kind of model.
    """
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    if isinstance(inner, LanguageModel):
        return inner
    backbone, head = getattr(inner, "model", None), getattr(inner, "lm_head", None)
    if not isinstance(backbone, Backbone) or not isinstance(head, nn.Module):
        raise UsageError(f"{type(inner).__name__} has no language model of ours inside")
    shared = SharedLanguageModel(backbone, head)
    shared.train(False)
    return shared


@torch.no_grad()
def merged_language_model(model: Any) -> LanguageModel:
    """A plain `LanguageModel` with the weights of a model that was trained in full, which it shares.

    Raises:
        UsageError: it is another kind of model.
    """
    shared = language_model_of(model)
    with torch.device("meta"):
        plain = LanguageModel(shared.config)
    names = plain.state_dict().keys()
    tensors = {name: tensor for name, tensor in shared.state_dict().items() if name in names}
    plain.load_state_dict(tensors, assign=True)
    return plain.eval()
