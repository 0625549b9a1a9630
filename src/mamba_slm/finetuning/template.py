"""Which chat template a model is tuned with: its own, ChatML, or one from a file, and the tokens that it needs."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import tokenizers

from mamba_slm.core.errors import ConfigError, DataError
from mamba_slm.core.files import write_text_atomic
from mamba_slm.text.chat import CHATML_TEMPLATE, render_chat_text
from mamba_slm.text.chat_template import read_chat_template
from mamba_slm.text.tokenizer import Tokenizer

AUTO, CHATML = "auto", "chatml"
TEMPLATE_FILE = "chat_template.jinja"
SPECIAL_NAME = re.compile(r"<\|[^<>|\s]{1,40}\|>")
"""What is written like a special token."""
EXCHANGE = ({"role": "user", "content": "a"}, {"role": "assistant", "content": "b"})
LARGEST_FILE_BYTES = 400_000


@dataclass(frozen=True, kw_only=True)
class ChosenTemplate:
    """A template and a tokenizer that has its tokens."""

    text: str
    """Jinja."""
    tokenizer: Tokenizer
    """The one of the model, with `added_tokens`."""
    reason: str
    """What it is and why it was chosen."""
    added_tokens: tuple[str, ...] = ()
    """Special tokens that the tokenizer did not have."""

    def save(self, folder: Path) -> None:
        """Write the template and the tokenizer into a model folder, where `chat` and transformers find them."""
        write_text_atomic(folder / TEMPLATE_FILE, self.text)
        self.tokenizer.save(folder)

    def __str__(self) -> str:
        added = f"; special tokens added: {', '.join(self.added_tokens)}" if self.added_tokens else ""
        return f"chat template: {self.reason}{added}"


def choose_template(folder: Path, tokenizer: Tokenizer, name: str = AUTO) -> ChosenTemplate:
    """The template for tuning a model.

    Args:
        folder: of the model.
        tokenizer: the model's.
        name: "auto": the model's own, or ChatML where it has none; "chatml"; or a file with a template.

    Raises:
        ConfigError: no such file.
        DataError: a template that cannot be read or rendered.
    """
    if name == AUTO:
        own = read_chat_template(folder)
        if own is not None:
            return with_tokens(own, tokenizer, f"the model's own, from {folder}")
        return with_tokens(CHATML_TEMPLATE, tokenizer, "ChatML, for the model has none")
    if name == CHATML:
        return with_tokens(CHATML_TEMPLATE, tokenizer, "ChatML, as asked for")
    path = Path(name)
    if not path.is_file():
        raise ConfigError(
            f"there is no chat template {name!r}", hint="--template auto, --template chatml, or a file with Jinja text"
        )
    try:
        content = path.read_bytes()[: LARGEST_FILE_BYTES + 1]
        text = content.decode()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read: {error}", hint="give a template as UTF-8 text") from error
    return with_tokens(text, tokenizer, f"from {path}")


def with_tokens(text: str, tokenizer: Tokenizer, reason: str) -> ChosenTemplate:
    """The template with a tokenizer that has every special token that it writes around messages.

    Raises:
        DataError: it cannot be rendered.
    """
    rendered = render_chat_text(EXCHANGE, template=text) + render_chat_text(
        EXCHANGE[:1], template=text, add_generation_prompt=True
    )
    written = dict.fromkeys(SPECIAL_NAME.findall(rendered))
    missing = tuple(name for name in written if tokenizer.first_id_of([name]) is None)
    return ChosenTemplate(
        text=text,
        tokenizer=with_special_tokens(tokenizer, missing) if missing else tokenizer,
        reason=reason,
        added_tokens=missing,
    )


def with_special_tokens(tokenizer: Tokenizer, names: tuple[str, ...]) -> Tokenizer:
    """A copy of the tokenizer with further special tokens; new ids come after all others."""
    backend = tokenizers.Tokenizer.from_str(tokenizer.backend.to_str())
    backend.add_special_tokens([tokenizers.AddedToken(name, special=True, normalized=False) for name in names])
    return Tokenizer(backend)
