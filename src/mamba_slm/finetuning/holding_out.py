"""Which examples are held out: chosen by their content, so that the same text is never on both sides."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

from mamba_slm.core.errors import DataError
from mamba_slm.data.conversations.example import Conversation


def split_conversations(
    conversations: Sequence[Conversation], share: float
) -> tuple[list[Conversation], list[Conversation]]:
    """Training and held-out conversations, each in their order.

    The `share` of them whose hashes are smallest is held out, at least one; equal conversations go the same way. The
    choice of one does not change when others are added, except near the border.

    Args:
        share: in [0, 0.5]; 0 holds nothing out.

    Raises:
        DataError: nothing is left for training.
    """
    if share == 0:
        return list(conversations), []
    digests = [digest_of(conversation) for conversation in conversations]
    wanted = max(1, round(share * len(conversations)))
    border = sorted(digests)[wanted - 1]
    train = [one for one, digest in zip(conversations, digests, strict=True) if digest > border]
    held_out = [one for one, digest in zip(conversations, digests, strict=True) if digest <= border]
    if not train:
        raise DataError(
            f"{len(conversations)} examples are too few, or too alike, to hold some out",
            hint="add --validation-share 0, or give held-out examples: --validation FILE",
        )
    return train, held_out


def digest_of(conversation: Conversation) -> str:
    """The hash of what is said."""
    said = [[message["role"], message["content"]] for message in conversation.messages]
    return hashlib.sha256(json.dumps(said, ensure_ascii=False).encode()).hexdigest()
