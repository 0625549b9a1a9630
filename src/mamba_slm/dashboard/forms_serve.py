"""From the form of a server to `mamba-slm serve …`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mamba_slm.core.errors import ConfigError
from mamba_slm.dashboard.fields import MOST_CHARACTERS, further, texts_of

FLAGS = {
    "weights": "--weights",
    "runtime": "--runtime",
    "context_tokens": "--context-tokens",
    "max_running": "--max-running",
    "kv_tokens": "--kv-tokens",
    "prefix_cache_bytes": "--prefix-cache-bytes",
    "prefix_cache_dir": "--prefix-cache-dir",
    "adapter_dir": "--adapter-dir",
    "prompt_lookup": "--prompt-lookup",
    "port": "--port",
    "host": "--host",
    "name": "--name",
    "api_keys": "--api-keys",
    "requests_per_minute": "--requests-per-minute",
}
TEXTS = ("model", "more", *FLAGS)
NOT_HERE = ("-h", "--help", "--debug")


@dataclass(frozen=True, kw_only=True)
class ServeForm:
    """The form of a server; every field is the text that stands in it."""

    model: str
    """Run directory, checkpoint or model folder."""
    flags: Mapping[str, str] = field(default_factory=dict)
    """The keys of `FLAGS`; what is empty is left to the command."""
    more: str = ""
    """Further flags, as a terminal takes them."""

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> ServeForm:
        """The form in a request.

        Raises:
            ConfigError: a field is unknown, no text or too long.
        """
        given = {key: text for key, text in texts_of(body, TEXTS).items() if text}
        flags = {key: given[key] for key in FLAGS if key in given}
        return cls(model=given.get("model", ""), more=given.get("more", ""), flags=flags)

    def words(self) -> list[str]:
        """The command, from `mamba-slm serve` on.

        Raises:
            ConfigError: there is no model, or the further flags are not written as a terminal takes them.
        """
        if not self.model:
            raise ConfigError("which model?", hint="choose a run, or type the path of a model folder")
        if self.model.startswith("-"):
            raise ConfigError(f"{self.model!r} is no path", hint=f"write ./{self.model}")
        words = ["mamba-slm", "serve", self.model]
        for key, text in self.flags.items():
            words += [f"{FLAGS[key]}={text}"] if text.startswith("-") else [FLAGS[key], text]
        return [*words, *further(self.more, refused=NOT_HERE)]


KEY_TEXTS = ("file", "name", "role", "requests_per_minute", "tokens_per_minute")
ROLES = ("user", "admin", "metrics")


def key_words(what: str, body: Mapping[str, Any]) -> list[str]:
    """From the form of keys to the words after `mamba-slm api-keys`.

    Args:
        what: list, add or remove.

    Raises:
        ConfigError: it says something else, or a field is unknown, no text or too long.
    """
    if what not in ("list", "add", "remove"):
        raise ConfigError(f"keys are listed, added and removed, not {what[:40]!r}")
    for key, value in body.items():
        if key not in KEY_TEXTS or not isinstance(value, str) or len(value) > MOST_CHARACTERS or "\0" in value:
            raise ConfigError(f"{key[:40]!r} is no field of this form, or no text")
    given = {key: text for key in KEY_TEXTS if (text := body.get(key, "").strip())}
    words = [what, f"--file={given.get('file', 'api-keys.json')}"]
    if what == "list":
        return words
    if what == "add":
        role = given.get("role", "user")
        if role not in ROLES:
            raise ConfigError(f"{role[:40]!r} is no role", hint=f"one of {', '.join(ROLES)}")
        words += [f"--{role}"] if role != "user" else []
        for key in ("requests_per_minute", "tokens_per_minute"):
            words += [f"--{key.replace('_', '-')}={given[key]}"] if key in given else []
    if not given.get("name"):
        raise ConfigError("whose key?", hint="give it a name")
    return [*words, "--", given["name"]]
