"""From the form of a tokenization to its command lines."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mamba_slm.core.errors import ConfigError
from mamba_slm.dashboard.fields import texts_of
from mamba_slm.dashboard.forms_data import plain


@dataclass(frozen=True, kw_only=True)
class TokenizeForm:
    """`mamba-slm data tokenize`, and before it `data train-tokenizer` where there is no tokenizer yet."""

    inputs: str
    """Files or folders with text, one in each line."""
    tokenizer: str = ""
    """Empty trains one on the text, beside the tokens."""
    vocab_size: str = "4096"
    """Of a tokenizer that is trained."""
    out: str = ""
    key: str = ""
    """Of the text in records."""
    validation_share: str = ""
    """Of documents that are held out; empty is the command's own."""
    skips_bad: str = ""
    """"yes" leaves out what cannot be read."""

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> TokenizeForm:
        """The form in a request."""
        return cls(**{"inputs": "", **texts_of(body, tuple(cls.__dataclass_fields__))})

    @property
    def trained(self) -> str | None:
        """Where a tokenizer that is trained goes; None where there is one."""
        return None if self.tokenizer else f"{plain(self.out, 'the folder for the tokens')}-tokenizer"

    def reading(self) -> list[str]:
        """The text, and how it is read.

        Raises:
            ConfigError: there is none.
        """
        lines = [line.strip() for line in self.inputs.splitlines() if line.strip()]
        if not lines:
            raise ConfigError("there is no text yet", hint="give a file or a folder with text")
        words = [plain(line, "the text") for line in lines]
        words += [f"--text-key={self.key}"] if self.key else []
        return [*words, "--on-error=skip"] if self.skips_bad == "yes" else words

    def words(self) -> list[str]:
        """The command that makes tokens."""
        share = [f"--validation-share={self.validation_share}"] if self.validation_share else []
        tokenizer = self.trained or plain(self.tokenizer, "the tokenizer")
        out = plain(self.out, "the folder for the tokens")
        return ["mamba-slm", "data", "tokenize", *self.reading(), "--tokenizer", tokenizer, "--out", out, *share]

    def tokenizer_words(self) -> list[str] | None:
        """The command that trains the tokenizer before; None where there is one."""
        if self.trained is None:
            return None
        size = [f"--vocab-size={self.vocab_size}"] if self.vocab_size else []
        return ["mamba-slm", "data", "train-tokenizer", *self.reading(), "--out", self.trained, *size]
