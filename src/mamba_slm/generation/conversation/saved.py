"""A conversation as a file: JSON that people can read, with the tokens of the replies so that nothing changes."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mamba_slm.core.config import from_dict, to_dict
from mamba_slm.core.errors import ConfigError, DataError
from mamba_slm.core.files import write_json_atomic
from mamba_slm.generation.conversation.reply_settings import ReplySettings
from mamba_slm.generation.conversation.talk import Conversation, Turn, turns

FORMAT_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class SavedConversation:
    """What a file holds."""

    model: str
    """Name of the model, for people."""

    tokenizer: str | None
    """Its fingerprint; None behind a server."""

    system: str | None
    settings: ReplySettings
    turns: tuple[Turn, ...]


def save_conversation(conversation: Conversation, path: Path) -> None:
    """Write a conversation, atomically.

    Raises:
        ConfigError: the folder is not there, or may not be written.
        DiskFullError: no room.
    """
    document = {
        "format_version": FORMAT_VERSION,
        "model": conversation.name,
        "tokenizer": conversation.tokenizer_fingerprint,
        "system": conversation.system,
        "settings": to_dict(conversation.settings),
        "turns": [dataclasses.asdict(turn) for turn in conversation.turns],
    }
    try:
        write_json_atomic(path, document)
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be written: {error.strerror}", hint="name a file in a folder of yours"
        ) from None


def read_conversation(path: Path) -> SavedConversation:
    """Read what `save_conversation` wrote.

    Raises:
        ConfigError: no such file.
        DataError: it is no conversation, or from a newer version.
    """
    try:
        document = json.loads(path.read_bytes())
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}", hint="/save FILE writes one") from None
    except ValueError as error:
        raise DataError(f"{path} is not JSON: {error}", hint="/save FILE writes a conversation") from None
    try:
        version = document["format_version"]
        if version != FORMAT_VERSION:
            raise DataError(
                f"{path} has format version {version}, and this program reads {FORMAT_VERSION}",
                hint="update mamba-slm",
            )
        return SavedConversation(
            model=str(document["model"]),
            tokenizer=document["tokenizer"],
            system=document["system"],
            settings=from_dict(ReplySettings, document["settings"], where=str(path)),
            turns=tuple(read_turn(turn) for turn in document["turns"]),
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path} is not a conversation: {error}", hint="/save FILE writes one") from None


def read_turn(row: dict[str, Any]) -> Turn:
    """One turn of a file."""
    tokens = row["reply_tokens"]
    return Turn(
        message=str(row["message"]),
        reply=str(row["reply"]),
        finish_reason=row["finish_reason"],
        reply_tokens=None if tokens is None else tuple(map(int, tokens)),
    )


def resume_from(saved: SavedConversation, conversation: Conversation) -> str:
    """Go on from a file; what to tell the user.

    Raises:
        ConfigError: it does not fit into the model's context, or has a system message that the model has no place for.
    """
    same = saved.tokenizer is not None and saved.tokenizer == conversation.tokenizer_fingerprint
    conversation.resume(saved.turns, system=saved.system, tokens_are_ours=same)
    conversation.settings = saved.settings
    how = "" if same else f"; it was held with {saved.model}, so its replies are read as text"
    return f"{turns(len(saved.turns))}, {conversation.used_tokens:,} tokens, read with the next message{how}"
