"""From the form of an evaluation to the command that measures."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mamba_slm.core.errors import ConfigError
from mamba_slm.dashboard.fields import further, texts_of
from mamba_slm.dashboard.forms_models import name_of

KINDS = {
    "questions": "questions of benchmarks",
    "texts": "perplexity and bits per byte of texts",
    "probe": "finding again in long texts",
    "speed": "speed of reading and writing",
}
FOLDER = "evaluations"
"""Below the first home."""
NOT_HERE = ("-h", "--help", "--out", "--json", "--html", "--debug", "--resume", "--task", "--perplexity")


@dataclass(frozen=True, kw_only=True)
class EvaluateForm:
    """Every field is the text that stands in it."""

    model: str = ""
    """Run, checkpoint or model folder, as a terminal takes it."""
    what: str = "questions"
    """One of `KINDS`."""
    benchmarks: str = ""
    """Names between commas."""
    data_dir: str = ""
    """Local copies of the questions."""
    limit: str = ""
    """Questions of each benchmark."""
    num_fewshot: str = ""
    """Examples before each question."""
    chat: str = ""
    """`on`: through the model's chat template."""
    baseline: str = ""
    """Folder of earlier results to compare with."""
    texts: str = ""
    """Files or folders, one in each line."""
    by_position: str = ""
    """`on`: also the losses by the place in a window; needs a text longer than one."""
    lengths: str = ""
    """Tokens, between commas: of long texts, or of prompts."""
    times: str = ""
    """How often each is measured."""
    name: str = ""
    """Of the folder for the results; empty takes that of the model."""
    more: str = ""
    """Further flags, as a terminal takes them."""

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> EvaluateForm:
        """The form in a request.

        Raises:
            ConfigError: a field is unknown, no text or too long.
        """
        form = cls(**texts_of(body, tuple(cls.__dataclass_fields__)))
        if form.what not in KINDS:
            raise ConfigError(f"{form.what[:40]!r} cannot be measured", hint=f"one of {', '.join(KINDS)}")
        return form

    def words(self, home: Path) -> list[str]:
        """The command, from `mamba-slm` on; what it writes goes into a folder of its own below `home`.

        Raises:
            ConfigError: something that it needs is missing, or a further flag is not for this form.
        """
        if not self.model:
            raise ConfigError("no model was chosen", hint="choose a run, or give the path of a model folder")
        if self.model.startswith("-") or self.model == "compare":
            raise ConfigError(f"{self.model[:60]!r} is not a model")
        out = self.folder(home)
        return ["mamba-slm", *self.measuring(out), *further(self.more, refused=NOT_HERE)]

    def measuring(self, out: Path) -> list[str]:
        """The words of what is measured."""
        if self.what == "probe":
            words = ["probe", self.model, *flag("--lengths", self.lengths), *flag("--times", self.times)]
            return [*words, "--out", str(out / "probe.json")]
        words = ["eval", self.model]
        if self.what == "texts":
            texts = [line.strip() for line in self.texts.splitlines() if line.strip()]
            if not texts:
                raise ConfigError("no text was given", hint="name a file or a folder with text, one in each line")
            words += [word for text in texts for word in ("--perplexity", text)]
            words += ["--by-position"] if self.by_position == "on" else []
        elif self.what == "speed":
            words += ["--task", "benchmark", *flag("--lengths", self.lengths), *flag("--num-runs", self.times)]
        else:
            if not self.benchmarks:
                raise ConfigError("no benchmark was chosen", hint="tick some, or choose a suite")
            words += ["--benchmarks", self.benchmarks, *flag("--data-dir", self.data_dir)]
            words += [*flag("--limit", self.limit), *flag("--num-fewshot", self.num_fewshot)]
            words += ["--chat"] if self.chat == "on" else []
            words += flag("--baseline", self.baseline)
        return [*words, "--out", str(out)]

    def folder(self, home: Path) -> Path:
        """Where the results go: the name that was given, else that of the model, with a number when that is taken.

        Raises:
            ConfigError: the name would leave the folder or hide in it, or is taken.
        """
        parent = home / FOLDER
        name = self.name or name_of(self.model)[:80]
        if not re.fullmatch(r"\w[\w.+-]{0,99}", name):
            raise ConfigError(
                f"{name[:60]!r} is not a usable name",
                hint="use at most 100 letters, digits, - _ . +, and a letter or digit first",
            )
        if self.name:
            if (parent / name).exists():
                raise ConfigError(f"there is an evaluation {name!r} already", hint="choose another name")
            return parent / name
        number = 1
        while (parent / (found := name if number == 1 else f"{name}-{number}")).exists():
            number += 1
        return parent / found


def flag(name: str, text: str) -> list[str]:
    """A flag with its value, nothing without one.

    >>> flag("--limit", "100"), flag("--limit", "")
    (['--limit', '100'], [])
    """
    return [name, text] if text else []
