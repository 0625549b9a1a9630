"""From the form of a fine-tuning or an alignment to the command line that does it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mamba_slm.core.errors import ConfigError
from mamba_slm.dashboard.fields import argument, further, texts_of
from mamba_slm.dashboard.forms import new_folder

METHODS = ("lora", "qlora", "full")
OBJECTIVES = ("dpo", "ipo", "orpo", "simpo", "kto", "grpo", "reward")
FLAGS = {
    "epochs": "--epochs",
    "max_steps": "--max-steps",
    "learning_rate": "--learning-rate",
    "context_tokens": "--context-tokens",
    "validation": "--validation",
    "benchmarks": "--benchmarks",
}
OF_ADAPTERS = {"rank": "--rank", "targets": "--targets"}
OF_FINETUNING = {"train_on": "--train-on", "batch": "--batch-tokens"}
OF_ALIGNMENT = {"beta": "--beta", "batch": "--batch-examples"}
SETTINGS = tuple(dict.fromkeys((*FLAGS, *OF_ADAPTERS, *OF_FINETUNING, *OF_ALIGNMENT)))
TEXTS = ("task", "method", "model", "data", "reward", "name", "more", *SETTINGS)
NOT_HERE = ("-h", "--help", "--out", "--resume", "--dry-run", "--dry-reward", "--json", "--debug", "--config")


@dataclass(frozen=True, kw_only=True)
class TuneForm:
    """The form of a further training; every field is the text that stands in it."""

    task: str = "finetune"
    """finetune, or an objective of align."""
    method: str = "lora"
    """lora, qlora or full."""
    model: str = ""
    data: str = ""
    """Sources, one in each line."""
    reward: str = ""
    """What grpo rewards, one in each line."""
    name: str = ""
    """Of the run's folder; empty takes date and task."""
    more: str = ""
    """Further flags, as a terminal takes them."""
    settings: Mapping[str, str] = field(default_factory=dict)
    """Of their own: the keys of `SETTINGS`. Those that the task or method has no use for are left out."""

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> TuneForm:
        """The form in a request.

        Raises:
            ConfigError: a field is unknown, no text or too long, or there is no such task or method.
        """
        given = texts_of(body, TEXTS)
        settings = {key: given.pop(key) for key in SETTINGS if key in given}
        form = cls(**given, settings={key: text for key, text in settings.items() if text})
        if form.task not in ("finetune", *OBJECTIVES):
            raise ConfigError(f"{form.task[:40]!r} is not a way to train further")
        if form.method not in METHODS:
            raise ConfigError(f"{form.method[:40]!r} is not a method", hint=f"known: {', '.join(METHODS)}")
        return form

    def words(self) -> list[str]:
        """After `mamba-slm`, without `--out`.

        Raises:
            ConfigError: there is no model, or the further flags are not for this form.
        """
        model = argument(self.model, "the model")
        is_finetuning = self.task == "finetune"
        words = ["finetune", model] if is_finetuning else ["align", model, self.task]
        for source in lines_of(self.data):
            words += ["--data", argument(source, "the data")]
        if self.task == "grpo":
            for reward in lines_of(self.reward):
                words += ["--reward", argument(reward, "the reward")]
        words += ["--method", self.method]
        flags = FLAGS | (OF_FINETUNING if is_finetuning else OF_ALIGNMENT)
        flags |= {} if self.method == "full" else OF_ADAPTERS
        for key, flag in flags.items():
            if text := self.settings.get(key):
                words += [flag, text]
        return [*words, *further(self.more, refused=NOT_HERE)]

    def dry_flags(self) -> list[str]:
        """What makes the command show everything and train nothing; grpo also draws some answers and rewards them."""
        if self.task == "grpo":
            return ["--dry-reward", "8"]
        return ["--dry-run", "--mask-check"] if self.task == "finetune" else ["--dry-run"]

    def folder(self, home: Path) -> Path:
        """Where the run goes.

        Raises:
            ConfigError: the name would leave the home or hide the folder, or is taken.
        """
        return new_folder(home, self.name, self.method if self.task == "finetune" else self.task)


def lines_of(text: str) -> list[str]:
    """The lines that say something."""
    return [line.strip() for line in text.splitlines() if line.strip()]
