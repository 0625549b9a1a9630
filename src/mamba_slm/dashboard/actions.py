"""What the dashboard is given by the command line above it: its own parsers and planners, which import no torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mamba_slm.data.conversations.example import Conversation
    from mamba_slm.model.config import ModelConfig
    from mamba_slm.text.tokenizer import Tokenizer


@dataclass(frozen=True, kw_only=True)
class TunedTokens:
    """A conversation as fine-tuning gives it to the model."""

    tokenizer: Tokenizer
    """With the special tokens that the template needs."""
    tokens: tuple[int, ...]
    trained: tuple[bool, ...]
    """True where the model learns to say this token."""
    template: str
    """Which chat template it is, and why."""


@dataclass(frozen=True, kw_only=True)
class Actions:
    """Functions that take the words of a command, without `mamba-slm`, and start nothing."""

    check_command: Callable[[list[str]], None]
    """Raises what the parser of the command would raise: `["eval", "runs/a", "--suite", "quick"]`."""

    plan_training: Callable[[list[str]], dict[str, Any]]
    """The words after `train`; gives settings, model and estimate, or raises what the command would."""

    scores_of: Callable[[Mapping[str, Any]], list[dict[str, Any]]]
    """The fields of a results.json, without samples; gives a row for each benchmark: metric, value, interval."""

    differences_of: Callable[[Path, Path], list[dict[str, Any]]]
    """Two results.json; gives second - first for each benchmark of both, paired by question."""

    check_server: Callable[[list[str]], None]
    """The words after `serve`; raises what the command would before it loads the model."""

    api_keys: Callable[[list[str]], Any]
    """Does what the words after `api-keys` say; gives the new key, the list without secrets, or None."""
    plan_tuning: Callable[[list[str], bool], dict[str, Any]]
    """The words of `finetune` or `align`, and whether to look at the data; gives settings, reach, steps and memory."""

    example_of_tuning: Callable[[list[str], int], dict[str, Any]]
    """The words of `finetune` or `align`, and a number; gives that example as it is learned."""

    encode_conversation: Callable[[Conversation, Path, str], TunedTokens]
    """A conversation, the model folder or vocabulary, and what is learned: "answers", "last-answer" or "all"."""

    plan_quantization: Callable[[list[str], ModelConfig, Mapping[str, Any] | None], dict[str, Any]]
    """The words after `quantize`, the model, and what its config.json says of formats it was trained for; gives bytes,
    method and parts, or raises what the command would before it reads weights."""
