"""From the forms of the Rate page to the `mamba-slm prefs …` that does it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mamba_slm.core.errors import ConfigError
from mamba_slm.dashboard.fields import argument, texts_of
from mamba_slm.runs.preferences.store import folder_of

FLAGS = {
    "limit": "--limit",
    "max_new_tokens": "--max-new-tokens",
    "temperature": "--temperature",
    "top_p": "--top-p",
    "seed": "--seed",
}
TEXTS = ("kind", "name", "models", "prompts", "file", "unrated", *FLAGS)
KINDS = ("answer", "import")


@dataclass(frozen=True, kw_only=True)
class SetForm:
    """Where the pairs of a set come from: models that answer prompts, or a file; every field is a text."""

    kind: str
    """answer or import."""
    name: str
    """Of the set."""
    models: str = ""
    """One in each line, two at most; one alone answers twice."""
    prompts: str = ""
    """A file."""
    file: str = ""
    """Of pairs."""
    unrated: str = ""
    """yes: what a file says is better does not count, so that it is rated without bias."""
    limit: str = ""
    max_new_tokens: str = ""
    temperature: str = ""
    top_p: str = ""
    seed: str = ""

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> SetForm:
        """The form in a request.

        Raises:
            ConfigError: a field is unknown, no text or too long.
        """
        given = {"kind": "answer", "name": "", **texts_of(body, TEXTS)}
        if given["kind"] not in KINDS:
            raise ConfigError(f"{given['kind'][:40]!r} is not a way to get pairs")
        return cls(**given)

    def words(self, home: Path) -> list[str]:
        """The whole command.

        Args:
            home: where the set goes.

        Raises:
            ConfigError: what is missing, or a name that is no folder's.
        """
        folder_of(argument(self.name, "the name of the set"), home)
        where = ["--home", str(home.resolve())]
        if self.kind == "import":
            words = ["mamba-slm", "prefs", "import", argument(self.file, "the file of pairs"), "--name", self.name]
            limit = ["--limit", self.limit] if self.limit else []
            return [*words, *limit, *(["--unrated"] if self.unrated == "yes" else []), *where]
        models = [line.strip() for line in self.models.splitlines() if line.strip()]
        if len(models) > 2:
            raise ConfigError(f"two models at most, got {len(models)}", hint="compare the others in sets of their own")
        if not models:
            raise ConfigError("which model shall answer?", hint="a run, a checkpoint or a model folder")
        words = ["mamba-slm", "prefs", "rate", self.name]
        for model in models:
            words += ["--model", argument(model, "the model")]
        words += ["--prompts", argument(self.prompts, "the file of prompts")]
        for key, flag in FLAGS.items():
            if text := getattr(self, key):
                words += [flag, text]
        return [*words, "--prepare", *where]
