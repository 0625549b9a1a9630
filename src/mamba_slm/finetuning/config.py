"""All settings of a fine-tuning. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mamba_slm.core.errors import ConfigError
from mamba_slm.finetuning.tuning_config import TuningConfig
from mamba_slm.training.rounding_plan import rounding_plan

RATES = {"lora": 2e-4, "qlora": 2e-4, "full": 2e-5}
"""Method -> the peak of the learning rate for a model of 1.3B parameters; smaller models take more."""
LARGEST_RATE = 3e-3


@dataclass(frozen=True, kw_only=True)
class FinetuneConfig(TuningConfig):
    """What `mamba-slm finetune` can be told."""

    data: tuple[str, ...] = ()
    """Conversations or texts: a file, a folder, or a data set on the hub as OWNER/NAME; several are put together."""

    form: str | None = None
    """How the records are written: messages, sharegpt, ultrachat, alpaca, prompt-completion, openassistant, text, …
    Unset: told by the records."""

    validation: str | None = None
    """Held-out examples: a file, folder or data set. Unset: some of `data`, chosen by the hash of their content."""

    validation_tokens: int = 65_536
    """At most this many tokens per validation, the same ones every time."""

    train_on: Literal["answers", "last-answer", "all"] = "answers"
    """What is learned: all answers with the tokens that end them, the last answer only, or every token."""

    context_tokens: int | None = None
    """Most tokens of an example, and length of a packed row. Unset: the model's context, at most 1024."""

    packing: bool = True
    """Put several examples into a row, kept apart in attention, convolution and scan; without it rows are padded."""

    epochs: float = 2.0
    """Passes over the data, unless max_steps ends the run before."""

    batch_tokens: int = 8192
    """Tokens of an optimiser step, about: whole rows."""

    optimizer: Literal["adamw", "adamw8bit", "muon"] = "adamw"
    """adamw8bit: moments of a byte instead of four (extra bnb). muon: for matrices, with --method full."""

    qat: Literal["int8", "int4", "nf4", "fp4", "int8-dynamic", "mixed"] | None = None
    """With --method full: round all matrices in every pass, as `quantize --to` of the same name will. Unset: none."""

    def __post_init__(self) -> None:
        TuningConfig.__post_init__(self)
        self.require_at_least({"context_tokens": 2, "batch_tokens": 1, "validation_tokens": 1})
        if self.qat is not None:
            if self.method != "full":
                raise ConfigError(
                    f"qat rounds weights that are trained, and --method {self.method} trains none of them",
                    hint="use --method full with it, or --method qlora for a base of 4 bits",
                )
            rounding_plan(self.qat, keep=None, block_size=None)
        if self.method == "full" and self.merge:
            raise ConfigError("there is no adapter to merge with --method full", hint="leave out --merge")
        if self.method != "full" and self.optimizer == "muon":
            raise ConfigError("muon makes updates of full rank, and an adapter has none", hint="use --optimizer adamw")

    def peak_rate(self, parameters: int) -> tuple[float, str]:
        """The peak of the learning rate, and why.

        Args:
            parameters: of the model.

        >>> rate, why = FinetuneConfig(method="lora").peak_rate(10_600_000)
        >>> f"{rate:.1e}, {why}"
        '2.2e-03, lora at 10.6M parameters: 0.0002 · (1.30B / 10.6M)^½'
        """
        return self.scaled_rate(RATES[self.method], self.method, parameters, largest=LARGEST_RATE)
