"""The chat template in a model folder."""

from __future__ import annotations

import json
from pathlib import Path

from mamba_slm.core.errors import DataError


def read_chat_template(folder: Path) -> str | None:
    """The Jinja text of a model folder: `chat_template.jinja`, else `chat_template` in `tokenizer_config.json`.

    These are the two places where transformers keeps it. None where neither is.

    Raises:
        DataError: a file that cannot be read.
    """
    text_file, config_file = folder / "chat_template.jinja", folder / "tokenizer_config.json"
    path = text_file if text_file.is_file() else config_file
    try:
        if path == text_file:
            return path.read_text(encoding="utf-8")
        template = json.loads(path.read_text(encoding="utf-8")).get("chat_template") if path.is_file() else None
    except (OSError, ValueError, AttributeError) as error:  # ValueError: not UTF-8 or not JSON
        raise DataError(
            f"{path} cannot be read: {error}", hint="copy it again from where the model came from"
        ) from error
    if template is not None and not isinstance(template, str):
        raise DataError(f"{path}: chat_template is not text", hint="put the template into chat_template.jinja")
    return template
