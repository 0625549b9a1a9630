"""The same function in a shape that other formats hold: a feed-forward after every mixer, a vocabulary in eights.

A layer without a feed-forward gets one of zeros, which adds nothing to the residual stream, bit for bit.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from mamba_slm.core.errors import ConfigError
from mamba_slm.core.units import format_count
from mamba_slm.model.config import ModelConfig
from mamba_slm.model.count import count_parameters, forward_flops_per_token
from mamba_slm.model.granite import require_expressible
from mamba_slm.model.pattern import FEED_FORWARD, is_portable_pattern
from mamba_slm.model.stack import LanguageModel

VOCABULARY_MULTIPLE = 8
FEED_FORWARD_TENSORS = ("norm.weight", "mixer.gate_up_proj.weight", "mixer.down_proj.weight")


@dataclass(frozen=True, kw_only=True)
class ZeroFeedForwards:
    """What the feed-forwards of zeros cost."""

    count: int
    parameters: int
    parameter_share: float
    """Of the exported model's parameters, in [0, 1]."""
    flop_share: float
    """Of the exported model's work for a token, averaged over a full context, in [0, 1]."""

    def __str__(self) -> str:
        return (
            f"{self.count} layers without a feed-forward get one of zeros: the same function, but "
            f"{format_count(self.parameters)} dead parameters ({self.parameter_share:.0%} of the file) and "
            f"{self.flop_share:.0%} of the work per token for nothing"
        )


def require_portable(config: ModelConfig, *, pad_vocabulary: bool = False) -> ModelConfig:
    """The config of the model as it will be exported.

    Raises:
        ConfigError: a GraniteMoeHybrid cannot hold this model even so; names the setting.
    """
    if config.vocab_size % VOCABULARY_MULTIPLE and not pad_vocabulary:
        raise ConfigError(
            f"vocab_size {config.vocab_size} is not a multiple of {VOCABULARY_MULTIPLE}",
            hint="--pad-vocabulary adds tokens that do not exist, with embeddings of zeros",
        )
    padded = -(-config.vocab_size // VOCABULARY_MULTIPLE) * VOCABULARY_MULTIPLE
    config = replace(config, vocab_size=padded)
    if "--" not in config.pattern and not config.pattern.startswith(FEED_FORWARD):
        config = replace(config, pattern=with_feed_forwards(config.pattern))
    require_expressible(config)
    return config


def with_feed_forwards(pattern: str) -> str:
    """A feed-forward after every mixer that has none.

    >>> with_feed_forwards("MM*-")
    'M-M-*-'
    """
    return "".join(f"{kind}{FEED_FORWARD}" for kind in pattern if kind != FEED_FORWARD)


def zero_feed_forwards(config: ModelConfig) -> ZeroFeedForwards | None:
    """What making a model portable adds; None where every mixer has a feed-forward already."""
    if is_portable_pattern(config.pattern):
        return None
    portable = replace(config, pattern=with_feed_forwards(config.pattern))
    before, after = (count_parameters(each).total for each in (config, portable))
    flops = [forward_flops_per_token(each, config.max_context_tokens) for each in (config, portable)]
    return ZeroFeedForwards(
        count=portable.num_feed_forward - config.num_feed_forward,
        parameters=after - before,
        parameter_share=1 - before / after,
        flop_share=1 - flops[0] / flops[1],
    )


def make_portable(model: LanguageModel, *, pad_vocabulary: bool = False) -> LanguageModel:
    """The same model with feed-forwards of zeros where there were none; shares the tensors that do not change.

    Raises:
        ConfigError: as `require_portable`.
    """
    config = require_portable(model.config, pad_vocabulary=pad_vocabulary)
    if config == model.config:
        return model
    return with_tensors(config, dict(portable_tensors(model.state_dict(), model.config, config)))


def portable_tensors(
    tensors: Mapping[str, Tensor], config: ModelConfig, portable: ModelConfig
) -> Iterator[tuple[str, Tensor]]:
    """Name and tensor of the portable model."""
    places = new_places(config.pattern)
    for name, tensor in tensors.items():
        head, _, rest = name.partition(".")
        if head == "sublayers":
            index, _, rest = rest.partition(".")
            yield f"sublayers.{places[int(index)]}.{rest}", tensor
        elif name in ("embedding.weight", "lm_head.weight"):
            yield name, F.pad(tensor, (0, 0, 0, portable.vocab_size - config.vocab_size))
        else:
            yield name, tensor
    d, f = config.hidden_size, config.feed_forward_size
    for index in sorted(set(range(len(portable.pattern))) - set(places)):
        yield f"sublayers.{index}.norm.weight", torch.ones(d)
        yield f"sublayers.{index}.mixer.gate_up_proj.weight", torch.zeros(2 * f, d)
        yield f"sublayers.{index}.mixer.down_proj.weight", torch.zeros(d, f)


def new_places(pattern: str) -> list[int]:
    """Index of each sublayer in `with_feed_forwards(pattern)`."""
    places: list[int] = []
    for kind in pattern:
        last = places[-1] if places else -1
        places.append(last + 1 if kind == FEED_FORWARD else 2 * (last // 2 + 1) if places else 0)
    return places


def without_zero_feed_forwards(
    tensors: Mapping[str, Tensor], config: ModelConfig
) -> tuple[ModelConfig, dict[str, Tensor]]:
    """The way back: leave out feed-forwards of zeros. They compute nothing, and no gradient would ever reach them."""
    kept = [
        index
        for index, kind in enumerate(config.pattern)
        if kind != FEED_FORWARD or any(tensors[f"sublayers.{index}.{name}"].any() for name in FEED_FORWARD_TENSORS[1:])
    ]
    places = {index: place for place, index in enumerate(kept)}
    found: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        head, _, rest = name.partition(".")
        if head != "sublayers":
            found[name] = tensor
            continue
        index, _, rest = rest.partition(".")
        if int(index) in places:
            found[f"sublayers.{places[int(index)]}.{rest}"] = tensor
    return replace(config, pattern="".join(config.pattern[index] for index in kept)), found


def with_tensors(config: ModelConfig, tensors: Mapping[str, Tensor]) -> LanguageModel:
    """A model made of these tensors, which it shares, in evaluation mode."""
    with torch.device("meta"):
        model = LanguageModel(config)
    model.load_state_dict(dict(tensors), assign=True)
    return model.eval()
