"""What fine-tuning makes of a conversation, for the dashboard: by the code of `mamba-slm finetune`, without torch."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, cast

from mamba_slm.dashboard.actions import TunedTokens

if TYPE_CHECKING:
    from mamba_slm.data.conversations.example import Conversation
    from mamba_slm.finetuning.examples import TrainOn
    from mamba_slm.finetuning.template import ChosenTemplate


def encode_conversation(conversation: Conversation, vocabulary: Path, train_on: str) -> TunedTokens:
    """What `mamba-slm finetune` would give the model, by its own code.

    Args:
        vocabulary: a model folder, or its file with the vocabulary.
        train_on: answers, last-answer or all.

    Raises:
        MambaSlmError: no vocabulary there, or a conversation that the template cannot express.
    """
    from typing import get_args

    from mamba_slm.core.errors import UnknownNameError
    from mamba_slm.dashboard.reading.facts import version_of
    from mamba_slm.finetuning.examples import TrainOn, encode_one
    from mamba_slm.text.vocabularies.opening import find_vocabulary

    if train_on not in get_args(TrainOn):
        raise UnknownNameError("train_on", train_on, get_args(TrainOn))
    file = find_vocabulary(vocabulary)
    folder = file.parent
    template_files = (folder / "chat_template.jinja", folder / "tokenizer_config.json")
    template = template_of(file, version_of(file, *template_files))
    example = encode_one(conversation, template.tokenizer, template.text, cast("TrainOn", train_on))
    return TunedTokens(
        tokenizer=template.tokenizer, tokens=example.tokens, trained=example.trained, template=str(template)
    )


@lru_cache(maxsize=4)
def template_of(file: Path, version: str) -> ChosenTemplate:
    """The chat template for one version of a vocabulary."""
    from mamba_slm.finetuning.template import choose_template
    from mamba_slm.text.tokenizer import Tokenizer

    return choose_template(file.parent, Tokenizer.load(file))
